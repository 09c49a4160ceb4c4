package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

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
				return s.Respond(t.Context(), m.From, m.ID, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"action":"accept","content":{}}}`, m.ID))
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
