package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/await"
)

// child is a server played by the shell. It answers each request by its method, or for tools/call by the tool.
const child = `say() { printf '%s\n' "$1"; }
n=0
while read -r line; do
id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[a-z0-9]*"\|[0-9]*\).*/\1/p')
case "$line" in
*'"server/discover"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":{"supportedVersions":["2026-07-28"]}}';;
*'"subscriptions/listen"'*) say '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":'"$id"'}}}'
  sub=$id;;
*'"notifications/cancelled"'*) cancelled=$line;;
*'"name":"cancelled"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":'"${cancelled:-null}"'}';;
*'"name":"change"'*) say '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":'"$sub"'}}}'
  say '{"jsonrpc":"2.0","id":'"$id"',"result":{"changed":true}}';;
*'"initialize"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{}}}';;
*'"name":"quick"'*) n=$((n+1)); say 'a line of a log'; say '{"jsonrpc":"2.0","id":'"$id"',"result":{"n":'$n'}}';;
*'"name":"slow"'*) say '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p1","progress":1}}'
  say '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
  say '{"jsonrpc":"2.0","id":'"$id"',"result":{"slow":true}}';;
*'"name":"ask"'*) asker=$id; say '{"jsonrpc":"2.0","id":"q1","method":"elicitation/create","params":{}}';;
*'"id":"q1"'*) say '{"jsonrpc":"2.0","id":'"$asker"',"result":{"asked":true}}';;
*'"name":"hang"'*) ;;
*'"name":"die"'*) echo 'no more' >&2; exit 3;;
*'"name":"batch"'*) say '[{"jsonrpc":"2.0","id":"'"$id"'","result":{"batch":true}}]';;
*'"name":"env"'*) say '{"jsonrpc":"2.0","id":'"$id"',"result":{"env":"'"$BRIDGE_TEST"'"}}';;
esac
done
`

type client struct {
	t   *testing.T
	url string
}

func start(t *testing.T, most int) (*server, *client) {
	t.Helper()
	s := newServer([]string{"/bin/sh", "-c", child}, most, time.Minute, zap.NewNop())
	h := httptest.NewServer(s)
	t.Cleanup(func() { s.Drain(); h.CloseClientConnections(); h.Close(); s.Close() })
	return s, &client{t, h.URL + endpoint}
}

func (c *client) do(ctx context.Context, method, session, body string) (*http.Response, error) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	return http.DefaultClient.Do(r)
}

// send returns status, content type and body in one line.
func (c *client) send(method, session, body string) string {
	c.t.Helper()
	resp, err := c.do(c.t.Context(), method, session, body)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Sprintf("%d %s %s, then %v", resp.StatusCode, resp.Header.Get("Content-Type"), text, err)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("Content-Type"), text))
}

func (c *client) open() (session string) {
	c.t.Helper()
	resp, err := c.do(c.t.Context(), "POST", "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(text), `"protocolVersion"`) {
		c.t.Fatalf("initialize: %d %s", resp.StatusCode, text)
	}
	return resp.Header.Get("Mcp-Session-Id")
}

func call(tool string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"` + tool + `","_meta":{"progressToken":"p1"}}}`
}

func TestRequests(t *testing.T) {
	t.Setenv("BRIDGE_TEST", "of the container")
	_, c := start(t, 4)
	id := c.open()
	for _, tt := range []struct{ name, method, session, body, want string }{
		{"a call", "POST", id, call("quick"), `200 application/json {"jsonrpc":"2.0","id":7,"result":{"n":1}}`},
		{"lines in it", "POST", id, strings.ReplaceAll(call("quick"), ",", ",\n"), `200 application/json {"jsonrpc":"2.0","id":7,"result":{"n":2}}`},
		{"an id that became text, in a batch", "POST", id, call("batch"), `200 application/json {"jsonrpc":"2.0","id":"7","result":{"batch":true}}`},
		{"progress", "POST", id, call("slow"), `200 text/event-stream data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p1","progress":1}}

data: {"jsonrpc":"2.0","id":7,"result":{"slow":true}}`},
		{"the environment", "POST", id, call("env"), `200 application/json {"jsonrpc":"2.0","id":7,"result":{"env":"of the container"}}`},
		{"a notification", "POST", id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "202"},
		{"another session", "POST", "none", call("quick"), "404 text/plain; charset=utf-8 no such session: initialize again"},
		{"no session", "POST", "", call("quick"), `400 application/json {"error":{"code":-32601,"message":"a session is opened by initialize"},"id":7,"jsonrpc":"2.0"}`},
		{"no message", "POST", id, "{", `400 application/json {"error":{"code":-32700,"message":"the body is no JSON-RPC message; batches are not taken"},"id":null,"jsonrpc":"2.0"}`},
		{"a batch", "POST", id, "[" + call("quick") + "]", `400 application/json {"error":{"code":-32700,"message":"the body is no JSON-RPC message; batches are not taken"},"id":null,"jsonrpc":"2.0"}`},
		{"a stream of nobody", "GET", "", "", "400 text/plain; charset=utf-8 Mcp-Session-Id is missing"},
		{"another method", "PUT", id, "", "405 text/plain; charset=utf-8 method not allowed"},
		{"it dies", "POST", id, call("die"), "502 text/plain; charset=utf-8 exit status 3; it last wrote: no more"},
		{"afterwards", "POST", id, call("quick"), "404 text/plain; charset=utf-8 no such session: initialize again"},
	} {
		got := ""
		// The one answer that comes later than what it follows from is that of a session whose child is gone.
		await.That(t, tt.name, func() bool {
			got = c.send(tt.method, tt.session, tt.body)
			return tt.name != "afterwards" || strings.HasPrefix(got, "404")
		})
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	page, err := http.NewRequest("POST", c.url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize"}`))
	if err != nil {
		t.Fatal(err)
	}
	page.Header.Set("Origin", "https://evil.example")
	if resp, err := http.DefaultClient.Do(page); err != nil || resp.StatusCode != 403 {
		t.Errorf("a web page: %v, %v", resp, err)
	}
	other := c.open()
	if got := c.send("DELETE", other, ""); got != "204" {
		t.Errorf("DELETE: %s", got)
	}
	if got := c.send("POST", other, call("quick")); !strings.HasPrefix(got, "404") {
		t.Errorf("after DELETE: %s", got)
	}
}

// TestQuestion: what the server asks is a part of the call's answer, and what the client answers goes to the child.
func TestQuestion(t *testing.T) {
	_, c := start(t, 4)
	id := c.open()
	resp, err := c.do(t.Context(), "POST", id, call("ask"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"elicitation/create"`) {
		t.Fatalf("no question: %s", lines.Text())
	}
	if got := c.send("POST", id, `{"jsonrpc":"2.0","id":"q1","result":{"action":"accept"}}`); got != "202" {
		t.Errorf("the answer: %s", got)
	}
	for lines.Scan() && !strings.Contains(lines.Text(), `"asked":true`) {
	}
	if !strings.Contains(lines.Text(), `"asked":true`) {
		t.Error("the call is not answered")
	}
}

// TestStream: what is part of no call waits for the client's stream, and goes to the newer one of two.
func TestStream(t *testing.T) {
	s, c := start(t, 4)
	id := c.open()
	c.send("POST", id, call("slow"))
	next := func(resp *http.Response) string {
		line, _ := bufio.NewReader(resp.Body).ReadString('\n')
		return strings.TrimSpace(line)
	}
	open := func() *http.Response {
		resp, err := c.do(t.Context(), "GET", id, "")
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first := open()
	defer first.Body.Close()
	if got := next(first); !strings.Contains(got, "list_changed") {
		t.Errorf("what waited: %q", got)
	}
	second := open()
	defer second.Body.Close()
	c.send("POST", id, call("slow"))
	if got := next(second); !strings.Contains(got, "list_changed") {
		t.Errorf("the newer stream: %q", got)
	}
	if rest, err := io.ReadAll(first.Body); err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		t.Errorf("the older stream does not end: %q, %v", rest, err)
	}
	s.Drain()
	if _, err := io.ReadAll(second.Body); err != nil {
		t.Errorf("it does not end when the bridge stops: %v", err)
	}
	if s.ready() == nil {
		t.Error("it is ready while it stops")
	}
	s.stopped = make(chan struct{}) // for the end of the test
}

// TestAlone: requests of 2026-07-28 have a child of their own kind, a subscription gets what it asked for, and whoever goes
// has cancelled.
func TestAlone(t *testing.T) {
	s, c := start(t, 4)
	child := func(ctx context.Context, method, name, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, c.url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(childHeader, name)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	send := func(method, name, body string) string {
		t.Helper()
		resp := child(t.Context(), method, name, body)
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, text))
	}
	if got := send("POST", "a", `{"jsonrpc":"2.0","id":1,"method":"server/discover"}`); !strings.Contains(got, "2026-07-28") {
		t.Errorf("discover: %s", got)
	}
	for _, tt := range [][2]string{{"a", `"n":1`}, {"a", `"n":2`}, {"b", `"n":1`}} {
		if got := send("POST", tt[0], call("quick")); !strings.Contains(got, tt[1]) {
			t.Errorf("child %s: %s, want %s", tt[0], got, tt[1])
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	listening := child(ctx, "POST", "a", `{"jsonrpc":"2.0","id":9,"method":"subscriptions/listen","params":{}}`)
	defer listening.Body.Close()
	events := bufio.NewScanner(listening.Body)
	next := func(want string) {
		t.Helper()
		for events.Scan() && events.Text() == "" {
		}
		if !strings.Contains(events.Text(), want) {
			t.Errorf("the subscription brings %q, want %s", events.Text(), want)
		}
	}
	next("acknowledged")
	if got := send("POST", "a", call("change")); !strings.Contains(got, `"changed":true`) {
		t.Errorf("a change: %s", got)
	}
	next("list_changed")
	leave()
	await.That(t, "it is cancelled", func() bool { return strings.Contains(send("POST", "a", call("cancelled")), `"requestId":9`) })
	if got := send("GET", "a", ""); !strings.HasPrefix(got, "405") {
		t.Errorf("GET: %s", got)
	}
	if got := send("DELETE", "a", ""); got != "204" || s.find("child a") != nil {
		t.Errorf("DELETE: %s", got)
	}
	if got := send("POST", "a", call("quick")); !strings.Contains(got, `"n":1`) {
		t.Errorf("a new child: %s", got)
	}
}

func inCall(c *session) bool {
	since, _ := c.idleSince()
	return since.IsZero()
}

// TestPlaces: the session that was longest without a call makes room; where all are in calls, nobody's does.
func TestPlaces(t *testing.T) {
	s, c := start(t, 2)
	a, b := c.open(), c.open()
	if got := c.send("POST", a, call("quick")); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	d := c.open()
	if got := c.send("POST", b, call("quick")); !strings.HasPrefix(got, "404") {
		t.Errorf("the longest idle one lives: %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, id := range []string{a, d} {
		go func() {
			if resp, err := c.do(ctx, "POST", id, call("hang")); err == nil {
				resp.Body.Close()
			}
		}()
		await.That(t, "the call runs", func() bool { return inCall(s.find(id)) })
	}
	want := `503 application/json {"error":{"code":-32603,"message":"all 2 sessions are in calls"},"id":1,"jsonrpc":"2.0"}`
	if got := c.send("POST", "", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`); got != want {
		t.Errorf("one more: %s", got)
	}
	s.reap(time.Now().Add(time.Hour))
	if s.find(a) == nil {
		t.Error("a session in a call was ended")
	}
	cancel()
	await.That(t, "the calls have ended", func() bool { return !inCall(s.find(a)) && !inCall(s.find(d)) })
	s.reap(time.Now().Add(time.Hour))
	if s.find(a) != nil {
		t.Error("an idle session is kept")
	}
}
