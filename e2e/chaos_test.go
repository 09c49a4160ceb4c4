package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
)

// TestChaos: five backends under load, one of them in turn killed, hung, slow, lying and reconfigured. Calls of the other
// four, initialize and lists do not fail, and none waits for the fifth, whose limit is an hour: whoever did would not
// come back here. `bench -run chaos` says what it costs them.
func TestChaos(t *testing.T) {
	t.Parallel()
	var lying atomic.Bool
	options := mcptest.Options{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !lying.Load() {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"jsonrpc":"2.0","id":"another's","result":[[{"tools":"all"}`)
		})
	}}
	edits := []edit{config("operational:\n  timeouts: {default: 30s, perWorkload: {fifth: 1h}}\n  failureHandling: {healthCheckInterval: 1s}")}
	for i := range 4 {
		edits = append(edits, behind(fmt.Sprintf("good-%d", i), mcptest.NewHTTP(t, mcptest.Options{}).URL))
	}
	fifth := mcptest.NewHTTP(t, options)
	w := start(t, guide, append(edits, behind("fifth", fifth.URL))...)
	person := w.token("dev", "mcp-developers")
	all := []string{"good-0_echo", "good-1_echo", "good-2_echo", "good-3_echo", "fifth_echo"}
	await.That(t, "all five are listed", func() bool {
		listed := (&caller{w: w, token: person, modern: true}).list(t, "tools")
		return !slices.ContainsFunc(all, func(name string) bool { return !slices.Contains(listed, name) })
	})

	l := &loads{w: w, person: person}
	defer l.stop(func() { fifth.Close() })
	for _, name := range all[:4] {
		for _, modern := range []bool{false, true} {
			l.run(fmt.Sprintf("%s, modern %v", name, modern), modern, 25, func(c *caller) error {
				return ok(w.try(c.message("tools/call", `"name":"`+name+`","arguments":{"text":"here"}`, name)))
			})
		}
	}
	l.run("lists", true, 10, func(c *caller) error { return ok(w.try(c.message("tools/list", "", ""))) })
	l.run("initialize", true, 10, func(c *caller) error {
		_, err := w.tryOpen(person)
		return err
	})
	for _, modern := range []bool{false, true} {
		l.run("", modern, 0, func(c *caller) error { // whatever comes of it
			w.try(c.message("tools/call", `"name":"fifth_echo","arguments":{"text":"there"}`, "fifth_echo"))
			return nil
		})
	}

	docs := w.readDocs(t)
	for _, mode := range []struct {
		name        string
		begin, heal func()
	}{
		{"well", func() {}, func() {}},
		{"killed", func() { fifth.Close() }, func() { fifth = fifth.Restart(t, options) }},
		{"hung", func() { fifth.SetFault(mcptest.Fault{Hang: true}) }, func() {
			fifth.Close() // ends those who wait for it
			fifth = fifth.Restart(t, options)
		}},
		{"slow", func() { fifth.SetFault(mcptest.Fault{Delay: 300 * time.Millisecond}) }, func() { fifth.SetFault(mcptest.Fault{}) }},
		{"lying", func() { lying.Store(true) }, func() { lying.Store(false) }},
		{"reconfigured", func() {
			w.writeDocs(t, strings.Replace(docs, "remoteUrl: "+fifth.URL, "remoteUrl: "+fifth.URL+"?changed", 1))
		},
			func() { w.writeDocs(t, docs) }},
	} {
		mode.begin()
		l.round(t, mode.name)
		mode.heal()
		c := &caller{w: w, token: person, modern: true}
		await.That(t, "the fifth is well again after it was "+mode.name, func() bool { return c.call(t, "fifth_echo", `{"text":"x"}`).ok() })
	}
}

func ok(a answer, err error) error {
	if err == nil && !a.ok() {
		err = fmt.Errorf("%d %s", a.status, a.body)
	}
	return err
}

// loads are operations that go on until stop.
type loads struct {
	w      *world
	person string
	ended  atomic.Bool
	wg     sync.WaitGroup
	kinds  []*loaded
}

type loaded struct {
	name string
	each int64 // of a round
	done atomic.Int64
	bad  atomic.Pointer[string] // what failed
}

// run repeats an operation by a caller of its own. In each round it must be done a number of times, and never fail.
func (l *loads) run(name string, modern bool, each int64, op func(*caller) error) {
	kind := &loaded{name: name, each: each}
	l.kinds = append(l.kinds, kind)
	l.wg.Go(func() {
		c := &caller{w: l.w, token: l.person, modern: modern}
		var err error
		if !modern {
			c.session, err = l.w.tryOpen(l.person)
		}
		for err == nil && !l.ended.Load() {
			if err = op(c); err == nil {
				kind.done.Add(1)
			}
			time.Sleep(5 * time.Millisecond) // others work on this machine too
		}
		if err != nil && !l.ended.Load() {
			text := err.Error()
			kind.bad.Store(&text)
		}
	})
}

// round returns when each operation was done as often as it must be from now on.
func (l *loads) round(t *testing.T, what string) {
	t.Helper()
	for _, kind := range l.kinds {
		goal := kind.done.Load() + kind.each
		await.That(t, fmt.Sprintf("%s goes on while the fifth is %s", kind.name, what), func() bool {
			if bad := kind.bad.Load(); bad != nil {
				t.Fatalf("%s failed while the fifth was %s: %s", kind.name, what, *bad)
			}
			return kind.done.Load() >= goal
		})
	}
}

// stop ends the load; free lets go of whoever still waits.
func (l *loads) stop(free func()) {
	l.ended.Store(true)
	free()
	l.wg.Wait()
}
