package mcptest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
)

// Answer is what a raw server writes for one JSON-RPC method, byte for byte but for three placeholders: ID is the
// request's id, TOKEN its progress token or null, -N a dash and the number of requests of that method so far, from 1.
type Answer struct {
	Status int               // 0: 200
	Type   string            // content type; empty: application/json
	Header map[string]string // further response headers
	Body   string
	Hold   bool // keep the response open after Body until the client goes away, and write there what Push sends
	Reset  bool // reset the connection after Body
	Gzip   bool // compress Body, whatever the client accepts
	Old    bool // answer 200 in HTTP/1.0, with an end of the connection in place of a length
}

// NoType is the Type of an answer that says none.
const NoType = "none"

// SSE is an answer of server-sent events.
func SSE(body string) Answer { return Answer{Type: "text/event-stream", Body: body} }

// JSON is an answer of one JSON text.
func JSON(body string) Answer { return Answer{Body: body} }

// NewRaw starts a hand-written server, free of any SDK. answers is keyed by JSON-RPC method, or GET or DELETE for
// those HTTP methods, or a path; for one version or page only by "initialize" and the version, or the method and the
// cursor. What is not in answers behaves: server/discover and initialize as era says, notifications are
// accepted, everything else is -32601.
func NewRaw(tb testing.TB, era Era, answers map[string]Answer) *HTTP {
	tb.Helper()
	h := &HTTP{done: make(chan struct{}), released: make(chan struct{})}
	all := behaving(era)
	maps.Copy(all, answers)
	h.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serveRaw(w, r, all) })
	h.server = httptest.NewServer(h)
	h.URL = h.server.URL + "/mcp"
	tb.Cleanup(h.Close)
	return h
}

// behaving are the answers of a raw server that nobody told otherwise.
func behaving(era Era) map[string]Answer {
	all := map[string]Answer{
		"initialize": {Header: map[string]string{"Mcp-Session-Id": "raw-N"},
			Body: `{"jsonrpc":"2.0","id":ID,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"prompts":{},"resources":{}},"serverInfo":{"name":"raw","version":"0"}}}`},
		"server/discover": JSON(`{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"prompts":{},"resources":{}},"ttlMs":0,"cacheScope":"private"}}`),
		"GET":             {Status: http.StatusMethodNotAllowed, Type: "text/plain", Body: "no"},
		"DELETE":          {Status: http.StatusOK, Type: "text/plain"},
	}
	switch era {
	case Legacy:
		all["server/discover"] = Answer{Status: http.StatusBadRequest, Type: "text/plain", Body: "Bad Request: no session"}
	case Dual:
		answer := all["server/discover"]
		answer.Body = strings.Replace(answer.Body, `"2026-07-28"`, `"2026-07-28","2025-11-25"`, 1)
		all["server/discover"] = answer
	case Modern:
		all["initialize"] = Answer{Status: http.StatusBadRequest,
			Body: `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"unsupported","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}}}`}
	}
	return all
}

const unknownMethod = `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"method not found"}}`

// Push writes a message to the stream that a client holds open in a session at this server; it waits for the stream.
func (h *HTTP) Push(tb testing.TB, session, message string) {
	tb.Helper()
	select {
	case h.pushed(session) <- message:
	case <-time.After(await.Limit):
		tb.Fatalf("no stream is open in session %s", session)
	}
}

func (h *HTTP) pushed(session string) chan string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.push[session] == nil {
		if h.push == nil {
			h.push = map[string]chan string{}
		}
		h.push[session] = make(chan string)
	}
	return h.push[session]
}

func (h *HTTP) serveRaw(w http.ResponseWriter, r *http.Request, answers map[string]Answer) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var req struct {
		ID     json.RawMessage
		Method string
		Params struct {
			Meta            struct{ ProgressToken json.RawMessage } `json:"_meta"`
			ProtocolVersion string
			Cursor          string
		}
	}
	json.Unmarshal(body, &req)
	key := req.Method
	if r.Method != http.MethodPost {
		key = r.Method
	}
	answer, ok := answers[r.URL.Path]
	if !ok {
		answer, ok = answers[key+" "+req.Params.ProtocolVersion+req.Params.Cursor]
	}
	if !ok {
		answer, ok = answers[key]
	}
	switch {
	case ok:
	case req.ID == nil || req.Method == "":
		answer = Answer{Status: http.StatusAccepted}
	default:
		answer = JSON(unknownMethod)
	}
	n := 0
	for _, seen := range h.Requests() {
		if seen.Method == req.Method && seen.HTTP == r.Method {
			n++
		}
	}
	token := string(req.Params.Meta.ProgressToken)
	if token == "" {
		token = "null"
	}
	fill := strings.NewReplacer("ID", string(req.ID), "TOKEN", token, "-N", "-"+strconv.Itoa(n))
	for name, value := range answer.Header {
		w.Header().Set(name, fill.Replace(value))
	}
	if answer.Type == "" && answer.Status != http.StatusAccepted {
		answer.Type = "application/json"
	}
	if w.Header().Set("Content-Type", answer.Type); answer.Type == NoType {
		w.Header()["Content-Type"] = nil
	}
	text := fill.Replace(answer.Body)
	if answer.Old {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err) // HTTP/1.1 only
		}
		io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Type: "+answer.Type+"\r\n\r\n"+text)
		conn.Close()
		return
	}
	if answer.Gzip {
		w.Header().Set("Content-Encoding", "gzip")
		var b bytes.Buffer
		zip := gzip.NewWriter(&b)
		io.WriteString(zip, text)
		zip.Close()
		text = b.String()
	}
	if answer.Status != 0 {
		w.WriteHeader(answer.Status)
	}
	io.WriteString(w, text)
	http.NewResponseController(w).Flush()
	switch {
	case answer.Hold:
		for pushed := h.pushed(r.Header.Get("Mcp-Session-Id")); ; {
			select {
			case msg := <-pushed:
				io.WriteString(w, "data: "+msg+"\n\n")
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			case <-h.done:
				return
			}
		}
	case answer.Reset:
		resetConn(w)
	}
}
