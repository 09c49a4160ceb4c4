package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

// held is a call of a script that asks the client, and ends when the client answers.
type held struct {
	s     *Session
	asked chan Message
	done  chan error
}

func hold(t *testing.T, s *Session) *held {
	t.Helper()
	h := &held{s, make(chan Message, 1), make(chan error, 1)}
	go func() {
		h.done <- s.Do(t.Context(), tool(t, mcpwire.EraLegacy, "1", "x", `{}`, ""), func(m Message) error {
			if m.Kind == mcpwire.KindRequest {
				m.ID = append(mcpwire.RawID(nil), m.ID...)
				h.asked <- m
			}
			return nil
		})
	}()
	return h
}

// started waits until the call runs, or has failed.
func (h *held) started() error {
	select {
	case m := <-h.asked:
		h.asked <- m
		return nil
	case err := <-h.done:
		return err
	}
}

// finish answers the question and waits for the end of the call.
func (h *held) finish(t *testing.T) {
	t.Helper()
	m := <-h.asked
	if err := h.s.Respond(t.Context(), m.From, m.ID, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID)); err != nil {
		t.Error(err)
	}
	if err := <-h.done; err != nil {
		t.Error(err)
	}
}

const asking = `printf '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}\n'; read -r answer; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id"`

// TestPlaces: an idle child makes room for another at once, only calls in progress take places for good, and no
// principal gets all of them.
func TestPlaces(t *testing.T) {
	b := script(t, asking, 0)
	n := 0
	open := func(who string) *Session {
		n++
		s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: fmt.Sprint(who, n), Principal: who, Capabilities: []byte(`{"elicitation":{}}`)})
		t.Cleanup(s.Close)
		return s
	}
	var ann, bob []*held
	for range maxShare {
		ann = append(ann, hold(t, open("ann")))
	}
	for range maxChildren - maxShare {
		bob = append(bob, hold(t, open("bob")))
	}
	for _, h := range append(ann, bob...) {
		if err := h.started(); err != nil {
			t.Fatal(err)
		}
	}
	cat := open("cat")
	if err := hold(t, cat).started(); !errors.Is(err, ErrFull) {
		t.Errorf("a call where all are in calls: %v", err)
	}
	ann[0].finish(t)
	if err := hold(t, open("ann")).started(); err != nil {
		t.Errorf("in place of an own idle child: %v", err)
	}
	ann[1].finish(t)
	bob[0].finish(t)
	bob[1].finish(t)
	for range 3 { // ann has one idle child, bob two
		h := hold(t, cat)
		if err := h.started(); err != nil {
			t.Fatalf("in place of an idle child: %v", err)
		}
		h.finish(t)
	}
	if bob[0].s.conn.current() != nil || ann[1].s.conn.current() == nil || bob[1].s.conn.current() == nil {
		t.Error("the place is not that of the longest idle child of who had most of them")
	}
	if err := hold(t, open("ann")).started(); err != nil || ann[1].s.conn.current() != nil {
		t.Errorf("beyond the share an own idle child goes: %v", err)
	}
	if err := hold(t, open("ann")).started(); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the share of a principal: %v", err)
	}
	if _, err := b.lister.open(t.Context()); err != nil {
		t.Errorf("the lister needs no place: %v", err)
	}
	b.reap(time.Now().Add(idleTimeout + time.Minute))
	if cat.conn.current() != nil || bob[2].s.conn.current() == nil {
		t.Error("idle children end, those in calls do not")
	}
}

// TestPlacesWithoutSignIn: who is nobody in particular has no share, as that would be everybody's.
func TestPlacesWithoutSignIn(t *testing.T) {
	b := script(t, asking, 0)
	for n := range maxChildren {
		s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: fmt.Sprint(n), Principal: decision.Anonymous})
		t.Cleanup(s.Close)
		if err := hold(t, s).started(); err != nil {
			t.Fatalf("place %d: %v", n, err)
		}
	}
}

// TestSlowStart: a call does not wait for a slow start to its end, and the start goes on for the next.
func TestSlowStart(t *testing.T) {
	dir := t.TempDir()
	gate, starts := filepath.Join(dir, "gate"), filepath.Join(dir, "starts")
	b := start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio, Timeout: time.Nanosecond},
		Command: []string{"/bin/sh", "-c", `echo >>` + starts + `; until [ -e ` + gate + ` ]; do sleep 0.05; done
while read -r line; do
id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case "$line" in
*'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}\n' "$id";;
*'"tools/call"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id";;
esac
done`},
	})
	b.patience = time.Millisecond
	s := session(t, b, mcpwire.EraLegacy)
	for range 2 {
		if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "x", `{}`, "")); !errors.Is(err, ErrStarting) {
			t.Errorf("while it starts: %v", err)
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.patience, b.cfg.Timeout = time.Minute, time.Minute
	if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "x", `{}`, "")); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(starts); err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("started %q, %v", text, err)
	}
}

// TestHungStart: what a child wrote that never got ready is in the reason.
func TestHungStart(t *testing.T) {
	wrote := filepath.Join(t.TempDir(), "wrote")
	b := start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio},
		Command: []string{"/bin/sh", "-c", `echo "waiting for the license server" >&2; echo >` + wrote + `; read -r line; read -r line`},
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.startChild(ctx, b.lister)
		done <- b.fail(ctx, err, false)
	}()
	await.That(t, "the child wrote", func() bool { _, err := os.Stat(wrote); return err == nil })
	cancel(ErrTimeout)
	if err := <-done; !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "it last wrote: waiting for the license server") {
		t.Error(err)
	}
}

// TestTake: a place whose child is ending goes to one who waits for it, if that one's share allows, or to the next when
// that one gives up.
func TestTake(t *testing.T) {
	var p places
	var ann, bob []*place
	for range maxShare {
		q, _ := p.take("ann")
		ann = append(ann, q)
	}
	for range maxChildren - maxShare {
		q, _ := p.take("bob")
		bob = append(bob, q)
	}
	p.end(bob[0])
	if q, own := p.take("ann"); q != nil || !own {
		t.Error("another's place went to somebody beyond the share")
	}
	first, _ := p.take("cat")
	if q, _ := p.take("dan"); first == nil || q != nil {
		t.Fatal("one place is ending, and one can have it")
	}
	p.free(first)
	second, _ := p.take("dan")
	p.end(ann[0])
	third, _ := p.take("ann")
	if second == nil || third == nil {
		t.Fatal("a place that was given up again, and an own one, cannot be had")
	}
	for i, step := range []struct{ ended, got *place }{{bob[0], second}, {ann[0], third}} {
		select {
		case <-step.got.ready:
			t.Errorf("%d: ready while the child is ending", i)
		default:
		}
		p.free(step.ended)
		select {
		case <-step.got.ready:
		default:
			t.Errorf("%d: not ready when the child has ended", i)
		}
	}
	if len(p.all) != maxChildren {
		t.Errorf("%d places are taken", len(p.all))
	}
}
