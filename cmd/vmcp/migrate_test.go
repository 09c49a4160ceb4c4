package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestMigrate: the text and the JSON say the same, and documents that cannot be run fail.
func TestMigrate(t *testing.T) {
	const docs = "../../internal/gatewayconfig/testdata/migrate/"
	var stdout, stderr bytes.Buffer
	if status := dispatch(t.Context(), []string{"migrate", "-f", docs + "all.yaml"}, &stdout, &stderr); status != 0 || stderr.Len() > 0 {
		t.Errorf("status %d, %s", status, &stderr)
	}
	text := stdout.String()
	stdout.Reset()
	if status := dispatch(t.Context(), []string{"migrate", "-o", "json", docs + "all.yaml"}, &stdout, &stderr); status != 0 {
		t.Errorf("json: status %d, %s", status, &stderr)
	}
	var got struct {
		Same        int
		Differences []struct{ Field, Text, Reason string }
		NotUsed     []struct{ Text string } `json:"not_used"`
		Problems    []any
	}
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil || len(got.Differences) < 10 || len(got.NotUsed) < 3 || got.Problems == nil {
		t.Fatalf("%v in %s", err, &stdout)
	}
	want := 1
	for _, d := range got.Differences {
		want++
		if d.Reason != "" {
			want++
		}
		if !strings.Contains(text, d.Field+": "+d.Text+"\n") {
			t.Errorf("the text lacks %s", d.Field)
		}
	}
	if lines := strings.Count(text, "\n"); lines != want+len(got.NotUsed) {
		t.Errorf("%d lines, want %d:\n%s", lines, want+len(got.NotUsed), text)
	}

	stdout.Reset()
	if status := dispatch(t.Context(), []string{"migrate", docs}, &stdout, &stderr); status != 1 || !strings.Contains(stderr.String(), "error: ") {
		t.Errorf("several gateways: status %d, %s", status, &stderr)
	}
	if status := dispatch(t.Context(), []string{"migrate"}, &stdout, &stderr); status != 2 {
		t.Errorf("no file: status %d", status)
	}
}
