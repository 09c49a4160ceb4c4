package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"vmcp/internal/await"
	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/fleet"
	"vmcp/services/aggregator/internal/inventory"
)

// permissions is authz as a function.
type permissions func(*gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error)

func (p permissions) Permitted(ctx context.Context, r *gatewayv1.PermittedRequest, _ ...grpc.CallOption) (*gatewayv1.PermittedResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return p(r)
}

// world is a gateway behind a real HTTP server, in front of real backends.
type world struct {
	*Gateway
	URL               string
	inv               *inventory.Inventory
	relist            map[string]chan struct{} // asks for a backend's lists
	sealKeys, session *keyring.Ring
	override          sync.Map      // backend → *backend.Listing instead of what it offers
	left              chan struct{} // one for each request whose client went away before it was served

	mu        sync.Mutex
	permitted permissions
	asked     []*gatewayv1.PermittedRequest
}

// newWorld fronts backends by name. It returns when all of them are listed.
func newWorld(t testing.TB, backends map[string]*mcptest.HTTP, change ...func(*Config)) *world {
	t.Helper()
	configs := map[string]backend.Config{}
	for name, h := range backends {
		configs[name] = overHTTP(h.URL)
		defer t.Cleanup(h.Release) // before the world ends, which waits for calls
	}
	w := startWorld(t, configs, change...)
	await.That(t, "all are listed", func() bool {
		return !slices.ContainsFunc(w.inv.Status(), func(s inventory.Status) bool { return s.State != "listed" })
	})
	return w
}

func overHTTP(url string) backend.Config {
	return backend.Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, URL: url}}
}

// startWorld fronts backends by name, and does not wait for them.
func startWorld(t testing.TB, backends map[string]backend.Config, change ...func(*Config)) *world {
	t.Helper()
	w := &world{sealKeys: keyringtest.New(t), session: keyringtest.New(t), relist: map[string]chan struct{}{}, left: make(chan struct{}, 100)}
	cfg := &gatewayconfig.Aggregator{ConflictResolution: "prefix", PrefixFormat: "{workload}_",
		HealthInterval: time.Hour}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	to := map[string]*backend.Backend{}
	var sources []inventory.Source
	for name, config := range backends {
		config.Name, config.ServerInfo = name, ServerInfo()
		if config.Timeout == 0 {
			config.Timeout = 20 * time.Second
		}
		relist := make(chan struct{}, 1)
		b := backend.New(config)
		list := func(ctx context.Context) (*backend.Listing, error) {
			if l, ok := w.override.Load(name); ok {
				return l.(*backend.Listing), nil
			}
			return b.List(ctx)
		}
		to[name], w.relist[name] = b, relist
		sources = append(sources, inventory.Source{Name: name, List: list, Changed: relist, Stdio: config.Transport == gatewayconfig.TransportStdio})
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-b.Changed():
					w.announce(name)
				}
			}
		})
		running.Go(func() { b.Run(ctx) })
	}
	w.inv = inventory.New(cfg, sources, "", zap.NewNop())
	running.Go(func() { w.inv.Run(ctx) })
	c := Config{VirtualServer: "team", SealKeys: w.sealKeys, SessionKeys: w.session,
		Permissions: permissions(w.judge), Inventory: w.inv, Fleet: &still{state: &fleet.State{Aggregator: cfg, Backends: to}}, Log: zap.NewNop()}
	for _, f := range change {
		f(&c)
	}
	w.Gateway = New(c)
	running.Go(func() { w.Gateway.Run(ctx) })
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		stop := context.AfterFunc(r.Context(), func() { w.left <- struct{}{} })
		defer stop()
		w.Gateway.ServeHTTP(rw, r)
	}))
	w.URL = server.URL
	t.Cleanup(func() {
		w.Stop()
		server.CloseClientConnections()
		server.Close()
		cancel()
		running.Wait()
	})
	return w
}

// still is a fleet that changes only by become.
type still struct {
	mu      sync.Mutex
	state   *fleet.State
	changed chan struct{}
}

func (s *still) State() *fleet.State {
	state, _ := s.Next()
	return state
}

func (s *still) Next() (*fleet.State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.state, s.changed
}

// become replaces the backend behind a name by one at another URL, which runs until the test ends.
func (s *still) become(t *testing.T, name, url string) {
	t.Helper()
	config := overHTTP(url)
	config.Name, config.ServerInfo, config.Timeout = name, ServerInfo(), 20*time.Second
	to := backend.New(config)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { to.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	s.mu.Lock()
	old := s.state.Backends[name]
	next := &fleet.State{Aggregator: s.state.Aggregator, Backends: maps.Clone(s.state.Backends)}
	next.Backends[name] = to
	s.state = next
	if s.changed != nil {
		close(s.changed)
	}
	s.changed = make(chan struct{})
	s.mu.Unlock()
	old.Retire()
}

// announce asks for a backend's lists.
func (w *world) announce(name string) {
	select {
	case w.relist[name] <- struct{}{}:
	default:
	}
}

// judge answers as the test says, or permits everything.
func (w *world) judge(r *gatewayv1.PermittedRequest) (*gatewayv1.PermittedResponse, error) {
	w.mu.Lock()
	w.asked = append(w.asked, r)
	f := w.permitted
	w.mu.Unlock()
	if f != nil {
		return f(r)
	}
	resp := &gatewayv1.PermittedResponse{PolicyRevision: "rev-1", View: "view-1"}
	if r.Kind == gatewayv1.ItemKind_ITEM_KIND_TOKEN {
		return resp, nil
	}
	for i := range r.Names {
		resp.Indexes = append(resp.Indexes, uint32(i))
	}
	if len(r.Names) > 0 {
		return resp, nil
	}
	for i := range w.inv.Catalog().Items(mcpwire.ItemKind(r.Kind)) {
		resp.Indexes = append(resp.Indexes, uint32(i))
	}
	return resp, nil
}

func (w *world) judgeBy(f permissions) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.permitted = f
}

func (w *world) judged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

// ask is a client's request and what authz makes of it.
type ask struct {
	verb    string // POST where empty
	body    string // «meta» is the envelope of a modern request
	version string // MCP-Protocol-Version
	session string
	caller  string // ann where empty
	header  http.Header
	target  *gatewayv1.Target // where empty, what the catalog says
	seals   []string          // instead of one that is right
	change  func(*gatewayv1.Decision)
}

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// modern is a 2026-07-28 request.
func modern(id, method, params string) ask {
	name := ""
	var p map[string]any
	if json.Unmarshal([]byte("{"+params+"}"), &p) == nil {
		for _, member := range []string{"name", "uri"} {
			if s, ok := p[member].(string); ok {
				name = s
			}
		}
	}
	h := http.Header{"Mcp-Method": {method}}
	if name != "" {
		h["Mcp-Name"] = []string{name}
	}
	if params != "" {
		params = "," + params
	}
	return ask{version: mcpwire.Version20260728, header: h, body: `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{«meta»` + params + `}}`}
}

// legacy is a request of a session.
func legacy(session, id, method, params string) ask {
	return ask{session: session, body: `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + params + `}}`}
}

func toolCall(name string) string { return `"name":"` + name + `","arguments":{"text":"hi"}` }

// request builds the request as it comes from Envoy: what authz allowed, with its seal.
func (w *world) request(t testing.TB, ctx context.Context, a ask) *http.Request {
	t.Helper()
	if a.verb == "" {
		a.verb = "POST"
	}
	if a.caller == "" {
		a.caller = "ann"
	}
	body := strings.ReplaceAll(a.body, "«meta»", modernMeta)
	r, err := http.NewRequestWithContext(ctx, a.verb, w.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range a.header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	if a.version != "" {
		r.Header.Set("Mcp-Protocol-Version", a.version)
	}
	if a.session != "" {
		r.Header.Set("Mcp-Session-Id", a.session)
	}
	if a.seals == nil {
		a.seals = []string{w.seal(t, r, body, a)}
	}
	for _, s := range a.seals {
		r.Header.Add(decision.Header, s)
	}
	return r
}

// seal states what authz would of this request.
func (w *world) seal(t testing.TB, r *http.Request, body string, a ask) string {
	t.Helper()
	m, perr := mcpwire.Parse(mcpwire.Request{Method: r.Method, Header: r.Header.Values, Body: []byte(body)})
	if perr != nil {
		t.Fatalf("%s: %v", body, perr)
	}
	sum := sha256.Sum256([]byte(body))
	d := &gatewayv1.Decision{IssuedAtMs: time.Now().UnixMilli(), VirtualServer: "team", HttpMethod: r.Method,
		Era: uint32(m.Era), Kind: uint32(m.Kind), RpcMethod: m.Method, Name: m.Name, BodySha256: sum[:], SessionId: a.session,
		TokenPayload: []byte(`{"sub":"` + a.caller + `"}`), ExpiresAt: time.Now().Unix() + 900,
		Principal: decision.Principal("i", a.caller, "c"), PolicyRevision: "rev-1", CatalogDigest: w.inv.Catalog().Digest, View: "view-1", RequestId: "req-1"}
	if m.Item != mcpwire.ItemNone && !m.VersionUnsupported {
		d.Target = a.target
		if d.Target == nil {
			it, ok := w.inv.Catalog().Find(m.Item, m.Name)
			if !ok {
				t.Fatalf("no %s %q in the catalog", m.Item, m.Name)
			}
			d.Target = &gatewayv1.Target{Backend: it.Backend, Name: it.Original}
		}
	}
	if a.change != nil {
		a.change(d)
	}
	s, err := decision.Seal(w.sealKeys, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is a response, read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) send(t testing.TB, a ask) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	resp, err := http.DefaultClient.Do(w.request(t, ctx, a))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// open initializes a session and returns its id.
func (w *world) open(t testing.TB, caller, capabilities string) string {
	t.Helper()
	a := w.send(t, ask{caller: caller, body: `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":` +
		capabilities + `,"clientInfo":{"name":"client","version":"7"}}}`})
	id := a.header.Get("Mcp-Session-Id")
	if a.status != 200 || id == "" {
		t.Fatalf("initialize: %d %s", a.status, a.body)
	}
	return id
}

func is[T comparable](v T) func(T) bool { return func(got T) bool { return got == v } }

// setFor sets a variable for the time of the test.
func setFor[T any](t testing.TB, to *T, v T) {
	old := *to
	*to = v
	t.Cleanup(func() { *to = old })
}
