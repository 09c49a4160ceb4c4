package backend

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
	"vmcp/internal/stdio"
)

// script is a child that the shell plays: it answers initialize and then runs body for each further request.
func script(t testing.TB, body string, timeout time.Duration) *Backend {
	t.Helper()
	text := `while read -r line; do
id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case "$line" in
*'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id";;
*'"tools/call"'*) ` + body + `;;
esac
done
`
	return start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio, Timeout: timeout},
		Command: []string{"/bin/sh", "-c", text},
	})
}

func TestStdio(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	b := startStdio(t, "kubernetes-mcp", "--record", record)
	l, err := b.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, tool := range l.Tools {
		names = append(names, tool.Name)
	}
	if !slices.Contains(names, "delete_namespace") || len(l.Prompts) != 1 || len(l.Resources) != 1 {
		t.Errorf("got %s, %d prompts, %d resources", names, len(l.Prompts), len(l.Resources))
	}
	for _, client := range eras {
		s := session(t, b, client)
		got, err := do(s, tool(t, client, "3", "get_pods", `{"namespace":"shop"}`, ""))
		if err != nil || !strings.Contains(got[0], "web-7d9c-1") || !strings.Contains(got[0], `"id":3`) {
			t.Errorf("got %s, %v", got, err)
		}
	}
	called, err := os.ReadFile(record)
	if err != nil || string(called) != "get_pods\nget_pods\n" {
		t.Errorf("recorded %q, %v", called, err)
	}
}

func TestStdioConcurrent(t *testing.T) {
	s := session(t, startStdio(t, "echo-mcp"), mcpwire.EraModern)
	var all sync.WaitGroup
	for i := range 50 {
		text := fmt.Sprintf("text-%d-", i)
		r := tool(t, mcpwire.EraModern, "1", "echo", fmt.Sprintf(`{"text":%q}`, text), "")
		all.Go(func() {
			got, err := do(s, r)
			if err != nil || len(got) != 1 || !strings.Contains(got[0], text) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	all.Wait()
}

func TestStdioFailures(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       error
	}{
		{"exits", `echo "no such cluster" >&2; exit 3`, ErrUnavailable},
		{"hangs", `:`, ErrTimeout},
		{"two documents", `printf '{"jsonrpc":"2.0","id":%s,"result":{}}{}\n' "$id"`, ErrInvalidReply},
		{"closes its output", `exec >&-; sleep 0.1`, ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			timeout := 10 * time.Second
			if test.want == ErrTimeout {
				timeout = 300 * time.Millisecond
			}
			b := script(t, test.body, timeout)
			s := session(t, b, mcpwire.EraLegacy)
			_, err := do(s, tool(t, mcpwire.EraLegacy, "1", "x", `{}`, ""))
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if test.name == "exits" && !strings.Contains(err.Error(), "no such cluster") {
				t.Errorf("its last words are missing: %v", err)
			}
		})
	}
	t.Run("noise", func(t *testing.T) {
		b := script(t, `echo starting; echo; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\r\n' "$id"`, 0)
		got, err := do(session(t, b, mcpwire.EraLegacy), tool(t, mcpwire.EraLegacy, `"z"`, "x", `{}`, ""))
		if err != nil || got[0] != `{"jsonrpc":"2.0","id":"z","result":{}}` {
			t.Errorf("got %s, %v", got, err)
		}
	})
	t.Run("comes back", func(t *testing.T) {
		b := script(t, `printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id"; exit 0`, 0)
		s := session(t, b, mcpwire.EraLegacy)
		for range 3 {
			if _, err := do(s, tool(t, mcpwire.EraLegacy, "1", "x", `{}`, "")); err != nil {
				t.Error(err)
			}
			l := s.conn.current().(*pipeLink)
			<-l.process.(*stdio.Process).Done()
			l.reading.Wait() // its end was noticed
		}
	})
	t.Run("no program", func(t *testing.T) {
		b := start(t, Config{Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio}, Command: []string{"/does/not/exist"}})
		_, err := b.List(t.Context())
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

// TestStdioQuestion: a question of a child is part of the last call in which servers ask.
func TestStdioQuestion(t *testing.T) {
	mailboxes := []*mailbox{
		{id: "1", asks: true, wake: make(chan struct{}, 1)},
		{id: "2", asks: true, wake: make(chan struct{}, 1)},
		{id: "3", wake: make(chan struct{}, 1)},
	}
	l := &pipeLink{b: New(Config{}), calls: mailboxes}
	for i, text := range []string{
		2: `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}`,
		1: `{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}`,
		0: `{"jsonrpc":"2.0","id":1,"result":{}}`,
	} {
		r, err := mcpwire.ParseReply([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		l.route(r)
		for j, box := range mailboxes {
			if got, _ := box.take(); (len(got) > 0) != (i == j) {
				t.Errorf("%s: call %d got %q", text, j+1, got)
			}
		}
	}
}

func TestStdioElicitation(t *testing.T) {
	b := script(t, `printf '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}\n'; read -r answer; printf '{"jsonrpc":"2.0","id":%s,"result":{"got":%s}}\n' "$id" "$answer"`, 0)
	s := session(t, b, mcpwire.EraLegacy)
	var last string
	err := s.Do(t.Context(), tool(t, mcpwire.EraLegacy, "1", "x", `{}`, ""), func(m Message) error {
		last = string(m.Raw)
		if m.Kind == mcpwire.KindRequest {
			return s.Respond(t.Context(), m.From, m.ID, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"action":"accept"}}`, m.ID))
		}
		return nil
	})
	if err != nil || !strings.Contains(last, `"action":"accept"`) {
		t.Errorf("got %s, %v", last, err)
	}
	got, err := do(session(t, b, mcpwire.EraModern), tool(t, mcpwire.EraModern, "1", "x", `{}`, ""))
	if err != nil || !strings.Contains(got[0], "-32601") {
		t.Errorf("a modern client: got %s, %v", got, err)
	}
}

// TestStdioModern: a child that refuses initialize is asked server/discover.
func TestStdioModern(t *testing.T) {
	b := start(t, Config{
		Backend: gatewayconfig.Backend{Transport: gatewayconfig.TransportStdio},
		Command: []string{"/bin/sh", "-c", `while read -r line; do
id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
case "$line" in
*'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no"}}\n' "$id";;
*'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}}\n' "$id";;
*'"tools/call"'*2026-07-28*) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","content":[]}}\n' "$id";;
esac
done`},
	})
	for client, want := range map[mcpwire.Era]string{
		mcpwire.EraLegacy: `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`,
		mcpwire.EraModern: `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}`,
	} {
		got, err := do(session(t, b, client), tool(t, client, "1", "x", `{}`, ""))
		if err != nil || got[0] != want {
			t.Errorf("%v client: got %s, %v", client, got, err)
		}
	}
}
