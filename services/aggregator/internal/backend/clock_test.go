package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

// played is a link to a server that a function plays.
type played struct {
	server func(ctx context.Context, id string, say func(format string, args ...any))
	deaf   bool // takes no notification and no answer
	took   atomic.Int32
}

func (p *played) era() mcpwire.Era { return mcpwire.EraLegacy }
func (p *played) hello() *hello    { return &hello{} }
func (p *played) post(ctx context.Context, _ []byte, _ http.Header) error {
	if p.deaf {
		<-ctx.Done()
		return ctx.Err()
	}
	p.took.Add(1)
	return nil
}
func (p *played) close() {}
func (p *played) exchange(ctx context.Context, out *outgoing, recv receiver) error {
	p.server(ctx, string(out.id), func(format string, args ...any) {
		r, err := mcpwire.ParseReply(fmt.Appendf(nil, format, args...))
		if err != nil {
			panic(err)
		}
		recv(r, http.StatusOK)
	})
	return context.Cause(ctx)
}

// TestClock: what a call may take. Each server answers at the end, if it is still asked.
func TestClock(t *testing.T) {
	const limit, longest = 30 * time.Second, 10 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		ctx, patient := newClock(t.Context(), time.Hour, longest)
		defer patient.end()
		began := time.Now()
		<-ctx.Done()
		if got := time.Since(began); got != time.Hour {
			t.Errorf("a server with more time for silence than for a call has %v", got)
		}
	})
	question := func(say func(string, ...any)) {
		say(`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}`)
	}
	for _, test := range []struct {
		name   string
		answer time.Duration // of the client to a question; 0: never
		server func(ctx context.Context, id string, say func(string, ...any))
		want   time.Duration // until the call is given up; 0: it ends well
	}{
		{"quick", 0, func(_ context.Context, _ string, _ func(string, ...any)) { time.Sleep(limit - 1) }, 0},
		{"silent", 0, func(ctx context.Context, _ string, _ func(string, ...any)) { <-ctx.Done() }, limit},
		{"progress", 0, func(_ context.Context, id string, say func(string, ...any)) {
			for range 10 {
				time.Sleep(limit - 1)
				say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, id)
			}
		}, 0},
		{"progress of another call", 0, func(ctx context.Context, id string, say func(string, ...any)) {
			time.Sleep(limit - 1)
			say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":99,"progress":1}}`)
			<-ctx.Done()
		}, limit},
		{"progress without end", 0, func(ctx context.Context, id string, say func(string, ...any)) {
			for ctx.Err() == nil {
				time.Sleep(time.Second)
				say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, id)
			}
		}, longest},
		{"a person thinks", 5 * time.Minute, func(_ context.Context, _ string, say func(string, ...any)) {
			question(say)
			time.Sleep(5*time.Minute + limit - 1)
		}, 0},
		{"silent after the answer", time.Minute, func(ctx context.Context, _ string, say func(string, ...any)) {
			question(say)
			<-ctx.Done()
		}, time.Minute + limit},
		{"progress while a person thinks", time.Minute, func(ctx context.Context, id string, say func(string, ...any)) {
			question(say)
			say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, id)
			<-ctx.Done()
		}, time.Minute + limit},
		{"the server takes its question back", 0, func(ctx context.Context, _ string, say func(string, ...any)) {
			question(say)
			time.Sleep(time.Minute)
			say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}`)
			<-ctx.Done()
		}, time.Minute + limit},
		{"nobody answers", 0, func(ctx context.Context, _ string, say func(string, ...any)) {
			question(say)
			<-ctx.Done()
		}, longest},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := New(Config{Backend: gatewayconfig.Backend{Name: "b", Transport: gatewayconfig.TransportHTTP, Timeout: limit}})
				s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "key", Capabilities: []byte(`{"elicitation":{}}`)})
				s.conn.up.link = &played{server: func(ctx context.Context, id string, say func(string, ...any)) {
					test.server(ctx, id, say)
					if ctx.Err() == nil {
						say(`{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
					}
				}}
				began, answered := time.Now(), false
				err := s.Do(t.Context(), tool(t, mcpwire.EraLegacy, "1", "x", `{}`, `"progressToken":"p"`), func(m Message) error {
					if m.Kind == mcpwire.KindRequest && test.answer > 0 {
						time.AfterFunc(test.answer, func() { s.Respond(context.Background(), m.From, mcpwire.RawID(`"q"`), []byte(`{}`)) })
					}
					answered = answered || m.Kind == mcpwire.KindResponse
					return nil
				})
				if test.want == 0 && !answered {
					t.Errorf("given up after %v: %v", time.Since(began), err)
				}
				if test.want > 0 && (!errors.Is(err, ErrTimeout) || time.Since(began) < test.want || time.Since(began) > test.want+time.Second) {
					t.Errorf("after %v: %v; want a timeout after %v", time.Since(began), err, test.want)
				}
			})
		})
	}
}

// TestAnswerTime: what a backend does not take holds nobody up for longer than a call.
func TestAnswerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{Backend: gatewayconfig.Backend{Name: "b", Transport: gatewayconfig.TransportHTTP, Timeout: time.Minute, Roots: true}})
		s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "key"})
		l := &played{deaf: true}
		s.conn.up.link = l
		for what, send := range map[string]func() error{
			"an answer": func() error { return s.Respond(t.Context(), Origin{link: l}, mcpwire.RawID("1"), []byte("{}")) },
			"a notice":  func() error { return s.RootsChanged(t.Context(), []byte("{}")) },
		} {
			began := time.Now()
			if err := send(); !errors.Is(err, ErrTimeout) || time.Since(began) != time.Minute {
				t.Errorf("%s: %v after %v", what, err, time.Since(began))
			}
		}
	})
}

// TestQuestionOutside: a question on the standalone stream may be what a call waits for. Only where it was asked its
// answer means anything.
func TestQuestionOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 30 * time.Second
		b := New(Config{Backend: gatewayconfig.Backend{Name: "b", Transport: gatewayconfig.TransportHTTP, Timeout: limit}})
		var s *Session
		s = b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: "key", Capabilities: []byte(`{"elicitation":{}}`),
			OnMessage: func(m mcpwire.Reply, from Origin) {
				time.AfterFunc(time.Minute, func() { s.Respond(context.Background(), from, mcpwire.RawID(`"q"`), []byte(`{}`)) })
			}})
		asked, other := &played{}, &played{}
		asked.server = func(ctx context.Context, _ string, _ func(string, ...any)) {
			r, err := mcpwire.ParseReply([]byte(`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}`))
			if err != nil {
				t.Error(err)
			}
			s.conn.unsolicited(asked, r, nil)
			<-ctx.Done()
		}
		s.conn.up.link = asked
		began := time.Now()
		if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "x", `{}`, "")); !errors.Is(err, ErrTimeout) || time.Since(began) != time.Minute+limit {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		took := asked.took.Load() // the answer, and that the time was up
		s.conn.up.link = other
		if err := s.Respond(t.Context(), Origin{link: asked}, mcpwire.RawID(`"q"`), []byte(`{}`)); err != nil || other.took.Load() != 0 || asked.took.Load() != took {
			t.Errorf("an answer to another session: %v", err)
		}
		if took != 2 {
			t.Errorf("it took %d messages, want the answer and the cancellation", took)
		}
	})
}
