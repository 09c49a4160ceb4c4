package backend

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// TestBudget: however a backend sends much at once, what it may make us hold has an end; that costs the call that was one
// too many, and when the others have ended all is given back.
func TestBudget(t *testing.T) {
	for _, tt := range []struct {
		name                       string
		length                     bool
		room                       int64 // MiB that 2 MiB take, with what reading them needs
		contentType, before, after string
	}{
		{"JSON of a length", true, 3, "application/json", `{"jsonrpc":"2.0","id":ID,"result":{"a":"`, `"}}`},
		{"JSON without", false, 3, "application/json", `{"jsonrpc":"2.0","id":ID,"result":{"a":"`, `"}}`},
		{"events", false, 5, "text/event-stream", `data: {"jsonrpc":"2.0","id":ID,"result":{"a":"`, "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const size, each = 2 << 20, 4 // a fifth does not fit
			more, held := make(chan struct{}), make(chan struct{}, each)
			answer := func(w http.ResponseWriter, id string) {
				before := strings.Replace(tt.before, "ID", id, 1) + strings.Repeat("x", size)
				if tt.after == "\n" {
					before += "\"}}\n"
				}
				w.Header().Set("Content-Type", tt.contentType)
				if tt.length {
					w.Header().Set("Content-Length", strconv.Itoa(len(before)+len(tt.after)))
				}
				io.WriteString(w, before)
				http.NewResponseController(w).Flush()
				held <- struct{}{}
				<-more
				io.WriteString(w, tt.after)
			}
			server := mcptest.NewHTTP(t, mcptest.Options{Era: mcptest.Modern, Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					o, _ := mcpwire.ParseObject(body, 0, len(body))
					if method, _ := o.String("method"); method == "tools/call" {
						answer(w, string(o.Raw("id")))
						return
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
					next.ServeHTTP(w, r)
				})
			}})
			b := startHTTP(t, server.URL)
			b.budget.most = (each*tt.room + tt.room - 1) << 20
			s := session(t, b, mcpwire.EraModern)
			results := make(chan error, each)
			for range each {
				go func() {
					_, err := do(s, tool(t, mcpwire.EraModern, "1", "x", `{}`, ""))
					results <- err
				}()
			}
			for range each {
				<-held
			}
			await.That(t, "all are held", func() bool { return b.budget.held.Load() == each*tt.room<<20 })
			if _, err := do(s, tool(t, mcpwire.EraModern, "2", "x", `{}`, "")); !errors.Is(err, errTooMuch) {
				t.Errorf("one more: %v", err)
			}
			close(more)
			for range each {
				if err := <-results; err != nil {
					t.Error(err)
				}
			}
			if n := b.budget.held.Load(); n != 0 {
				t.Errorf("%d bytes are held after all", n)
			}
			if _, err := do(s, tool(t, mcpwire.EraModern, "3", "x", `{}`, "")); err != nil {
				t.Errorf("later: %v", err)
			}
		})
	}
}

// TestBudgetOfMailboxes: what waits in them counts, until it is taken, or its call has ended.
func TestBudgetOfMailboxes(t *testing.T) {
	of := budget{most: 20 << 20}
	boxes := make([]*mailbox, 6)
	for i := range boxes {
		boxes[i] = &mailbox{wake: make(chan struct{}, 1), room: room{of: &of}}
		boxes[i].put(make([]byte, 4<<20), nil)
	}
	if _, err := boxes[5].take(); !errors.Is(err, errTooMuch) {
		t.Errorf("the sixth: %v", err)
	}
	if got, err := boxes[0].take(); len(got) != 1 || err != nil {
		t.Errorf("the first: %d, %v", len(got), err)
	}
	for _, box := range boxes {
		box.close()
		box.put(make([]byte, 4<<20), nil)
	}
	if n := of.held.Load(); n != 0 {
		t.Errorf("%d bytes are held after all", n)
	}
}
