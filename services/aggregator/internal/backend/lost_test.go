package backend

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

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

// TestSessionUnknown: many servers say by 400 that they do not know a session. That call fails, since it may have run
// for all that one knows; the next one finds a new session.
func TestSessionUnknown(t *testing.T) {
	for name, answer := range map[string]mcptest.Answer{
		"a JSON-RPC error": {Body: `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`},
		"text":             {Type: "text/plain", Body: "Bad Request"},
	} {
		answer.Status = 400
		h := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{"tools/call": answer})
		s := session(t, startHTTP(t, h.URL), mcpwire.EraLegacy)
		for i := range 2 {
			do(s, tool(t, mcpwire.EraLegacy, "1", "x", `{}`, ""))
			if opened, called := h.Count("initialize", ""), h.Count("tools/call", ""); opened != i+1 || called != i+1 {
				t.Errorf("%s: after call %d, %d sessions were opened and %d calls sent", name, i+1, opened, called)
			}
		}
		for _, r := range h.Requests() {
			if r.HTTP == "DELETE" {
				t.Errorf("%s: an unknown session was ended", name)
			}
		}
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

// TestAgain: a standalone stream that brings nothing is asked for ever more seldom, and at last no more.
func TestAgain(t *testing.T) {
	total, n := time.Duration(0), 0
	for ; ; n++ {
		pause, more := again(time.Second, n)
		if !more {
			break
		}
		total += pause
	}
	if first, _ := again(time.Second, 0); first != time.Second || n != 12 || total < 10*time.Minute || total > time.Hour {
		t.Errorf("%d tries in %v, the first after %v", n, total, first)
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
	} {
		for _, client := range eras {
			t.Run(test.name+" "+client.String(), func(t *testing.T) {
				h := mcptest.NewHTTP(t, mcptest.Options{})
				b := start(t, Config{Backend: gatewayconfig.Backend{Timeout: 300 * time.Millisecond, Transport: gatewayconfig.TransportHTTP, URL: h.URL}})
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
