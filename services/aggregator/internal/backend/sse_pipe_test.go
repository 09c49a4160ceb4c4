package backend

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// TestSSE: a server of the transport of 2024 is listed and called, reports progress, asks, and is found again when its
// stream breaks; by clients of both eras.
func TestSSE(t *testing.T) {
	h := mcptest.NewSSE(t)
	b := start(t, Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportSSE, URL: h.URL}})
	l, err := b.List(t.Context())
	if err != nil || len(l.Tools) != 6 || len(l.Prompts) != 1 || len(l.Failed) != 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	for _, era := range eras {
		s := session(t, b, era)
		got, err := do(s, tool(t, era, "1", "echo", `{"text":"hi"}`, ""))
		if err != nil || !strings.Contains(got[len(got)-1], "hi") {
			t.Errorf("%v: %s, %v", era, got, err)
		}
		got, err = do(s, tool(t, era, "2", "progress", `{"count":3}`, `"progressToken":"p"`))
		if err != nil || len(got) != 4 || !strings.Contains(got[0], `"progressToken":"p"`) {
			t.Errorf("%v: %s, %v", era, got, err)
		}
	}
	s := session(t, b, mcpwire.EraLegacy)
	last := ""
	err = s.Do(t.Context(), tool(t, mcpwire.EraLegacy, "3", "elicit", `{}`, ""), func(m Message) error {
		if last = string(m.Raw); m.Kind == mcpwire.KindRequest {
			return s.Respond(t.Context(), m.From, m.ID, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{}}}`, m.ID))
		}
		return nil
	})
	if err != nil || !strings.Contains(last, "answer: accept") {
		t.Errorf("%s, %v", last, err)
	}
	if got := b.Health(); got.Era != "2025" || got.Sessions == 0 || got.Children != 0 {
		t.Errorf("%+v", got)
	}
	h.Break()
	await.That(t, "it is found again", func() bool {
		_, err := do(s, tool(t, mcpwire.EraLegacy, "4", "echo", `{"text":"hi"}`, ""))
		return err == nil
	})
}

// TestOddSSE: what is no such server is told, nothing is posted elsewhere, and nobody waits for ever.
func TestOddSSE(t *testing.T) {
	stolen := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("posted to another server") }))
	defer stolen.Close()
	for name, tt := range map[string]struct {
		kind, body string
		status     int
		want       string
		kindOf     error
	}{
		"another transport":     {"application/json", `{}`, 405, "Streamable HTTP", ErrUnavailable},
		"a page":                {"text/html", `<html>`, 200, "HTTP status 200", ErrUnavailable},
		"no login":              {"text/plain", ``, 401, "HTTP status 401", ErrRefused},
		"nothing":               {"text/event-stream", "", 200, "before it said where to post", ErrInvalidReply},
		"another server":        {"text/event-stream", "event: endpoint\ndata: " + stolen.URL + "/post\n\n", 200, "of the same server", ErrInvalidReply},
		"a message":             {"text/event-stream", "data: {\"jsonrpc\":\"2.0\"}\n\n", 200, "", nil},
		"a place, then silence": {"text/event-stream", "event: endpoint\ndata: /post\n\n", 200, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					w.WriteHeader(http.StatusAccepted)
					return
				}
				w.Header().Set("Content-Type", tt.kind)
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
				http.NewResponseController(w).Flush()
				if tt.want == "" {
					<-r.Context().Done()
				}
			}))
			defer h.Close()
			defer h.CloseClientConnections()
			b := start(t, Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportSSE, URL: h.URL + "/sse", Timeout: 200 * time.Millisecond}})
			_, err := b.List(t.Context())
			if tt.kindOf == nil {
				tt.kindOf = ErrTimeout
				if name == "a message" {
					tt.kindOf = err // posted to wherever that leads on this server: any end will do
				}
			}
			if err == nil || !errors.Is(err, tt.kindOf) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %v %q", err, tt.kindOf, tt.want)
			}
		})
	}
}
