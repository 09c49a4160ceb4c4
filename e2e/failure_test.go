package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/keyring"
	"vmcp/internal/mcpwire"
)

// load calls without a pause for breath until stop, and takes note of every answer that is no result.
type load struct {
	stop func(t *testing.T)
}

func (w *world) load(t *testing.T, callers ...*caller) load {
	t.Helper()
	var mu sync.Mutex
	var wrong []string
	calls := 0
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, c := range callers {
		c.call(t, allowedTool, `{"namespace":"shop"}`) // opens the session
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
				r := c.message("tools/call", `"name":"`+allowedTool+`","arguments":{"namespace":"shop"}`, allowedTool)
				if i%4 == 3 {
					r = c.message("tools/list", "", "")
				}
				a, err := w.try(r)
				mu.Lock()
				calls++
				if err != nil || !a.ok() {
					wrong = append(wrong, fmt.Sprintf("%v %d %.200s", err, a.status, a.body))
				}
				mu.Unlock()
			}
		})
	}
	stop := sync.OnceFunc(func() { close(done); wg.Wait() })
	t.Cleanup(stop)
	return load{func(t *testing.T) {
		t.Helper()
		stop()
		if len(wrong) > 0 {
			t.Errorf("%d of %d requests failed meanwhile, the first: %s", len(wrong), calls, wrong[0])
		}
		if calls < 20 {
			t.Errorf("only %d requests were made meanwhile", calls)
		}
	}}
}

func (w *world) developers() (legacy, modern *caller) {
	token := w.token("ann", "mcp-developers")
	return &caller{w: w, token: token}, &caller{w: w, token: token, modern: true}
}

// down sends, at one time, what a service that is away cannot serve.
func down(t *testing.T, callers ...*caller) {
	t.Helper()
	var sent sync.WaitGroup
	for _, c := range callers {
		requests := []request{
			c.message("tools/call", `"name":"`+allowedTool+`","arguments":{"namespace":"shop"}`, allowedTool),
			c.message("tools/list", "", ""),
			{token: c.token, body: initialize},
			{token: c.token, method: "GET", session: c.session},
		}
		for _, r := range requests {
			sent.Go(func() {
				a, err := c.w.try(r)
				if err != nil || a.status != 503 || a.code() != mcpwire.CodeInternal || a.header.Get("Content-Type") != "application/json" {
					t.Errorf("%s %.80s: %v %d %s, want 503 -32603", r.method, r.body, err, a.status, a.body)
				}
			})
		}
	}
	sent.Wait()
}

// freeze stops a process and returns when none of its threads runs any more: a signal is delivered some time after kill.
func (w *world) freeze(t *testing.T, name string) (thaw func()) {
	t.Helper()
	pid := w.PID(name)
	send := func(s syscall.Signal) {
		if err := syscall.Kill(pid, s); err != nil {
			t.Errorf("%s: %v: %v", name, s, err)
		}
	}
	send(syscall.SIGSTOP)
	thaw = sync.OnceFunc(func() { send(syscall.SIGCONT) })
	t.Cleanup(thaw)
	await.That(t, name+" is stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, thread := range threads {
			text, e := os.ReadFile(thread)
			if e != nil || !strings.Contains(string(text), ") T ") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
	return thaw
}

// back waits until both callers are served again, the legacy one in its old session, and takes 503 for an answer until
// then and nothing else.
func back(t *testing.T, callers ...*caller) {
	t.Helper()
	for _, c := range callers {
		await.That(t, "calls work again", func() bool {
			a, err := c.w.try(c.message("tools/call", `"name":"`+allowedTool+`","arguments":{"namespace":"shop"}`, allowedTool))
			if err == nil && !a.ok() && a.status != 503 {
				t.Fatalf("on the way back: %d %s", a.status, a.body)
			}
			return err == nil && a.ok()
		})
		if got := c.list(t, "tools"); len(got) != 19 {
			t.Errorf("%d tools are listed, want 19", len(got))
		}
		if a := c.call(t, forbiddenTool, `{"namespace":"staging"}`); !denied(a, mcpwire.ItemTool, forbiddenTool) {
			t.Errorf("the forbidden tool: %d %s", a.status, a.body)
		}
	}
}

// restart stops a service in good order and waits for the next one to run.
func (w *world) restart(t *testing.T, name string) {
	t.Helper()
	old := w.PID(name)
	w.Restart(name)
	await.That(t, name+" is another process", func() bool { return w.PID(name) != old })
}

// TestAuthzAway: without a decision there is no call, and no client has to start anew afterwards.
func TestAuthzAway(t *testing.T) {
	w := start(t, guide)
	legacy, modern := w.developers()
	legacy.call(t, allowedTool, `{"namespace":"shop"}`)
	before := w.calls(t, "kubernetes-backend")
	stays := legacy.follow(t)

	// Hung: Envoy waits for a second. The aggregator's own questions are TestHungAuthz's there.
	thaw := w.freeze(t, "authz")
	down(t, legacy, modern)
	thaw()
	back(t, legacy, modern)

	// Dead, and the issuer with it: its keys are on disk.
	again, err := w.Kill("authz")
	if err != nil {
		t.Fatal(err)
	}
	await.That(t, "authz is gone", func() bool { return syscall.Kill(w.PID("authz"), 0) != nil })
	down(t, legacy, modern)
	if got := w.calls(t, "kubernetes-backend"); len(got) != len(before)+2 {
		t.Errorf("the backend saw %q", got[len(before):])
	}
	w.issuer.SetStatus(http.StatusInternalServerError)
	again()
	back(t, legacy, modern)
	select {
	case _, ok := <-stays.events:
		if !ok {
			t.Error("the stream ended")
		}
	default:
	}
}

// TestAggregatorAway: a session outlives the process that opened it.
func TestAggregatorAway(t *testing.T) {
	w := start(t, guide)
	legacy, modern := w.developers()
	legacy.call(t, allowedTool, `{"namespace":"shop"}`)
	session := legacy.session
	ended := w.open(t, legacy.token)
	if a := w.send(t, request{method: "DELETE", token: legacy.token, session: ended}); a.status != 204 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	if a := w.send(t, request{token: legacy.token, session: ended, body: toolCall(allowedTool)}); a.status != 404 {
		t.Errorf("after DELETE: %d %s, want 404", a.status, a.body)
	}

	again, err := w.Kill("aggregator")
	if err != nil {
		t.Fatal(err)
	}
	await.That(t, "the aggregator is gone", func() bool { return syscall.Kill(w.PID("aggregator"), 0) != nil })
	down(t, legacy, modern)
	again()
	back(t, legacy, modern)

	w.restart(t, "aggregator") // in good order
	back(t, legacy, modern)
	if legacy.session != session {
		t.Error("the session is another one")
	}
}

// TestPolicyReload: who may do what changes with the file, at once for lists and calls, and nobody notices but by that.
func TestPolicyReload(t *testing.T) {
	t.Parallel()
	w := start(t, guide)
	legacy, modern := w.developers()
	const tool = "kubernetes-backend_get_events"
	may := func(c *caller) bool {
		a := c.call(t, tool, `{"namespace":"shop"}`)
		if !a.ok() && !denied(a, mcpwire.ItemTool, tool) {
			t.Fatalf("%d %s", a.status, a.body)
		}
		listed := slices.Contains(c.list(t, "tools"), tool)
		if listed != a.ok() { // the file may have changed in between: then they agree the next time
			if a = c.call(t, tool, `{"namespace":"shop"}`); listed != a.ok() {
				t.Fatalf("listed %t, called %t", listed, a.ok())
			}
		}
		return listed
	}
	if !may(legacy) || !may(modern) {
		t.Fatal("get_events is not permitted to begin with")
	}
	get, listen := legacy.follow(t), modern.follow(t)
	load := w.load(t, &caller{w: w, token: legacy.token}, &caller{w: w, token: legacy.token, modern: true})
	good := w.readDocs(t)
	logged := func(text string) int {
		log, _ := os.ReadFile(filepath.Join(w.State, "authz.log"))
		return strings.Count(string(log), text)
	}

	w.writeDocs(t, strings.Replace(good, `resource == Tool::"delete_namespace"`, `resource
            ) when {
              ["delete_namespace", "get_events"].contains(resource.original_name)
            };
          - |
            forbid(
              principal in THVGroup::"nobody",
              action,
              resource`, 1))
	await.That(t, "get_events is forbidden", func() bool { return !may(legacy) && !may(modern) })
	if a := legacy.call(t, forbiddenTool, `{"namespace":"staging"}`); !denied(a, mcpwire.ItemTool, forbiddenTool) {
		t.Errorf("the forbidden tool: %d %s", a.status, a.body)
	}
	for _, s := range []*stream{get, listen} { // with the next sign of life, at most 15 s
		s.expect(t, "notifications/tools/list_changed")
	}

	// Broken in Cedar, in YAML, empty, and gone: what was good last stays in force.
	for i, broken := range []string{
		strings.Replace(good, "permit(", "pemit(", 1),
		strings.Replace(good, "spec:", "spec: [", 1),
		good[:len(good)/2],
		"",
	} {
		before := logged("not reloaded")
		w.writeDocs(t, broken)
		await.That(t, fmt.Sprintf("authz refuses broken file %d", i), func() bool { return logged("not reloaded") > before })
		if may(legacy) || may(modern) {
			t.Errorf("broken file %d changed the policies", i)
		}
	}
	w.writeDocs(t, good)
	await.That(t, "get_events is permitted again", func() bool { return may(legacy) && may(modern) })
	load.stop(t)
}

// keysRead waits until every service that shares a ring says that it has that many keys and, where one is named, that
// it signs.
func (w *world) keysRead(t *testing.T, ring string, count int, signs string) {
	t.Helper()
	services := []string{"aggregator"}
	if ring == "seal" {
		services = append(services, "authz")
	}
	for _, service := range services {
		await.That(t, fmt.Sprintf("%s has %d %s keys, %s signs", service, count, ring, signs), func() bool {
			log, err := os.ReadFile(filepath.Join(w.State, service+".log"))
			if err != nil {
				t.Fatal(err)
			}
			var last []string
			for line := range bytes.Lines(log) {
				var said struct {
					Msg, Dir string
					Keys     []string
				}
				if json.Unmarshal(line, &said) == nil && said.Msg == "keys" && filepath.Base(said.Dir) == ring {
					last = said.Keys
				}
			}
			return len(last) == count && (signs == "" || last[0] == signs)
		})
	}
}

// TestKeyRotation: a new key in keys/seal or keys/session is taken up, and no request fails meanwhile, although the
// services look at different times.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	w := start(t, guide)
	for _, ring := range []string{"seal", "session"} { // the keys of the start are old, and stay older than those to come
		first, err := filepath.Glob(filepath.Join(w.State, "keys", ring, "*"))
		if err != nil || len(first) != 1 {
			t.Fatalf("%s keys: %q, %v", ring, first, err)
		}
		then := time.Now().Add(-time.Hour)
		if err := os.Chtimes(first[0], then, then); err != nil {
			t.Fatal(err)
		}
	}
	legacy, modern := w.developers()
	stays := legacy.follow(t)
	load := w.load(t, &caller{w: w, token: legacy.token}, modern, &caller{w: w, token: legacy.token, modern: true})
	for _, ring := range []string{"seal", "session"} {
		for i := range 2 {
			path := filepath.Join(w.State, "keys", ring, fmt.Sprintf("rotated%d", i))
			if err := os.WriteFile(path, []byte(keyring.New()), 0o600); err != nil {
				t.Fatal(err)
			}
			w.keysRead(t, ring, 2+i, "")
			// Minutes later everybody has the key, and it signs.
			then := time.Now().Add(time.Duration(i-10) * time.Minute)
			if err := os.Chtimes(path, then, then); err != nil {
				t.Fatal(err)
			}
			w.keysRead(t, ring, 2+i, filepath.Base(path))
		}
	}
	load.stop(t)
	if id := w.open(t, legacy.token); !strings.HasPrefix(id, "rotated1.") {
		t.Errorf("a new session has key %.10s", id)
	}
	back(t, legacy, modern) // the old session is as good as ever
	select {
	case _, ok := <-stays.events:
		if !ok {
			t.Error("the stream ended")
		}
	default:
	}
}
