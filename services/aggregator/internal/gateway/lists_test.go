package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

// page is a list answer.
type page struct {
	Result struct {
		Tools, Prompts, Resources, ResourceTemplates []struct{ Name, URI, URITemplate string }
		NextCursor                                   string
		ResultType                                   string
	}
	Error struct{ Code int }
}

func names(t testing.TB, a answer) ([]string, string) {
	t.Helper()
	var p page
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 200 || p.Error.Code != 0 {
		t.Fatalf("no list: %d %s", a.status, a.body)
	}
	var all []string
	for _, part := range [][]struct{ Name, URI, URITemplate string }{p.Result.Tools, p.Result.Prompts, p.Result.Resources, p.Result.ResourceTemplates} {
		for _, it := range part {
			name := it.Name
			if it.URI+it.URITemplate != "" {
				name = it.URI + it.URITemplate
			}
			all = append(all, name)
		}
	}
	return all, p.Result.NextCursor
}

// TestLists: the caller's items of each kind, in each era.
func TestLists(t *testing.T) {
	probe := mcptest.NewHTTP(t, mcptest.Options{})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": probe, "b": mcptest.NewHTTP(t, mcptest.Options{})})
	id := w.open(t, "ann", "{}")
	probe.SetFault(mcptest.Fault{Hang: true}) // no list asks a backend
	want := map[string][]string{
		"tools/list":               {"a_echo", "a_elicit", "a_huge", "a_log", "a_progress", "a_wait", "b_echo", "b_elicit", "b_huge", "b_log", "b_progress", "b_wait"},
		"prompts/list":             {"a_greet", "b_greet"},
		"resources/list":           {"test://hello"},
		"resources/templates/list": {"test://items/{id}"},
	}
	for method, want := range want {
		got, next := names(t, w.send(t, legacy(id, "1", method, "")))
		if diff := cmp.Diff(want, got); diff != "" || next != "" {
			t.Errorf("%s, next %q (-want +got):\n%s", method, next, diff)
		}
		a := w.send(t, modern(`"m"`, method, ""))
		got, _ = names(t, a)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("modern %s (-want +got):\n%s", method, diff)
		}
		tail := `],"resultType":"complete","ttlMs":30000,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":` + string(serverInfo) + `}}}`
		if !strings.HasPrefix(a.body, `{"jsonrpc":"2.0","id":"m","result":{`) || !strings.HasSuffix(a.body, tail) {
			t.Errorf("modern %s: %s", method, a.body)
		}
	}

	w.judgeBy(func(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		if r.CatalogDigest != w.inv.Catalog().Digest || len(r.Names) != 0 || r.Kind != gatewayv1.ItemKind_ITEM_KIND_TOOL {
			t.Errorf("authz is asked %v", r)
		}
		return &gatewayv1.PermittedResponse{Indexes: []uint32{0, 11}, View: "view-2"}, nil
	})
	a := legacy(id, "1", "tools/list", "")
	a.change = func(d *gatewayv1.Decision) { d.View = "view-2" }
	if got, _ := names(t, w.send(t, a)); !slices.Equal(got, []string{"a_echo", "b_wait"}) {
		t.Errorf("filtered: %q", got)
	}
	w.judgeBy(func(*gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		return &gatewayv1.PermittedResponse{View: "view-3"}, nil
	})
	a.change = func(d *gatewayv1.Decision) { d.View = "view-3" }
	if got := w.send(t, a).body; got != `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}` {
		t.Errorf("nothing permitted: %s", got)
	}
}

// TestCache: one view is judged once, whoever asks; another view, kind, era or catalog anew.
func TestCache(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	var view string // as authz judges now
	w.judgeBy(func(*gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		return &gatewayv1.PermittedResponse{Indexes: []uint32{0}, View: view}, nil
	})
	list := func(caller, method, sealed string) {
		t.Helper()
		a := modern("1", method, "")
		a.caller, a.change = caller, func(d *gatewayv1.Decision) { d.View = sealed }
		if got := w.send(t, a); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	for _, tt := range []struct {
		what, caller, method, sealed, now string
		judged                            bool
	}{
		{"first", "ann", "tools/list", "v1", "v1", true},
		{"again", "ann", "tools/list", "v1", "v1", false},
		{"another caller of the view", "bob", "tools/list", "v1", "v1", false},
		{"another kind", "ann", "prompts/list", "v1", "v1", true},
		{"another view", "ann", "tools/list", "v2", "v2", true},
		{"the first is still there", "ann", "tools/list", "v1", "v1", false},
		{"the view changed since the seal", "ann", "tools/list", "v3", "v4", true},
		{"it was kept under the present one", "ann", "tools/list", "v4", "v4", false},
		{"and not under that of the seal", "ann", "tools/list", "v3", "v4", true},
		{"no view, no cache", "ann", "tools/list", "", "", true},
		{"no view, no cache, again", "ann", "tools/list", "", "", true},
		{"a seal without a view", "ann", "tools/list", "", "v1", true},
	} {
		before := w.judged()
		view = tt.now
		list(tt.caller, tt.method, tt.sealed)
		if got := w.judged() > before; got != tt.judged {
			t.Errorf("%s: judged %v, want %v", tt.what, got, tt.judged)
		}
	}
}

// TestPages: a cursor goes on after the last item of its page, for its caller and list only.
func TestPages(t *testing.T) {
	setFor(t, &pageSize, 3)
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{Tools: 4})})
	id := w.open(t, "ann", "{}")
	list := func(cursor string) ask {
		if cursor == "" {
			return legacy(id, "1", "tools/list", "")
		}
		return legacy(id, "1", "tools/list", `"cursor":"`+cursor+`"`)
	}
	var got, cursors []string
	for cursor := ""; ; {
		page, next := names(t, w.send(t, list(cursor)))
		if len(page) > 3 {
			t.Errorf("a page of %d", len(page))
		}
		got = append(got, page...)
		if next == "" {
			break
		}
		cursors, cursor = append(cursors, next), next
	}
	want := []string{"a_echo", "a_elicit", "a_huge", "a_log", "a_progress", "a_tool_0001", "a_tool_0002", "a_tool_0003", "a_wait"}
	if diff := cmp.Diff(want, got); diff != "" || len(cursors) != 2 {
		t.Errorf("%d cursors, want none after a full last page (-want +got):\n%s", len(cursors), diff)
	}
	// The same page again is in the cache, with a cursor that leads on all the same.
	before := w.judged()
	if page, _ := names(t, w.send(t, list(cursors[0]))); page[0] != "a_log" || w.judged() != before {
		t.Errorf("the second page again: %q", page)
	}
	refused := func(what string, a ask) {
		t.Helper()
		if got := w.send(t, a); got.status != 200 || !strings.Contains(got.body, "-32602") {
			t.Errorf("%s: %d %s, want -32602", what, got.status, got.body)
		}
	}
	another := modern("1", "tools/list", `"cursor":"`+cursors[0]+`"`)
	if page, _ := names(t, w.send(t, another)); page[0] != "a_log" {
		t.Errorf("the same caller without a session: %q", page)
	}
	another.caller = "bob"
	refused("another caller", another)
	refused("another list", legacy(id, "1", "prompts/list", `"cursor":"`+cursors[0]+`"`))
	for _, bad := range []string{`""`, `"x"`, `5`, `[]`, `"` + cursors[0] + `x"`, `"` + id + `"`} {
		refused(bad, legacy(id, "1", "tools/list", `"cursor":`+bad))
	}
	if page, _ := names(t, w.send(t, legacy(id, "1", "tools/list", `"cursor":null`))); page[0] != "a_echo" {
		t.Errorf("cursor null: %q, want the first page", page)
	}
	if strings.Contains(cursors[0], "huge") {
		t.Error("a cursor tells a name")
	}
}

// TestNoDecision: without authz there is no list; the client learns whether it is its token or our fault.
func TestNoDecision(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	for _, tt := range []struct {
		resp   *gatewayv1.PermittedResponse
		err    error
		status int
		code   string
	}{
		{nil, status.Error(codes.Unauthenticated, "secret reason"), 401, "-32600"},
		{nil, status.Error(codes.Unavailable, "secret reason"), 503, "-32603"},
		{nil, fmt.Errorf("secret reason"), 503, "-32603"},
		{&gatewayv1.PermittedResponse{Indexes: []uint32{0, 1000}, View: "view-1"}, nil, 503, "-32603"},
	} {
		w.judgeBy(func(*gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) { return tt.resp, tt.err })
		got := w.send(t, modern("1", "tools/list", ""))
		if got.status != tt.status || !strings.Contains(got.body, tt.code) || strings.Contains(got.body, "secret") {
			t.Errorf("%v: %d %s, want %d %s", tt.err, got.status, got.body, tt.status, tt.code)
		}
	}
	w.judgeBy(nil)
	if got, _ := names(t, w.send(t, modern("1", "tools/list", ""))); len(got) == 0 {
		t.Error("a refusal was kept")
	}
}

// TestCacheBound: rendered pages do not grow without end, and the longest unused goes first.
func TestCacheBound(t *testing.T) {
	l := newLists(nil)
	put := func(view string) {
		l.put(&rendered{key: listKey{view: view}, result: make([]byte, maxListCache/8-pageOverhead)})
	}
	for i := range 8 {
		put(fmt.Sprint(i))
	}
	l.get(listKey{view: "0"})
	put("8")
	if l.get(listKey{view: "0"}) == nil || l.get(listKey{view: "1"}) != nil || l.bytes > maxListCache || len(l.byKey) != 8 {
		t.Errorf("%d pages of %d bytes; the used one is kept: %v", len(l.byKey), l.bytes, l.get(listKey{view: "0"}) != nil)
	}
	l.put(&rendered{key: listKey{view: "huge"}, result: make([]byte, maxListCache/4+1)})
	if l.get(listKey{view: "huge"}) != nil {
		t.Error("a page of a quarter of the cache is kept")
	}
	for i := range maxListCache/pageOverhead + 1000 { // empty pages cost something too
		l.put(&rendered{key: listKey{view: "empty", after: fmt.Sprint(i)}})
	}
	if most := maxListCache / pageOverhead; len(l.byKey) > most || l.order.Len() != len(l.byKey) {
		t.Errorf("%d empty pages are kept, want at most %d", len(l.byKey), most)
	}
}

// TestCatalogChange: a list that is asked for while the catalog changes is that of the new one.
func TestCatalogChange(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	old := w.inv.Catalog().Digest
	w.judgeBy(func(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		if r.CatalogDigest == old {
			w.offer(t, "a", listing([]string{"new"}, nil, nil, nil))
			return nil, status.Error(codes.Unavailable, "unknown catalog digest")
		}
		return &gatewayv1.PermittedResponse{Indexes: []uint32{0}, View: "view-1"}, nil
	})
	if got, _ := names(t, w.send(t, modern("1", "tools/list", ""))); !slices.Equal(got, []string{"a_new"}) {
		t.Errorf("got %q, want the new list", got)
	}
}

func TestDiscover(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	got := w.send(t, modern("1", "server/discover", ""))
	var d struct {
		Result struct {
			ResultType        string
			SupportedVersions []string
			Capabilities      map[string]map[string]bool
		}
	}
	if err := json.Unmarshal([]byte(got.body), &d); err != nil || got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if !cmp.Equal(d.Result.SupportedVersions, mcpwire.SupportedVersions) || !d.Result.Capabilities["tools"]["listChanged"] || d.Result.ResultType != "complete" {
		t.Errorf("%s", got.body)
	}
	if _, ok := d.Result.Capabilities["resources"]["subscribe"]; ok {
		t.Error("2026-07-28 has no resources/subscribe")
	}

	a := modern("1", "tools/list", "")
	a.version, a.body = "2027-01-01", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	got = w.send(t, a)
	want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"this protocol version is not supported","data":{"supported":["2026-07-28","2025-11-25","2025-06-18"],"requested":"2027-01-01"}}}`
	if got.status != 400 || got.body != want {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, verb := range []string{"GET", "DELETE"} {
		if got := w.send(t, ask{verb: verb, version: mcpwire.Version20260728}); got.status != 405 || got.header.Get("Allow") != "POST" {
			t.Errorf("%s: %d, Allow %q", verb, got.status, got.header.Get("Allow"))
		}
	}
	if got := w.send(t, ask{version: mcpwire.Version20260728, body: `{"jsonrpc":"2.0","method":"notifications/x"}`}); got.status != 202 || got.body != "" {
		t.Errorf("notification: %d %s", got.status, got.body)
	}
}
