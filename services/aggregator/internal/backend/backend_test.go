package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// binaries holds the demo servers, built once.
var binaries string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "backend-test")
	if err != nil {
		panic(err)
	}
	binaries = dir
	out, err := exec.Command("go", "build", "-o", dir, "vmcp/internal/mcptest/cmd/...").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building the demo servers: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// start runs a Backend for the time of the test.
func start(t testing.TB, cfg Config) *Backend {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "secret-backend"
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
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
		if l.Modern != (era != mcptest.Legacy) || l.Legacy != (era != mcptest.Modern) {
			t.Errorf("era %d: modern %v, legacy %v", era, l.Modern, l.Legacy)
		}
		if !strings.Contains(string(l.ServerInfo), "echo-mcp") || !strings.Contains(string(l.Capabilities), "tools") {
			t.Errorf("serverInfo %s, capabilities %s", l.ServerInfo, l.Capabilities)
		}
		if l.Templates[0].Name != "test://items/{id}" || l.Resources[0].Name != "test://hello" {
			t.Errorf("got %s, %s", l.Templates[0].Name, l.Resources[0].Name)
		}
	}
}

func TestProgress(t *testing.T) {
	for _, server := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		h := mcptest.NewHTTP(t, mcptest.Options{Era: server})
		b := startHTTP(t, h.URL)
		for _, client := range eras {
			s := session(t, b, client)
			got, err := do(s, tool(t, client, "5", "progress", `{"count":3}`, `"progressToken":"tok\u0041"`))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 4 {
				t.Fatalf("server %d, %v client: got %d messages: %s", server, client, len(got), got)
			}
			for i, m := range got[:3] {
				if !strings.Contains(m, `"progressToken":"tok\u0041"`) || !strings.Contains(m, fmt.Sprintf(`"progress":%d`, i+1)) {
					t.Errorf("message %d: %s", i, m)
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

func TestElicitation(t *testing.T) {
	t.Run("legacy both", func(t *testing.T) {
		h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
		s := session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
		var last string
		err := s.Do(t.Context(), tool(t, mcpwire.EraLegacy, "1", "elicit", `{}`, ""), func(m Message) error {
			last = string(m.Raw)
			if m.Kind == mcpwire.KindRequest {
				if m.Method != "elicitation/create" {
					t.Errorf("got %s", m.Raw)
				}
				return s.Respond(t.Context(), fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{}}}`, m.ID))
			}
			return nil
		})
		if err != nil || !strings.Contains(last, "answer: accept") {
			t.Errorf("got %s, %v", last, err)
		}
	})
	t.Run("modern both", func(t *testing.T) {
		h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Modern})
		s := session(t, startHTTP(t, h.URL), mcpwire.EraModern)
		got, err := do(s, tool(t, mcpwire.EraModern, "1", "elicit", `{}`, ""))
		if err != nil || !strings.Contains(got[0], `"resultType":"input_required"`) || !strings.Contains(got[0], `"requestState":"asked"`) {
			t.Errorf("got %s, %v", got, err)
		}
	})
	t.Run("modern client, legacy backend", func(t *testing.T) { // 2.5: no hang, one execution
		h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
		s := session(t, startHTTP(t, h.URL), mcpwire.EraModern)
		got, err := do(s, tool(t, mcpwire.EraModern, "1", "elicit", `{}`, ""))
		if err != nil || !strings.Contains(got[0], `"error"`) {
			t.Errorf("got %s, %v", got, err)
		}
		if n := h.Count("tools/call", "elicit"); n != 1 {
			t.Errorf("executed %d times", n)
		}
	})
	t.Run("legacy client, modern backend", func(t *testing.T) {
		h := mcptest.NewRaw(t, mcptest.Modern, map[string]mcptest.Answer{
			"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"input_required","requestState":"x"}}`)})
		s := session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
		_, err := do(s, tool(t, mcpwire.EraLegacy, "1", "ask", `{}`, ""))
		if !errors.Is(err, ErrNeedsInput) || h.Count("tools/call", "") != 1 {
			t.Errorf("got %v", err)
		}
		body := string(h.Requests()[len(h.Requests())-1].Body)
		if !strings.Contains(body, `"io.modelcontextprotocol/clientCapabilities":{"x":1}`) || !strings.Contains(body, `"name":"vmcp"`) {
			t.Errorf("the backend got %s", body)
		}
	})
}

func TestCancel(t *testing.T) {
	for _, server := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		for _, client := range eras {
			for _, how := range []string{"Cancel", "context"} {
				t.Run(fmt.Sprintf("server %d, %v client, %s", server, client, how), func(t *testing.T) {
					started := make(chan struct{})
					h := mcptest.NewHTTP(t, mcptest.Options{Era: server})
					s := session(t, startHTTP(t, h.URL), client)
					ctx, cancel := context.WithCancel(t.Context())
					go func() {
						for h.Count("tools/call", "wait") == 0 {
							time.Sleep(time.Millisecond)
						}
						close(started)
					}()
					failed := make(chan error)
					r := tool(t, client, "1", "wait", `{}`, "")
					go func() {
						_, err := doContext(ctx, s, r)
						failed <- err
					}()
					<-started
					want := context.Canceled
					if how == "Cancel" {
						s.Cancel(t.Context(), mcpwire.RawID("1"), "enough")
						want = ErrCancelled
					} else {
						cancel()
					}
					if err := <-failed; !errors.Is(err, want) {
						t.Errorf("got %v, want %v", err, want)
					}
					told := 0
					if server == mcptest.Legacy && (how == "Cancel" || client == mcpwire.EraModern) {
						told = 1 // a legacy client's disconnect is no cancellation (HL-6)
					}
					if got := h.Count("notifications/cancelled", ""); got != told {
						t.Errorf("%d cancellations, want %d", got, told)
					}
					cancel()
				})
			}
		}
	}
}

// TestSessionLost: a backend that forgot the session answers 404, and the call runs in a new one, once.
func TestSessionLost(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	b := startHTTP(t, h.URL)
	s := session(t, b, mcpwire.EraLegacy)
	if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "echo", `{"text":"a"}`, "")); err != nil {
		t.Fatal(err)
	}
	h.Close()
	b.transport.CloseIdleConnections() // else a request may meet the end of its connection, which proves nothing
	h = h.Restart(t, mcptest.Options{Era: mcptest.Legacy})
	got, err := do(s, tool(t, mcpwire.EraLegacy, "2", "echo", `{"text":"b"}`, ""))
	if err != nil || !strings.Contains(got[0], `"b"`) {
		t.Errorf("got %s, %v", got, err)
	}
	if n := h.Count("initialize", ""); n != 1 {
		t.Errorf("%d sessions opened", n)
	}
}

// TestEraChange: a backend that comes back with another era costs at most one failed call and no double execution.
func TestEraChange(t *testing.T) {
	for _, test := range []struct{ from, to mcptest.Era }{{mcptest.Legacy, mcptest.Modern}, {mcptest.Modern, mcptest.Legacy}} {
		h := mcptest.NewHTTP(t, mcptest.Options{Era: test.from})
		b := startHTTP(t, h.URL)
		s := session(t, b, mcpwire.EraModern)
		if _, err := do(s, tool(t, mcpwire.EraModern, "1", "echo", `{"text":"a"}`, "")); err != nil {
			t.Fatal(err)
		}
		h.Close()
		b.transport.CloseIdleConnections()
		h = h.Restart(t, mcptest.Options{Era: test.to})
		failed := 0
		for range 2 {
			got, err := do(s, tool(t, mcpwire.EraModern, "2", "echo", `{"text":"b"}`, ""))
			if err != nil || !strings.Contains(got[0], `"b"`) {
				failed++
			}
		}
		if failed > 1 {
			t.Errorf("%d to %d: %d calls failed; requests %v", test.from, test.to, failed, methods(h))
		}
	}
}

func methods(h *mcptest.HTTP) []string {
	var out []string
	for _, r := range h.Requests() {
		out = append(out, r.HTTP+" "+r.Method)
	}
	return out
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault mcptest.Fault
		want  error
		ran   bool
	}{
		{"500", mcptest.Fault{Method: "tools/call", Status: 500}, ErrUnavailable, true},
		{"401", mcptest.Fault{Method: "tools/call", Status: 401}, ErrRefused, false},
		{"429", mcptest.Fault{Method: "tools/call", Status: 429}, ErrBusy, false},
		{"redirect", mcptest.Fault{Method: "tools/call", Status: 307}, ErrUnavailable, true},
		{"hang", mcptest.Fault{Method: "tools/call", Hang: true}, ErrTimeout, true},
		{"reset after running", mcptest.Fault{Method: "tools/call", Reset: true}, ErrUnavailable, true},
		{"probe 503", mcptest.Fault{Method: "server/discover", Status: 503}, ErrUnavailable, false},
		{"probe hangs", mcptest.Fault{Method: "server/discover", Hang: true}, ErrTimeout, false},
	} {
		for _, client := range eras {
			t.Run(test.name+" "+client.String(), func(t *testing.T) {
				h := mcptest.NewHTTP(t, mcptest.Options{})
				b := start(t, Config{Timeout: 300 * time.Millisecond,
					Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportHTTP, URL: h.URL}})
				h.SetFault(test.fault)
				s := session(t, b, client)
				_, err := do(s, tool(t, client, "1", "echo", `{"text":"hi"}`, ""))
				var failure *Error
				if !errors.Is(err, test.want) || !errors.As(err, &failure) {
					t.Fatalf("got %v, want %v", err, test.want)
				}
				if failure.Ran != test.ran && test.fault.Method == "tools/call" {
					t.Errorf("Ran is %v, want %v", failure.Ran, test.ran)
				}
				if n := h.Count("tools/call", ""); n > 1 {
					t.Errorf("sent %d times", n)
				}
				if text := ClientText(err); strings.Contains(text, "secret-backend") || strings.Contains(text, "127.0.0.1") || text == "" {
					t.Errorf("client text %q", text)
				}
				h.SetFault(mcptest.Fault{})
				if _, err := do(s, tool(t, client, "2", "echo", `{"text":"hi"}`, "")); err != nil {
					t.Errorf("after the fault: %v", err)
				}
			})
		}
	}
	t.Run("refused", func(t *testing.T) {
		h := mcptest.NewHTTP(t, mcptest.Options{})
		s := session(t, startHTTP(t, h.URL), mcpwire.EraModern)
		h.Close()
		var failure *Error
		_, err := do(s, tool(t, mcpwire.EraModern, "1", "echo", `{}`, ""))
		if !errors.As(err, &failure) || failure.Kind != ErrUnavailable || failure.Ran {
			t.Errorf("got %#v", err)
		}
	})
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

func TestPool(t *testing.T) {
	h := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Legacy})
	b := startHTTP(t, h.URL)
	call := func(era mcpwire.Era, key string) {
		t.Helper()
		s := b.Session(SessionOptions{Era: era, Key: key})
		defer s.Close()
		if _, err := do(s, tool(t, era, "1", "echo", `{"text":"a"}`, "")); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		call(mcpwire.EraModern, "ann")
		call(mcpwire.EraModern, "bob")
	}
	if n := h.Count("initialize", ""); n != 2 {
		t.Errorf("%d sessions for two principals", n)
	}
	b.reap(time.Now().Add(idleTimeout + time.Minute))
	call(mcpwire.EraModern, "ann")
	if n := h.Count("initialize", ""); n != 3 {
		t.Errorf("%d sessions after the idle time", n)
	}
	call(mcpwire.EraLegacy, "s1")
	call(mcpwire.EraLegacy, "s1") // Close ended the first one
	if n := h.Count("initialize", ""); n != 5 {
		t.Errorf("%d sessions after two of legacy clients", n)
	}
	b.running.Wait()
	deleted := slices.IndexFunc(h.Requests(), func(r mcptest.Request) bool { return r.HTTP == "DELETE" })
	if deleted < 0 {
		t.Error("no session was ended at the backend")
	}
}
