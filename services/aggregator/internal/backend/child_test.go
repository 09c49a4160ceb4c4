package backend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	"vmcp/internal/stdio"
)

// shell is a child played by the shell that notes what it is asked: one line for each start, and each method.
func shell(t *testing.T, discover, initialize string, timeout time.Duration) (b *Backend, notes func() string) {
	t.Helper()
	record := filepath.Join(t.TempDir(), "record")
	b = start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio, Timeout: timeout, Env: nil},
		Command: []string{"/bin/sh", "-c", `note() { echo "$1" >>'` + record + `'; }
note start
while read -r line; do
id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case "$line" in
*'"server/discover"'*) note discover; ` + discover + `;;
*'"initialize"'*) note initialize; ` + initialize + `;;
*'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}],"resultType":"complete"}}\n' "$id";;
*'"tools/call"'*) note call; printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"resultType":"complete"}}\n' "$id";;
esac
done
`},
	})
	return b, func() string {
		text, _ := os.ReadFile(record)
		return strings.Join(strings.Fields(string(text)), " ")
	}
}

const (
	saysModern  = `printf '{"jsonrpc":"2.0","id":%s,"result":{"supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{"tools":{}},"resultType":"complete"}}\n' "$id"`
	saysLegacy  = `printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}\n' "$id"`
	saysUnknown = `printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"method not found"}}\n' "$id"`
)

// TestChildEra: a child for modern clients is asked for their era first, whatever comes of it, and once where nothing does.
func TestChildEra(t *testing.T) {
	for _, tt := range []struct {
		name, discover, initialize string
		timeout                    time.Duration
		first, second              string // what a modern client's first and second child hear
		era                        mcpwire.Era
	}{
		{"of both eras", saysModern, saysLegacy, 0, "start discover call", "start discover call", mcpwire.EraModern},
		{"of 2025", saysUnknown, saysLegacy, 0, "start discover initialize call", "start initialize call", mcpwire.EraLegacy},
		{"that dies of the question", "exit 1", saysLegacy, 0, "start discover start initialize call", "start initialize call", mcpwire.EraLegacy},
		{"that does not answer it", ":", saysLegacy, 2 * time.Second, "start discover initialize call", "start initialize call", mcpwire.EraLegacy},
		{"of 2026", saysModern, saysUnknown, 0, "start discover call", "start discover call", mcpwire.EraModern},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, notes := shell(t, tt.discover, tt.initialize, tt.timeout)
			b.Retire() // so that no spare child is noted, however slow a start is
			if _, err := b.List(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{tt.first, tt.second} {
				before := notes()
				s := b.Session(SessionOptions{Era: mcpwire.EraModern, Key: want + t.Name() + before})
				if _, err := do(s, tool(t, mcpwire.EraModern, "1", "t", `{}`, "")); err != nil {
					t.Fatal(err)
				}
				if got := strings.TrimSpace(strings.TrimPrefix(notes(), before)); got != want {
					t.Errorf("it heard %q, want %q", got, want)
				}
				if got := s.conn.current().era(); got != tt.era {
					t.Errorf("spoken to in %v", got)
				}
				s.Close()
			}
		})
	}
}

// TestSpare: where a start takes long, a child waits for the next session; it is told nothing before, and ends with the
// backend, or when nobody comes.
func TestSpare(t *testing.T) {
	t.Parallel()
	call := func(b *Backend, key string) {
		t.Helper()
		s := b.Session(SessionOptions{Era: mcpwire.EraLegacy, Key: key})
		defer s.Close()
		if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "t", `{}`, "")); err != nil {
			t.Fatal(err)
		}
	}
	waiting := func(b *Backend) *stdio.Process {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.spare.process
	}
	quick, _ := shell(t, saysUnknown, saysLegacy, 0)
	if call(quick, "a"); quick.child.took.Load() < int64(worthSpare) && waiting(quick) != nil {
		t.Error("one waits although starts are quick")
	}

	b, notes := shell(t, saysUnknown, "sleep 1; "+saysLegacy, 0)
	waits := func(starts int) {
		t.Helper()
		await.That(t, "one waits, and was told nothing", func() bool {
			return waiting(b) != nil && strings.Count(notes(), "start") == starts+1 && strings.Count(notes(), "initialize") == starts
		})
	}
	call(b, "a")
	waits(1)
	call(b, "b") // takes it, and the next waits
	waits(2)
	waiting(b).Stop() // as if it had ended by itself
	call(b, "c")
	await.That(t, "another waits", func() bool { return waiting(b) != nil && strings.Count(notes(), "start") == 5 })
	b.reap(time.Now().Add(idleTimeout))
	if waiting(b) != nil {
		t.Error("it waits for ever")
	}
	b.Retire()
	if call(b, "d"); waiting(b) != nil {
		t.Error("one waits behind a backend that was replaced")
	}
}

// TestSharedList: tools that a shared child comes to offer are those of everybody, and no other child has them.
func TestSharedList(t *testing.T) {
	b := start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio, Shared: true},
		Command: []string{"/bin/sh", "-c", `more=
while read -r line; do
id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case "$line" in
*'"initialize"'*) ` + saysLegacy + `;;
*'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t"}%s]}}\n' "$id" "$more";;
*'"die"'*) exit 1;;
*'"tools/call"'*) more=',{"name":"u"}'
printf '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' "$id";;
esac
done
`},
	})
	list := func(want string) {
		t.Helper()
		got, err := b.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range got.Tools {
			names = append(names, tool.Name)
		}
		if strings.Join(names, " ") != want {
			t.Errorf("listed %s, want %s", names, want)
		}
	}
	list("t")
	s := session(t, b, mcpwire.EraLegacy)
	if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "t", `{}`, "")); err != nil {
		t.Fatal(err)
	}
	<-b.Changed()
	list("t u")
	if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "die", `{}`, "")); err == nil {
		t.Fatal("it lives")
	}
	list("t")
}
