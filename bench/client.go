package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// target is an MCP endpoint and how to speak to it.
type target struct {
	url    string
	token  string // empty: none
	modern bool
	client *http.Client
	prefix string // of tool names
	size   int    // bytes of a call's result; 0: 100
}

func newTarget(url, token, prefix string, modern bool) *target {
	return &target{url: url, token: token, modern: modern, prefix: prefix,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2000, MaxIdleConns: 4000, DisableCompression: true}}}
}

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}}`

// request is an HTTP request with the headers that all have.
func (t *target) request(ctx context.Context, verb, session string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, verb, t.url, body)
	if err != nil {
		return nil, err
	}
	h := req.Header
	h["Accept"] = []string{"application/json, text/event-stream"}
	if t.token != "" {
		h["Authorization"] = []string{"Bearer " + t.token}
	}
	if session != "" {
		h["Mcp-Session-Id"] = []string{session}
	}
	return req, nil
}

// send posts one message and returns session id and body.
func (t *target) send(ctx context.Context, session, method, name string, body []byte) (string, []byte, error) {
	req, err := t.request(ctx, "POST", session, bytes.NewReader(body))
	if err != nil {
		return "", nil, err
	}
	h := req.Header
	h["Content-Type"] = []string{"application/json"}
	if t.modern {
		h["Mcp-Protocol-Version"] = []string{"2026-07-28"}
		h["Mcp-Method"] = []string{method}
		if name != "" {
			h["Mcp-Name"] = []string{name}
		}
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", nil, err
	}
	if resp.StatusCode != 200 && resp.StatusCode != 202 || bytes.Contains(text[:min(len(text), 200)], []byte(`"error"`)) {
		return "", nil, fmt.Errorf("%s: %d %.300s", method, resp.StatusCode, text)
	}
	return resp.Header.Get("Mcp-Session-Id"), text, nil
}

// open makes a session, where the era has them.
func (t *target) open(ctx context.Context) (string, error) {
	if t.modern {
		return "", nil
	}
	id, _, err := t.send(ctx, "", "initialize", "", []byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`))
	if err != nil {
		return "", err
	}
	_, _, err = t.send(ctx, id, "notifications/initialized", "", []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	return id, err
}

func (t *target) meta() string {
	if t.modern {
		return "," + modernMeta
	}
	return ""
}

// chunk is 64 bytes, what results of a given size are repetitions of.
const chunk = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

// call sends a tools/call with an argument of 100 bytes that comes back, or one whose result has t.size bytes.
func (t *target) call(ctx context.Context, session string, id int) error {
	text, count := chunk+chunk[:36], 1
	if t.size > 0 {
		text, count = chunk, t.size/len(chunk)
	}
	name := t.prefix + "echo"
	_, body, err := t.send(ctx, session, "tools/call", name,
		fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":{"text":"%s","count":%d}%s}}`,
			id, name, text, count, t.meta()))
	if err == nil && (!bytes.Contains(body, []byte(text)) || len(body) < len(text)*count) {
		err = fmt.Errorf("the answer is not the echo: %.200s", body)
	}
	return err
}

func (t *target) list(ctx context.Context, session string, id int) ([]byte, error) {
	params := "{}"
	if t.modern {
		params = "{" + modernMeta + "}"
	}
	_, body, err := t.send(ctx, session, "tools/list", "", fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"tools/list","params":%s}`, id, params))
	return body, err
}

// load runs op from n clients for the given time and returns what it took.
func load(ctx context.Context, n int, d time.Duration, pids []int, op func(ctx context.Context, client, i int) error) (sample, error) {
	warm := time.Now().Add(300 * time.Millisecond)
	var measuring atomic.Bool
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for c := range n {
		wg.Go(func() {
			var mine []time.Duration
			for i := 1; ; i++ {
				select {
				case <-stop:
					mu.Lock()
					all = append(all, mine...)
					mu.Unlock()
					return
				default:
				}
				start := time.Now()
				if err := op(ctx, c, i); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				if measuring.Load() {
					mine = append(mine, time.Since(start))
				}
			}
		})
	}
	time.Sleep(time.Until(warm))
	before := cpu(pids)
	measuring.Store(true)
	start := time.Now()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	measuring.Store(false)
	took := time.Since(start)
	after := cpu(pids)
	close(stop)
	wg.Wait()
	if failed != nil || len(all) == 0 {
		return sample{}, fmt.Errorf("%d operations, then: %v", len(all), failed)
	}
	slices.Sort(all)
	s := sample{n: len(all), rate: float64(len(all)) / took.Seconds(), p50: all[len(all)/2], p99: all[len(all)*99/100]}
	for i := range pids {
		s.cpu = append(s.cpu, (after[i]-before[i]).Seconds()*1000/float64(len(all)))
	}
	return s, nil
}

// sample is one measurement. cpu is milliseconds per operation, by process.
type sample struct {
	n        int
	rate     float64
	p50, p99 time.Duration
	cpu      []float64
}

func (s sample) total() (ms float64) {
	for _, c := range s.cpu {
		ms += c
	}
	return ms
}
