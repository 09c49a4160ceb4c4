package backend

import (
	"slices"
	"testing"
	"time"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

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
