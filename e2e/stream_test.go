package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vmcp/internal/await"
	"vmcp/internal/mcptest"
)

// stream is an open event stream.
type stream struct {
	events chan string // data of each event; closed at the end of the stream
	close  func()
}

// follow opens a stream: a legacy caller's GET, or a modern caller's listen for all lists.
func (c *caller) follow(t *testing.T) *stream {
	t.Helper()
	s, err := c.tryFollow(plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func (c *caller) tryFollow(client *http.Client) (*stream, error) {
	r := request{method: "GET", token: c.token}
	if c.modern {
		r = c.message("subscriptions/listen", `"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}`, "")
	} else {
		if c.session == "" {
			var err error
			if c.session, err = c.w.tryOpen(c.token); err != nil {
				return nil, err
			}
		}
		r.session = c.session
	}
	ctx, cancel := context.WithCancel(context.Background())
	req, err := c.w.http(ctx, r)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		cancel()
		return nil, fmt.Errorf("no stream: %d %s", resp.StatusCode, text)
	}
	s := &stream{events: make(chan string, 100)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(s.events)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				s.events <- data
			}
		}
	}()
	s.close = func() { cancel(); <-ended }
	return s, nil
}

// expect waits for an event that holds the text.
func (s *stream) expect(t *testing.T, text string) string {
	t.Helper()
	late := time.After(await.Limit)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				t.Fatalf("the stream ended before %s", text)
			}
			if strings.Contains(e, text) {
				return e
			}
		case <-late:
			t.Fatalf("%s never came", text)
		}
	}
}

// end waits for the end of the stream and returns the last event.
func (s *stream) end(t *testing.T) string {
	t.Helper()
	last, late := "", time.After(await.Limit)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				return last
			}
			last = e
		case <-late:
			t.Fatal("the stream does not end")
		}
	}
}

// TestTokenExpiry: a stream is no way to stay longer than the token allows.
func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	w := start(t, guide)
	exp := time.Now().Add(8 * time.Second).Unix() // time enough to open the streams before, on a busy machine too
	token := w.tokenFor("ann", []string{"mcp-developers"}, map[string]any{"exp": exp})
	legacy, modern := &caller{w: w, token: token}, &caller{w: w, token: token, modern: true}
	get, listen := legacy.follow(t), modern.follow(t)
	if ack := listen.expect(t, "acknowledged"); !strings.Contains(ack, `"toolsListChanged":true`) {
		t.Errorf("acknowledged with %s", ack)
	}
	get.end(t)
	if last := listen.end(t); !strings.Contains(last, `"resultType":"complete"`) { // SU-6
		t.Errorf("the listen ended with %s", last)
	}
	if now := time.Now(); now.Unix() < exp {
		t.Errorf("the streams ended %s before the token", time.Unix(exp, 0).Sub(now))
	}
	if a := w.send(t, legacy.message("tools/list", "", "")); a.status != 401 {
		t.Errorf("a request after the token's end: %d %s, want 401", a.status, a.body)
	}
}

// TestManyStreams: open streams cost no call its answer (with Envoy's default circuit breakers everything stalls at 1,024).
func TestManyStreams(t *testing.T) {
	n := 1500
	var limit syscall.Rlimit // Go and Envoy raise their own soft limits
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if need := uint64(3 * n); limit.Max < need { // Envoy has two sockets for each stream
		t.Fatalf("%d open files are allowed, %d needed: raise the hard limit (ulimit -Hn)", limit.Max, need)
	}
	w := start(t, guide)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 0}}
	people := make([]*caller, 30) // 50 streams each
	for i := range people {
		people[i] = &caller{w: w, token: w.token(fmt.Sprintf("person-%d", i), "mcp-developers"), modern: i%2 == 0}
	}
	var mu sync.Mutex
	var open []*stream
	var failures []error
	t.Cleanup(func() {
		for _, s := range open {
			s.close()
		}
		client.CloseIdleConnections()
	})
	var wg sync.WaitGroup
	for _, who := range people {
		wg.Go(func() {
			for range n / len(people) {
				c := *who
				c.session = "" // a session has one stream
				s, err := c.tryFollow(client)
				mu.Lock()
				if err != nil {
					failures = append(failures, err)
				} else {
					open = append(open, s)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(failures) > 0 {
		t.Fatalf("%d streams open, %d not: %v", len(open), len(failures), failures[0])
	}
	for _, modern := range []bool{false, true} {
		c := &caller{w: w, token: w.token("ann", "mcp-developers"), modern: modern}
		for range 20 {
			if a := c.call(t, "kubernetes-backend_get_pods", `{"namespace":"shop"}`); !a.ok() {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if got := c.list(t, "tools"); len(got) != 19 {
				t.Fatalf("%d tools are listed", len(got))
			}
		}
	}
	for _, s := range open { // none was given up meanwhile
		select {
		case _, ok := <-s.events:
			if !ok {
				t.Fatal("a stream ended")
			}
		default:
		}
	}
}

// TestListChanged: a backend gets another tool, and every client that listens is told, in the words of its era. A legacy
// backend says so on its stream; any other is found out at the next health check, so these are often here.
func TestListChanged(t *testing.T) {
	t.Parallel()
	for era, name := range map[mcptest.Era]string{mcptest.Legacy: "legacy", mcptest.Modern: "modern", mcptest.Dual: "dual"} {
		t.Run(name+" backend", func(t *testing.T) {
			var servers []*mcp.Server
			h := mcptest.NewHTTP(t, mcptest.Options{Era: era, Server: func(versions []string) *mcp.Server {
				s := mcptest.Probe(1, versions, nil)
				servers = append(servers, s)
				return s
			}})
			w := start(t, guide, behind("growing", h.URL), config("operational:\n  failureHandling: {healthCheckInterval: 1s}"))
			legacy, modern := w.developers()
			before := legacy.list(t, "tools")
			get, listen := legacy.follow(t), modern.follow(t)
			listen.expect(t, "acknowledged")
			for _, s := range servers {
				s.AddTool(&mcp.Tool{Name: "grown", InputSchema: json.RawMessage(`{"type":"object"}`)},
					func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
						return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "big"}}}, nil
					})
			}
			get.expect(t, "notifications/tools/list_changed")
			listen.expect(t, "notifications/tools/list_changed")
			for _, c := range []*caller{legacy, modern} {
				if got := c.list(t, "tools"); len(got) != len(before)+1 || !slices.Contains(got, "growing_grown") {
					t.Errorf("listed are %q", got)
				}
				if a := c.call(t, "growing_grown", "{}"); !a.ok() || !strings.Contains(a.body, "big") {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
}
