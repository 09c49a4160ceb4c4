package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"vmcp/internal/stack"
)

// TestDescribeChanges: what changed is seen, and nothing that a server writes steers the terminal or hides.
func TestDescribeChanges(t *testing.T) {
	var b bytes.Buffer
	describeChanges(&b, []stack.ChangedTool{{Backend: "hub", Tool: "x\x1b[2J",
		Approved: json.RawMessage(`{"description":"reads","name":"x"}`),
		Offered:  json.RawMessage(`{"description":"reads ` + "\u202e\u200b\u00a0\u2800" + `é\u001b","name":"x","title":"X"}`)}})
	const want = `server hub, tool x\u{001b}[2J
  {
-   "description": "reads",
-   "name": "x"
+   "description": "reads \u{202e}\u{200b}\u{00a0}\u{2800}é\u001b",
+   "name": "x",
+   "title": "X"
  }
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", &b, want)
	}
	b.Reset()
	describeChanges(&b, nil)
	if !strings.Contains(b.String(), "as they were approved") {
		t.Error(b.String())
	}
}

func TestToolsUsage(t *testing.T) {
	for args, want := range map[string]string{"": "want diff or approve", "show": `"show"`, "approve": "Name a server", "diff a b": "one server, or none"} {
		var out, errs bytes.Buffer
		if status := dispatch(t.Context(), append([]string{"tools"}, strings.Fields(args)...), &out, &errs); status != 2 || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: %d %s", args, status, &errs)
		}
	}
}
