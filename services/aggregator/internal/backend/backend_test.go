package backend

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// binaries holds the demo servers, built once.
var binaries string

func TestMain(m *testing.M) { mcptest.RunWithPrograms(m, func(folder string) { binaries = folder }) }

// start runs a Backend for the time of the test.
func start(t testing.TB, cfg Config) *Backend {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "secret-backend"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = await.Limit
	}
	b := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return b
}

func startHTTP(t testing.TB, url string) *Backend {
	t.Helper()
	return start(t, Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, URL: url}})
}

func startStdio(t testing.TB, binary string, args ...string) *Backend {
	t.Helper()
	return start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio, Args: args},
		Command: []string{filepath.Join(binaries, binary)},
	})
}

func session(t testing.TB, b *Backend, era mcpwire.Era) *Session {
	t.Helper()
	s := b.Session(SessionOptions{Era: era, Key: "key", Version: mcpwire.Version20251125,
		Capabilities: []byte(`{"elicitation":{},"x":1}`), ClientInfo: []byte(`{"name":"client","version":"7"}`)})
	t.Cleanup(s.Close)
	return s
}

const modernMeta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"client","version":"7"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}`

// request parses a client's request with these params; meta is the inside of _meta.
func request(t testing.TB, era mcpwire.Era, id, method, name, params, meta string) Request {
	t.Helper()
	version := mcpwire.Version20251125
	if era == mcpwire.EraModern {
		version = mcpwire.Version20260728
		meta = strings.TrimSuffix(modernMeta+","+meta, ",")
	}
	if meta != "" {
		params = strings.TrimSuffix(`"_meta":{`+meta+`},`+params, ",")
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s}}`, id, method, params)
	m, bad := mcpwire.Parse(mcpwire.Request{Method: "POST", Body: []byte(body), Header: func(h string) []string {
		switch {
		case h == "Mcp-Protocol-Version":
			return []string{version}
		case h == "Mcp-Method" && era == mcpwire.EraModern:
			return []string{method}
		case h == "Mcp-Name" && era == mcpwire.EraModern && name != "":
			return []string{mcpwire.EncodeHeader(name)}
		}
		return nil
	}})
	if bad != nil {
		t.Fatalf("parsing %s: %v", body, bad)
	}
	return Request{Message: &m, Name: strings.TrimPrefix(name, "adv_")}
}

func tool(t testing.TB, era mcpwire.Era, id, name, arguments, meta string) Request {
	t.Helper()
	return request(t, era, id, "tools/call", "adv_"+name, fmt.Sprintf(`"name":%q,"arguments":%s`, "adv_"+name, arguments), meta)
}

// do collects the messages of one call.
func do(s *Session, r Request) ([]string, error) {
	return doContext(context.Background(), s, r)
}

func doContext(ctx context.Context, s *Session, r Request) ([]string, error) {
	var out []string
	err := s.Do(ctx, r, func(m Message) error {
		out = append(out, string(m.Raw))
		return nil
	})
	return out, err
}

var eras = []mcpwire.Era{mcpwire.EraLegacy, mcpwire.EraModern}

// TestPairs calls, gets, reads and completes for clients and backends of all eras, over JSON and event streams.
func TestPairs(t *testing.T) {
	for _, wire := range []mcptest.Era{mcptest.Legacy, mcptest.Modern, mcptest.Dual} {
		for _, json := range []bool{true, false} {
			h := mcptest.NewHTTP(t, mcptest.Options{Era: wire, JSON: json})
			b := startHTTP(t, h.URL)
			for _, client := range eras {
				t.Run(fmt.Sprintf("%v client, backend %d, json %v", client, wire, json), func(t *testing.T) {
					h.Reset()
					s := session(t, b, client)
					got, err := do(s, tool(t, client, `"a\u0062"`, "echo", `{"text":"hi"}`, ""))
					if err != nil {
						t.Fatal(err)
					}
					if len(got) != 1 || !strings.Contains(got[0], `"text":"hi"`) || !strings.Contains(got[0], `"id":"a\u0062"`) {
						t.Errorf("got %s", got)
					}
					if has := strings.Contains(got[0], `"resultType":"complete"`); has != (client == mcpwire.EraModern) {
						t.Errorf("resultType of a %v client: %s", client, got[0])
					}
					if strings.Contains(got[0], "serverInfo") {
						t.Errorf("the backend's serverInfo passed: %s", got[0])
					}
					if !h.Saw("echo") || h.Saw("adv_echo") {
						t.Errorf("the backend saw %v", h.Requests())
					}
					got, err = do(s, request(t, client, "7", "resources/read", "test://hello", `"uri":"test://hello"`, ""))
					if err != nil || len(got) != 1 || !strings.Contains(got[0], "content of test://hello") {
						t.Errorf("resources/read: got %s, %v", got, err)
					}
					if has := strings.Contains(got[0], `"ttlMs":`); client == mcpwire.EraModern && !has {
						t.Errorf("no ttlMs for a modern client: %s", got[0])
					}
					got, err = do(s, request(t, client, "8", "prompts/get", "greet", `"name":"greet","arguments":{"who":"Ann"}`, ""))
					if err != nil || len(got) != 1 || !strings.Contains(got[0], "Hello Ann") {
						t.Errorf("prompts/get: got %s, %v", got, err)
					}
				})
			}
		}
	}
}

func TestWireEra(t *testing.T) {
	for _, test := range []struct {
		server mcptest.Era
		client mcpwire.Era
		want   string // version header of the call
	}{
		{mcptest.Legacy, mcpwire.EraLegacy, mcpwire.Version20251125},
		{mcptest.Legacy, mcpwire.EraModern, mcpwire.Version20251125},
		{mcptest.Modern, mcpwire.EraLegacy, mcpwire.Version20260728},
		{mcptest.Modern, mcpwire.EraModern, mcpwire.Version20260728},
		{mcptest.Dual, mcpwire.EraLegacy, mcpwire.Version20251125}, // BR-6
		{mcptest.Dual, mcpwire.EraModern, mcpwire.Version20260728},
	} {
		h := mcptest.NewHTTP(t, mcptest.Options{Era: test.server})
		s := session(t, startHTTP(t, h.URL), test.client)
		if _, err := do(s, tool(t, test.client, "1", "echo", `{"text":"hi"}`, "")); err != nil {
			t.Fatal(err)
		}
		requests := h.Requests()
		last := requests[len(requests)-1]
		if got := last.Header.Get("Mcp-Protocol-Version"); got != test.want {
			t.Errorf("%v client, server %d: version header %q, want %q", test.client, test.server, got, test.want)
		}
		if got, want := last.Header.Get("Mcp-Name"), map[bool]string{true: "echo"}[test.want == mcpwire.Version20260728]; got != want {
			t.Errorf("Mcp-Name %q, want %q", got, want)
		}
	}
}

// TestWarmCall: one request per call on a warm session, and no new connection.
func TestWarmCall(t *testing.T) {
	for _, server := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		for _, client := range eras {
			h := mcptest.NewHTTP(t, mcptest.Options{Era: server})
			s := session(t, startHTTP(t, h.URL), client)
			call := func() {
				t.Helper()
				if _, err := do(s, tool(t, client, "1", "echo", `{"text":"hi"}`, "")); err != nil {
					t.Fatal(err)
				}
			}
			call()
			conns := map[string]bool{}
			for _, r := range h.Requests() {
				conns[r.Conn] = true
			}
			h.Reset()
			const calls = 50
			for range calls {
				call()
			}
			requests := h.Requests()
			if len(requests) != calls {
				t.Errorf("%d requests for %d calls", len(requests), calls)
			}
			for _, r := range requests {
				if !conns[r.Conn] {
					t.Fatalf("server %d, %v client: a new connection on a warm session", server, client)
				}
			}
		}
	}
}

// TestSharedToken: two clients of one principal with the same id and token at the same time do not cross (PC-1).
func TestSharedToken(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	b := startHTTP(t, h.URL)
	var all sync.WaitGroup
	for i := range 8 {
		s := session(t, b, mcpwire.EraModern)
		text := fmt.Sprintf("text-%d", i)
		all.Go(func() {
			r := tool(t, mcpwire.EraModern, "1", "progress", `{"count":5}`, `"progressToken":1`)
			if i%2 == 1 {
				r = tool(t, mcpwire.EraModern, "1", "echo", fmt.Sprintf(`{"text":%q}`, text), `"progressToken":1`)
			}
			got, err := do(s, r)
			switch {
			case err != nil:
				t.Error(err)
			case i%2 == 0 && len(got) != 6:
				t.Errorf("got %s", got)
			case i%2 == 1 && (len(got) != 1 || !strings.Contains(got[0], text)):
				t.Errorf("got %s", got)
			}
		})
	}
	all.Wait()
	if n := h.Count("initialize", ""); n != 1 {
		t.Errorf("%d sessions for one principal", n)
	}
}

func TestSlowConsumer(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{})
	b := startHTTP(t, h.URL)
	child := startStdio(t, "echo-mcp")
	for _, b := range []*Backend{b, child} {
		s := session(t, b, mcpwire.EraLegacy)
		block, blocked := make(chan struct{}), make(chan struct{})
		slow := make(chan error)
		r := tool(t, mcpwire.EraLegacy, "1", "echo", `{"text":"slow"}`, "")
		go func() {
			slow <- s.Do(t.Context(), r, func(Message) error {
				close(blocked)
				<-block
				return nil
			})
		}()
		<-blocked
		for range 5 {
			if _, err := do(s, tool(t, mcpwire.EraLegacy, "2", "echo", `{"text":"quick"}`, "")); err != nil {
				t.Fatal(err)
			}
		}
		close(block)
		if err := <-slow; err != nil {
			t.Error(err)
		}
	}
}

// TestUnnamedEra: a server may name the modern version alone and take sessions all the same. That is tried once, for a
// client that can be asked something, since such a server can ask only in a session.
func TestUnnamedEra(t *testing.T) {
	const echo = `{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}`
	both := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
		"initialize": {Header: map[string]string{"Mcp-Session-Id": "raw-N"}, Body: `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}`},
		"tools/call": mcptest.JSON(echo)})
	one := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{"tools/call": mcptest.JSON(echo)})
	for name, tt := range map[string]struct {
		server       *mcptest.HTTP
		capabilities string
		initialized  int
		session      bool // the call belongs to one
	}{
		"both, and a client that can be asked": {both, `{"elicitation":{}}`, 2, true},
		"one, and a client that can be asked":  {one, `{"elicitation":{}}`, 1, false},
		"both, and nobody to ask":              {both, `{}`, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			tt.server.Reset()
			b := startHTTP(t, tt.server.URL)
			for _, key := range []string{"one", "two"} {
				s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: key, Version: mcpwire.Version20251125, Capabilities: []byte(tt.capabilities)})
				if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "x", `{}`, "")); err != nil {
					t.Fatal(err)
				}
				s.Close()
			}
			if got := tt.server.Count("initialize", ""); got != tt.initialized {
				t.Errorf("initialize came %d times, want %d", got, tt.initialized)
			}
			for _, r := range tt.server.Requests() {
				if r.Method == "tools/call" && (r.Header.Get("Mcp-Session-Id") != "") != tt.session {
					t.Errorf("a call with the session %q", r.Header.Get("Mcp-Session-Id"))
				}
			}
		})
	}
}
