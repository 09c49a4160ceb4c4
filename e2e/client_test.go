package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"vmcp/internal/await"
	"vmcp/internal/mcpwire"
)

// request is one HTTP request to the endpoint.
type request struct {
	method  string // POST where empty
	token   string
	session string
	body    string
	header  http.Header
	client  *http.Client // default: through Envoy
	url     string       // default: the endpoint
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (w *world) send(t *testing.T, r request) answer {
	t.Helper()
	a, err := w.try(r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// plain is the client of most requests: no proxy, many connections kept.
var plain = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func (w *world) try(r request) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	req, err := w.http(ctx, r)
	if err != nil {
		return answer{}, err
	}
	client := r.client
	if client == nil {
		client = plain
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// http makes the HTTP request. What r.header says replaces what is usual.
func (w *world) http(ctx context.Context, r request) (*http.Request, error) {
	method, url := r.method, r.url
	if method == "" {
		method = "POST"
	}
	if url == "" {
		url = w.URL
	}
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if host := r.header.Get("Host"); host != "" {
		req.Host = host
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.session != "" {
		req.Header.Set("Mcp-Session-Id", r.session)
	}
	return req, nil
}

// reply is the JSON-RPC response in an answer.
type reply struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  *struct {
		Code    int
		Message string
		Data    json.RawMessage
	}
}

// reply reads the response: the body, or the last event of a stream. Zero where there is none.
func (a answer) reply() reply {
	body := []byte(a.body)
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		if i := bytes.LastIndex(body, []byte("data: ")); i >= 0 {
			body = body[i+len("data: "):]
		}
	}
	var r reply
	json.Unmarshal(body, &r) // a body that is no JSON-RPC has neither result nor error
	return r
}

// code is the JSON-RPC error code, 0 where there is none.
func (a answer) code() int {
	if e := a.reply().Error; e != nil {
		return e.Code
	}
	return 0
}

func (a answer) ok() bool { return a.status == 200 && a.reply().Result != nil }

const initialize = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"e2e","version":"1"}}}`

// open initializes a legacy session and returns its id.
func (w *world) open(t *testing.T, token string) string {
	t.Helper()
	id, err := w.tryOpen(token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (w *world) tryOpen(token string) (string, error) {
	a, err := w.try(request{token: token, body: initialize})
	if err != nil {
		return "", err
	}
	id := a.header.Get("Mcp-Session-Id")
	if a.status != 200 || id == "" {
		return "", fmt.Errorf("initialize: %d %s", a.status, a.body)
	}
	return id, nil
}

// caller speaks for one person in one era.
type caller struct {
	w       *world
	token   string
	modern  bool
	session string // legacy: opened with the first request
}

// meta is what every 2026-07-28 request says of its client.
const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"e2e","version":"1"}}`

// message is a request in the caller's era. params are the members of params, without braces; name is what it names.
func (c *caller) message(method, params, name string) request {
	r := request{token: c.token, session: c.session}
	if c.modern {
		if params != "" {
			params += ","
		}
		params += meta
		r.header = http.Header{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method}}
		if name != "" {
			r.header.Set("Mcp-Name", mcpwire.EncodeHeader(name))
		}
	}
	r.body = `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + params + `}}`
	return r
}

// ask sends one request; a legacy caller opens its session first.
func (c *caller) ask(t *testing.T, method, params, name string) answer {
	t.Helper()
	if !c.modern && c.session == "" {
		c.session = c.w.open(t, c.token)
	}
	return c.w.send(t, c.message(method, params, name))
}

func (c *caller) call(t *testing.T, tool, arguments string) answer {
	t.Helper()
	return c.ask(t, "tools/call", `"name":`+quoted(tool)+`,"arguments":`+arguments, tool)
}

func (c *caller) prompt(t *testing.T, name, arguments string) answer {
	t.Helper()
	return c.ask(t, "prompts/get", `"name":`+quoted(name)+`,"arguments":`+arguments, name)
}

func (c *caller) read(t *testing.T, uri string) answer {
	t.Helper()
	return c.ask(t, "resources/read", `"uri":`+quoted(uri), uri)
}

// kind is a kind of item: how it is listed.
type kind struct{ method, member, key string }

var kinds = map[string]kind{
	"tools":     {"tools/list", "tools", "name"},
	"prompts":   {"prompts/list", "prompts", "name"},
	"resources": {"resources/list", "resources", "uri"},
	"templates": {"resources/templates/list", "resourceTemplates", "uriTemplate"},
}

// list is what the caller sees of a kind, over all pages.
func (c *caller) list(t *testing.T, of string) []string {
	t.Helper()
	k := kinds[of]
	var names []string
	for params := ""; ; {
		a := c.ask(t, k.method, params, "")
		if !a.ok() {
			t.Fatalf("%s: %d %s", k.method, a.status, a.body)
		}
		var page map[string]json.RawMessage
		var items []map[string]any
		if err := json.Unmarshal(a.reply().Result, &page); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(page[k.member], &items); err != nil {
			t.Fatalf("%s: %v in %s", k.method, err, a.body)
		}
		for _, it := range items {
			names = append(names, it[k.key].(string))
		}
		if page["nextCursor"] == nil {
			return names
		}
		params = `"cursor":` + string(page["nextCursor"])
	}
}

func quoted(s string) string { return string(mcpwire.Quote(s)) }

func toolCall(name string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + name + `","arguments":{"namespace":"staging","name":"staging"}}}`
}

func base64String(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
