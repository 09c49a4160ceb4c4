package gateway

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vmcp/internal/decision"
	"vmcp/internal/mcptest"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/backend"
)

// get opens a legacy session's stream.
func (w *world) get(t *testing.T, id string, change func(*gatewayv1.Decision)) *events {
	t.Helper()
	s := w.stream(t, ask{verb: "GET", session: id, change: change})
	if got := s.next(t); got != ":" {
		t.Fatalf("the stream begins with %s, want a comment", got)
	}
	return s
}

func listen(id, notifications string) ask {
	return modern(id, "subscriptions/listen", `"notifications":{`+notifications+`}`)
}

const allLists = `"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true`

// offer makes a backend list what a listing says from now on, and waits until the catalog has it.
func (w *world) offer(t *testing.T, name string, l *backend.Listing) {
	t.Helper()
	_, changed := w.inv.Next()
	w.override.Store(name, l)
	w.announce(name)
	wait(t, changed, func(struct{}) bool { return true })
}

func listing(tools, prompts, resources, templates []string) *backend.Listing {
	items := func(names []string, raw func(string) string) (all []backend.Item) {
		for _, n := range names {
			all = append(all, backend.Item{Name: n, Raw: []byte(raw(n))})
		}
		return all
	}
	return &backend.Listing{
		Tools:     items(tools, func(n string) string { return `{"name":"` + n + `","inputSchema":{}}` }),
		Prompts:   items(prompts, func(n string) string { return `{"name":"` + n + `"}` }),
		Resources: items(resources, func(n string) string { return `{"uri":"` + n + `"}` }),
		Templates: items(templates, func(n string) string { return `{"uriTemplate":"` + n + `"}` }),
	}
}

// TestStreamsBound: one principal's streams have a bound, and nobody else's count.
func TestStreamsBound(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	x := exchange{g: w.Gateway, d: &gatewayv1.Decision{Principal: decision.Principal("i", "ann", "c")}}
	var leave func()
	for range maxStreams {
		leave, _ = x.mayFollow()
	}
	get := ask{verb: "GET", session: w.open(t, "ann", "{}")}
	for _, a := range []ask{get, listen("1", allLists)} {
		if got := w.send(t, a); got.status != 429 || !strings.Contains(got.body, "too many streams") {
			t.Errorf("one too many: %d %s", got.status, got.body)
		}
	}
	bob := listen("1", allLists)
	bob.caller = "bob"
	w.stream(t, bob)
	everybody := exchange{g: w.Gateway, d: &gatewayv1.Decision{Principal: decision.Anonymous}}
	for range maxStreams + 1 {
		if _, ok := everybody.mayFollow(); !ok {
			t.Fatal("without sign-in one person's streams are counted as everybody's")
		}
	}
	leave()
	w.stream(t, get)
}

// TestKeepAlive: a quiet stream shows life, and each time authz is asked whether it may go on.
func TestKeepAlive(t *testing.T) {
	setFor(t, &keepAlive, 5*time.Millisecond)
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	streams := map[string]*events{"GET": w.get(t, w.open(t, "ann", "{}"), nil), "listen": w.stream(t, listen("1", allLists))}
	if got := streams["listen"].message(t); !strings.Contains(got, "acknowledged") {
		t.Errorf("listen begins with %s", got)
	}
	// alive reads comments until authz was asked for both streams, some more times.
	alive := func(what string) {
		t.Helper()
		for before := w.judged(); w.judged() < before+8; {
			for name, s := range streams {
				if got := s.next(t); got != ":" {
					t.Fatalf("%s, %s: %s, want a comment", what, name, got)
				}
			}
		}
	}
	alive("permitted")
	// An authz that is away ends nothing.
	w.judgeBy(func(*gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		return nil, status.Error(codes.Unavailable, "away")
	})
	alive("without authz")
	// One that refuses does.
	w.judgeBy(func(*gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		return nil, status.Error(codes.Unauthenticated, "revoked")
	})
	if got := streams["GET"].message(t); got != "end" {
		t.Errorf("GET after a refusal: %s, want its end", got)
	}
	if got := streams["listen"].message(t); !strings.Contains(got, `"result"`) {
		t.Errorf("listen after a refusal: %s, want its result", got)
	}
}

// TestExpiry: streams end with the token.
func TestExpiry(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	soon := func(d *gatewayv1.Decision) { d.ExpiresAt = time.Now().Unix() + 1 }
	get := w.get(t, w.open(t, "ann", "{}"), soon)
	a := listen("1", allLists)
	a.change = soon
	sub := w.stream(t, a)
	sub.message(t)
	if got := get.message(t); got != "end" {
		t.Errorf("GET: %s, want its end", got)
	}
	if got, want := sub.message(t), `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":1}}}`; got != want {
		t.Errorf("listen: %s, want %s", got, want)
	}
	if got := sub.message(t); got != "end" {
		t.Errorf("listen after its result: %s", got)
	}
	// A token without end: anonymous.
	forever := w.get(t, w.open(t, "ann", "{}"), func(d *gatewayv1.Decision) { d.ExpiresAt = 0 })
	w.Stop()
	w.Stop()
	if got := forever.message(t); got != "end" {
		t.Errorf("after Stop: %s, want the end", got)
	}
}

// TestReplaced: of two streams of a session the newer one stays.
func TestReplaced(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	id := w.open(t, "ann", "{}")
	first, other := w.get(t, id, nil), w.get(t, w.open(t, "ann", "{}"), nil)
	second := w.get(t, id, nil)
	if got := first.message(t); got != "end" {
		t.Errorf("the older stream: %s, want its end", got)
	}
	w.offer(t, "a", listing([]string{"new"}, []string{"greet"}, []string{"test://hello"}, []string{"test://items/{id}"}))
	for name, s := range map[string]*events{"the newer": second, "another session's": other} {
		if got := s.message(t); !strings.Contains(got, "tools/list_changed") {
			t.Errorf("%s stream: %s, want list_changed", name, got)
		}
	}
}

// TestDeleteEndsStream: DELETE ends the session's open stream, and with it what is open at the backends.
func TestDeleteEndsStream(t *testing.T) {
	a := newWatched(t, mcptest.Options{Era: mcptest.Legacy})
	w := newWorld(t, map[string]*mcptest.HTTP{"a": a.HTTP})
	id := w.open(t, "ann", "{}")
	if got := w.send(t, legacy(id, "1", "tools/call", toolCall("a_echo"))); !strings.Contains(got.body, `"hi"`) {
		t.Fatal(got)
	}
	s := w.get(t, id, nil)
	if got := w.send(t, ask{verb: "DELETE", session: id}); got.status != 204 {
		t.Errorf("DELETE: %d, want 204", got.status)
	}
	if got := s.message(t); got != "end" {
		t.Errorf("the stream: %s, want its end", got)
	}
	wait(t, a.arrived, is("DELETE"))
}

// TestListChanged: told of the lists that changed, and of no other; of none twice.
func TestListChanged(t *testing.T) {
	setFor(t, &keepAlive, 5*time.Millisecond)
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	// As authz does: the view changes with the catalog, the revision with the policies.
	var revision atomic.Pointer[string]
	one, two := "rev-1", "rev-2"
	revision.Store(&one)
	w.judgeBy(func(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
		return &gatewayv1.PermittedResponse{PolicyRevision: *revision.Load(), View: r.CatalogDigest + *revision.Load()}, nil
	})
	base := func() *backend.Listing {
		return listing([]string{"t"}, []string{"p"}, []string{"r://1"}, []string{"r://{x}"})
	}
	w.offer(t, "a", base())
	get, sub := w.get(t, w.open(t, "ann", "{}"), nil), w.stream(t, listen(`"s"`, allLists))
	some := w.stream(t, listen("2", `"promptsListChanged":true,"toolsListChanged":false`))
	sub.message(t)
	some.message(t)

	// Whatever came too much comes out at the next check, at the latest at the end.
	check := func(what string, s *events, meta string, want ...string) {
		t.Helper()
		for _, kind := range want {
			note := `{"jsonrpc":"2.0","method":"notifications/` + kind + `/list_changed"`
			if meta != "" {
				note += `,"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + meta + `}}`
			}
			if got := s.message(t); got != note+"}" {
				t.Fatalf("%s:\ngot  %s\nwant %s}", what, got, note)
			}
		}
	}
	all := []string{"tools", "prompts", "resources"}
	l := base()
	for _, tt := range []struct {
		what   string
		change func()
		want   []string
	}{
		{"a tool", func() { l.Tools = listing([]string{"t", "u"}, nil, nil, nil).Tools }, []string{"tools"}},
		{"a tool's definition", func() { l.Tools[0].Raw = []byte(`{"name":"t","inputSchema":{},"title":"T"}`) }, []string{"tools"}},
		{"a prompt", func() { l.Prompts = nil }, []string{"prompts"}},
		{"a template", func() { l.Templates = nil }, []string{"resources"}},
		{"instructions", func() { l.Instructions = "new" }, nil},
		{"a resource and a tool", func() { l.Resources = nil; l.Tools = nil }, []string{"tools", "resources"}},
		{"policies", nil, all},
		{"all prompts again", func() { *l = *base(); l.Instructions, l.Tools, l.Resources, l.Templates = "new", nil, nil, nil }, []string{"prompts"}},
	} {
		if tt.change == nil {
			revision.Store(&two)
		} else {
			next := *l
			l = &next
			l.Tools = slices.Clone(l.Tools)
			tt.change()
			w.offer(t, "a", l)
		}
		check("GET, "+tt.what, get, "", tt.want...)
		check("listen, "+tt.what, sub, `"s"`, tt.want...)
		if slices.Contains(tt.want, "prompts") {
			check("listen to prompts, "+tt.what, some, "2", "prompts")
		}
	}
	w.Stop()
	if got := get.message(t); got != "end" {
		t.Errorf("GET: %s, want nothing more", got)
	}
	for _, s := range []*events{sub, some} {
		if got := s.message(t); !strings.Contains(got, `"result"`) {
			t.Errorf("listen: %s, want nothing more", got)
		}
	}
}

// TestListen: the acknowledgement comes first and says what is honoured, under the request's own id.
func TestListen(t *testing.T) {
	w := newWorld(t, map[string]*mcptest.HTTP{"a": mcptest.NewHTTP(t, mcptest.Options{})})
	for _, tt := range []struct{ id, asked, honoured string }{
		{"7", allLists, allLists},
		{`"7"`, `"toolsListChanged":true`, `"toolsListChanged":true`},
		{"-1", ``, ``},
		{`"\u00e9"`, `"resourcesListChanged":true,"toolsListChanged":false,"resourceSubscriptions":["test://hello"],"x":1`, `"resourcesListChanged":true`},
		{"7", `"promptsListChanged":"true"`, ``},
	} {
		s := w.stream(t, listen(tt.id, tt.asked))
		want := `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{` + tt.honoured + `},"_meta":{"io.modelcontextprotocol/subscriptionId":` + tt.id + `}}}`
		if got := s.message(t); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		s.cancel()
	}
	for _, params := range []string{``, `"notifications":true`, `"notifications":{"toolsListChanged":true,"toolsListChanged":true}`} {
		a := modern("1", "subscriptions/listen", params)
		if strings.Count(params, "true") == 2 {
			continue // refused by the parser already
		}
		if got := w.send(t, a); got.status != 400 || !strings.Contains(got.body, "-32602") {
			t.Errorf("%s: %d %s, want 400 -32602", params, got.status, got.body)
		}
	}
}
