package backend

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/mcptest"
)

func TestList(t *testing.T) {
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern, mcptest.Dual} {
		h := mcptest.NewHTTP(t, mcptest.Options{Era: era, Tools: 1234})
		l, err := startHTTP(t, h.URL).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := []int{len(l.Tools), len(l.Prompts), len(l.Resources), len(l.Templates)}
		if diff := cmp.Diff(got, []int{1239, 1, 1, 1}); diff != "" {
			t.Errorf("era %d: %s", era, diff)
		}
		if !strings.Contains(string(l.Capabilities), "tools") {
			t.Errorf("capabilities %s", l.Capabilities)
		}
		if l.Templates[0].Name != "test://items/{id}" || l.Resources[0].Name != "test://hello" {
			t.Errorf("got %s, %s", l.Templates[0].Name, l.Resources[0].Name)
		}
	}
}

func TestListFidelity(t *testing.T) {
	const def = `{"zz":{"q":[1, 2]},"name":"t\u0031","inputSchema":{"type":"object","maximum":9007199254740993}, "outputSchema":{"type":"array"}}`
	h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[ ` + def + `,{"name":"dup"},{"name":"dup","x":1},{"name":"same"},{"name":"same"},{"noname":1},` +
			`{"name":"bad","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}}],"nextCursor":"again"}}`),
	})
	l, err := startHTTP(t, h.URL).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Tools) != 2 || l.Tools[0].Name != "t1" || string(l.Tools[0].Raw) != def || l.Tools[1].Name != "same" {
		t.Errorf("got %s", l.Tools)
	}
	if n := h.Count("tools/list", ""); n != 2 { // the cursor came again
		t.Errorf("%d pages asked", n)
	}
}

// TestListBound: a list that is too long is refused, also where it comes as one page.
func TestListBound(t *testing.T) {
	for _, test := range []struct {
		name  string
		items string
		good  bool
	}{
		{"as many as may be", strings.Repeat(`{"name":"t"},`, maxItems-1) + `{"name":"t"}`, true},
		{"too many", strings.Repeat(`{"name":"t"},`, maxItems) + `{"name":"t"}`, false},
		{"too long", `{"name":"` + strings.Repeat("t", maxListBytes) + `"}`, false},
	} {
		h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
			"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[` + test.items + `]}}`)})
		if _, err := startHTTP(t, h.URL).List(t.Context()); (err == nil) != test.good || err != nil && !errors.Is(err, ErrInvalidReply) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
