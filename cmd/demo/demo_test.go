package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
)

func asTheGuideSays() map[person]map[string]cell {
	seen := map[person]map[string]cell{}
	for _, p := range people {
		seen[p] = map[string]cell{}
		for _, t := range tools {
			seen[p][t.name] = guideSays(p, t.name)
		}
	}
	return seen
}

// Each cell counts: a wrong one is named with its person and tool.
func TestCompare(t *testing.T) {
	if wrong := compare(asTheGuideSays()); len(wrong) > 0 {
		t.Errorf("wrong where all is right: %q", wrong)
	}
	for _, p := range people {
		for _, tool := range tools {
			right := guideSays(p, tool.name)
			for _, bad := range []cell{{!right.listed, right.call}, {right.listed, "tool error"}, {}} {
				seen := asTheGuideSays()
				seen[p][tool.name] = bad
				wrong := compare(seen)
				if len(wrong) != 1 || !strings.Contains(wrong[0], p.name+" ") || !strings.Contains(wrong[0], tool.name) {
					t.Errorf("%s, %s as %v: %q, want one line about it", p.name, tool.name, bad, wrong)
				}
			}
		}
	}
	seen := asTheGuideSays()
	seen[people[0]]["github-backend_new"] = cell{true, "not called"}
	if wrong := compare(seen); len(wrong) != 1 || !strings.Contains(wrong[0], "github-backend_new") {
		t.Errorf("an unknown tool: %q, want one line about it", wrong)
	}
}

// The lines of the table that README.md shows are lines of it.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(readme), "```text\n")
	shown, _, _ = strings.Cut(shown, "```")
	var table bytes.Buffer
	(&demo{out: &table}).table(asTheGuideSays())
	lines := strings.Split(table.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	for line := range strings.Lines(shown) {
		if line = strings.TrimRight(line, " \n"); line != "…" && !slices.Contains(lines, line) {
			t.Errorf("README.md shows\n%s\nwhich is not in\n%s", line, &table)
		}
	}
	if !strings.Contains(shown, "delete_namespace") {
		t.Errorf("README.md shows no table but %q", shown)
	}
}

// What docs/examples ships loads as it stands.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../docs/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		if _, err := gatewayconfig.Load(gatewayconfig.Source{Paths: []string{file}, Loopback: true}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
