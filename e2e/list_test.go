package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// TestPages: a long list comes in pages, nothing missing and nothing twice, and a cursor is its owner's.
func TestPages(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{Tools: 2500})
	w := start(t, guide, behind("many", h.URL))
	legacy, modern := w.developers()
	bob := &caller{w: w, token: w.token("bob", "mcp-developers")}
	for _, c := range []*caller{legacy, modern} {
		got := c.list(t, "tools")
		slices.Sort(got)
		if n := len(slices.Compact(slices.Clone(got))); n != len(got) || n != 19+2500+5 {
			t.Errorf("%d tools are listed, %d different ones", len(got), n)
		}
		var page struct{ NextCursor json.RawMessage }
		if err := json.Unmarshal(c.ask(t, "tools/list", "", "").reply().Result, &page); err != nil || page.NextCursor == nil {
			t.Fatalf("no cursor: %v", err)
		}
		cursor := string(page.NextCursor)
		for who, a := range map[string]answer{
			"bob":           bob.ask(t, "tools/list", `"cursor":`+cursor, ""),
			"another list":  c.ask(t, "prompts/list", `"cursor":`+cursor, ""),
			"another text":  c.ask(t, "tools/list", `"cursor":"`+strings.Trim(cursor, `"`)+`x"`, ""),
			"another type":  c.ask(t, "tools/list", `"cursor":7`, ""),
			"an empty text": c.ask(t, "tools/list", `"cursor":""`, ""),
		} {
			if a.code() != mcpwire.CodeInvalidParams {
				t.Errorf("%s with the cursor: %d %.200s, want -32602", who, a.status, a.body)
			}
		}
	}
}

// TestAnonymous: without sign-in, on this machine only, policies decide all the same, and pages of other sites stay out.
func TestAnonymous(t *testing.T) {
	w := start(t, guide, policies(`permit(principal == Client::"anonymous", action == Action::"call_tool", resource == Tool::"get_pods");`),
		func(docs string) string {
			head, rest, ok := strings.Cut(docs, "    type: oidc\n")
			_, tail, ok2 := strings.Cut(rest, "    authzConfig:\n")
			if !ok || !ok2 {
				t.Fatal("the documents have no oidc to take away")
			}
			return head + "    type: anonymous\n    authzConfig:\n" + tail
		})
	for _, c := range []*caller{{w: w}, {w: w, modern: true}, {w: w, token: "whatever"}} {
		if got := c.list(t, "tools"); !slices.Equal(got, []string{allowedTool}) {
			t.Errorf("listed are %q", got)
		}
		if a := c.call(t, allowedTool, `{"namespace":"shop"}`); !a.ok() {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := c.call(t, forbiddenTool, `{"namespace":"staging"}`); !denied(a, mcpwire.ItemTool, forbiddenTool) {
			t.Errorf("%d %s", a.status, a.body)
		}
		r := c.message("tools/call", `"name":"`+allowedTool+`","arguments":{"namespace":"shop"}`, allowedTool)
		if r.header == nil {
			r.header = http.Header{}
		}
		r.header.Set("Origin", "https://evil.example")
		if a := w.send(t, r); a.status != 403 {
			t.Errorf("from a foreign page: %d %s", a.status, a.body)
		}
	}
	if got := w.calls(t, "kubernetes-backend"); slices.Contains(got, "delete_namespace") || len(got) != 3 {
		t.Errorf("the backend was asked for %q", got)
	}
}
