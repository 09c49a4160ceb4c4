package gateway

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
	"vmcp/internal/secret"
	"vmcp/services/aggregator/internal/backend"
	"vmcp/services/aggregator/internal/inventory"
)

// programs is the folder of the servers that are children.
var programs string

func TestMain(m *testing.M) { mcptest.RunWithPrograms(m, func(folder string) { programs = folder }) }

// answers are what an odd server says by method; methods that it leaves out it answers as any other server does.
type answers map[string]mcptest.Answer

// odd is one fault as servers have it.
type odd struct {
	name    string
	over    string // http or stdio; empty: both
	timeout time.Duration
	answers answers

	tools string // of the odd server that clients see; empty: t
	left  string // in what the status says of it
	call  string // in what a call of t is answered; empty: ran
}

func result(members string) mcptest.Answer {
	return mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{` + members + `}}`)
}

const toolT = `{"name":"t","inputSchema":{"type":"object"}}`

// listed answers tools/list with t and these.
func listed(tools ...string) answers {
	return answers{"tools/list": result(`"tools":[` + strings.Join(append(tools, toolT), ",") + `]`)}
}

func initialized(members string) mcptest.Answer {
	return result(`"protocolVersion":"2025-11-25","serverInfo":{"name":"odd","version":"0"},` + members)
}

// pages lists fifty tools on each of a hundred pages, and t.
func pages() answers {
	var fifty []string
	for i := range 50 {
		fifty = append(fifty, fmt.Sprintf(`{"name":"a%02d-N"}`, i))
	}
	page := `"tools":[` + strings.Join(fifty, ",") + `]`
	return answers{"tools/list": result(page + `,"nextCursor":"c-N"`), "tools/list c-99": result(page + `,"nextCursor":"last"`), "tools/list last": listed()["tools/list"]}
}

// hundred are the names on pages, and these, in order.
func hundred(names ...string) string {
	for i := range 50 {
		for page := range 100 {
			names = append(names, fmt.Sprintf("a%02d-%d", i, page+1))
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

var oddDefinitions = []odd{
	{name: "members of other types", answers: listed(`{"name":"u","description":5,"annotations":null,"title":null}`), tools: "t u"},
	{name: "a schema that is a string", answers: listed(`{"name":"u","inputSchema":"none"}`), left: "inputSchema is a string"},
	{name: "no object among tools", answers: listed(`null`, `"u"`, `{"name":7}`), left: "3 without a readable name"},
	{name: "a name twice", answers: listed(`{"name":"u"}`, `{"name":"u","title":"U"}`), left: "defined twice"},
	{name: "names", answers: listed(`{"name":"a.b/c"}`, `{"name":"größe 名"}`), tools: "a.b/c größe 名 t"},
	{name: "a prompt", answers: answers{"prompts/list": result(`"prompts":[{"name":"p","arguments":{}}]`)}, left: "arguments is an object"},
	{name: "lists that are null", answers: answers{"prompts/list": result(`"prompts":null`), "resources/list": result(``)}},
	{name: "an empty cursor", answers: answers{"tools/list": result(`"tools":[` + toolT + `],"nextCursor":""`)}},
	{name: "a cursor that comes again", answers: answers{"tools/list": result(`"tools":[` + toolT + `],"nextCursor":"more"`)}},
	{name: "a hundred pages", over: "http", timeout: 5 * time.Minute, answers: pages(), tools: hundred("t")},
	{name: "a list that fails", answers: answers{"prompts/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"no database"}}`)}, left: "no database"},
	{name: "a list that is no list", answers: answers{"resources/list": result(`"resources":{"a":1}`)}, left: "not a JSON array"},
	{name: "a list that hangs", timeout: 5 * time.Second, answers: answers{"prompts/list": {Type: "text/event-stream", Hold: true}}, left: "timed out"},
	{name: "a list that does not end", over: "http", timeout: 5 * time.Minute, answers: answers{"resources/templates/list": result(`"resourceTemplates":[],"nextCursor":"-N"`)}, left: "is longer than"},
	{name: "a list that is too long", over: "http", timeout: 5 * time.Minute, answers: answers{"resources/list": result(`"resources":[` + strings.Repeat(`{"uri":"u"},`, 20_000) + `{"uri":"u"}]`)}, left: "is longer than"},
	{name: "no capabilities", answers: answers{"initialize": initialized(`"capabilities":{}`)}},
	{name: "capabilities that are null", answers: answers{"initialize": initialized(`"capabilities":null`)}},
	{name: "output that is no object", answers: answers{"tools/list": result(`"tools":[{"name":"t","outputSchema":{"type":"array"}}]`),
		"tools/call": result(`"content":[{"type":"text","text":"ran"}],"structuredContent":[1]`)}, call: `"result":{"content":[{"type":"text","text":"ran"}]}`},
}

const ran = `"result":{"content":[{"type":"text","text":"ran"}]}`

var oddMessages = []odd{
	{name: "an error beside a result", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,` + ran + `,"error":null}`)}, call: ran + "}"},
	{name: "an error that is a text", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":"it broke"}`)}, call: `"error":{"code":-32603,"message":"it broke"}`},
	{name: "an error without words", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":"E1","data":{"a":1}}}`)},
		call: `"error":{"message":"an error without words","code":-32603,"data":{"a":1}}`},
	{name: "an id that became text", answers: answers{"initialize": mcptest.JSON(`{"jsonrpc":"2.0","id":"ID","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}`),
		"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":"ID",` + ran + `}`)}, call: `"id":2,`},
	{name: "an id that became a fraction", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID.0,` + ran + `}`)}, call: `"id":2,`},
	{name: "half a character", answers: answers{"tools/call": result(`"content":[{"type":"text","text":"ran \ud83d"}]`)}, call: `ran \ufffd"`},
	{name: "no UTF-8", answers: answers{"tools/call": result("\"content\":[{\"type\":\"text\",\"text\":\"ran \xff\"}]")}, call: "ran \uFFFD\""},
	{name: "a byte order mark", answers: answers{"initialize": mcptest.JSON("\ufeff" + initialized(`"capabilities":{"tools":{}}`).Body)}},
	{name: "two documents", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{}}{}`)}, call: "sent an invalid answer"},
	{name: "a batch", answers: answers{"tools/call": mcptest.JSON(`[{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}},{"jsonrpc":"2.0","id":ID,` + ran + `}]`),
		"tools/list": mcptest.JSON(` [{"jsonrpc":"2.0","id":ID,"result":{"tools":[` + toolT + `]}}]`)}},
	{name: "an empty batch", timeout: 5 * time.Second, over: "http", answers: answers{"tools/call": mcptest.JSON(`[]`)}, call: "sent an invalid answer"},
	{name: "the id of nobody", timeout: 5 * time.Second, over: "http", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":99,` + ran + `}`)}, call: "sent an invalid answer"},

	{name: "lines of a log", over: "stdio", answers: answers{"start": mcptest.JSON("\ufeffready\n{\"level\":\"info\",\"id\":1}\n\n[1]\n{"),
		"tools/call": mcptest.JSON(`{"level":"info","error":"none","id":ID}` + "\r\n \t{\"jsonrpc\":\"2.0\",\"id\":ID," + ran + "}\r")}},
	{name: "answers to a notification", over: "stdio", answers: answers{
		"notifications/initialized": mcptest.JSON(`{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"method not found"}}` + "\n" + `{"jsonrpc":"2.0","id":null,"result":{}}`)}},
	{name: "answers to requests of long ago", over: "stdio", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":0,"result":{"old":1}}` + "\n" +
		`{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"old"}}` + "\n" + `{"jsonrpc":"2.0","id":ID,` + ran + `}`)}},
	{name: "a question with the id of the call", over: "stdio", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"method":"ping"}` + "\n" +
		`{"jsonrpc":"2.0","id":ID,"method":"ping"}` + "\n" + `{"jsonrpc":"2.0","id":ID,` + ran + `}`)}},
	{name: "a line too long", over: "stdio", answers: answers{"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"a":"-LONG"}}`)}, call: "sent an invalid answer"},
	{name: "an error of a request that it could not read", over: "stdio", answers: answers{
		"tools/call": mcptest.JSON(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"it broke"}}`)}, call: "it broke"},
}

// stream is an answer to a call whose events are made of the one message, or of its two parts.
func stream(format string) answers {
	message := `{"jsonrpc":"2.0","id":ID,` + ran + `}`
	text := strings.NewReplacer("MESSAGE", message, "HEAD", message[:17], "TAIL", message[17:]).Replace(format)
	return answers{"tools/call": mcptest.SSE(text)}
}

func call(change func(*mcptest.Answer)) answers {
	a := mcptest.JSON(`{"jsonrpc":"2.0","id":ID,` + ran + `}`)
	change(&a)
	return answers{"tools/call": a}
}

var (
	versionText = mcptest.Answer{Status: 400, Type: "text/plain", Body: "Unsupported protocol version"}
	versionData = mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"version","data":{"supported":["2024-11-05"],"requested":"x"}}}`)
	versionOnly = mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"version"}}`)
	webPage     = mcptest.Answer{Type: "text/html", Body: "<html>"}
	listens     = initialized(`"capabilities":{"tools":{"listChanged":true}}`)
)

var oddHTTP = []odd{
	{name: "no content type", answers: call(func(a *mcptest.Answer) { a.Type = mcptest.NoType })},
	{name: "upper case", answers: call(func(a *mcptest.Answer) { a.Type = "Application/JSON;Charset=" })},
	{name: "plain text", answers: call(func(a *mcptest.Answer) { a.Type, a.Body = "text/plain; charset=utf-8", "\n "+a.Body })},
	{name: "gzip unasked", answers: call(func(a *mcptest.Answer) { a.Gzip = true })},
	{name: "HTTP of 1996", answers: call(func(a *mcptest.Answer) { a.Old = true })},
	{name: "another session id", answers: call(func(a *mcptest.Answer) { a.Header = map[string]string{"Mcp-Session-Id": "other-N"} })},
	{name: "a page for a call", answers: answers{"tools/call": webPage}, call: "sent an invalid answer"},
	{name: "a stream for a notification", answers: answers{"notifications/initialized": {Type: "text/event-stream", Hold: true}}},

	{name: "CR, no space", answers: stream("data:MESSAGE\r\r")},
	{name: "lines, comments, a mark", answers: stream("\ufeff: hello\ndata: HEAD\ndata: TAIL\n: x\n\n")},
	{name: "no end", answers: stream("data: MESSAGE")},
	{name: "a batch in an event", answers: stream("data: [{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":1}},MESSAGE]\n\n")},
	{name: "an event with a name", answers: stream("event: ping\ndata: {}\n\nevent: response\ndata: MESSAGE\n\n")},
	{name: "signs of life", answers: stream("data: ping\n\ndata: {}\n\ndata: MESSAGE\n\n")},
	{name: "a stream without a type", answers: func() answers {
		a := stream("data: MESSAGE\n\n")["tools/call"]
		a.Type = mcptest.NoType
		return answers{"tools/call": a}
	}()},

	{name: "a page for a stream", answers: answers{"initialize": listens, "GET": webPage}},
	{name: "a stream that ends", answers: answers{"initialize": listens, "GET": mcptest.SSE("")}},
	{name: "a stream that fails", answers: answers{"initialize": listens, "GET": {Status: 500}}},

	{name: "a slash", answers: answers{"/mcp": {Status: 307, Header: map[string]string{"Location": "/mcp/"}}}},
	{name: "another place", answers: answers{"/mcp": {Status: 308, Header: map[string]string{"Location": "https://user:pw@elsewhere.example/mcp/?key=1"}}},
		tools: "-", left: "308: redirects are not followed, and this one leads to https://elsewhere.example/mcp/["},
	{name: "a slash by another method", answers: answers{"/mcp": {Status: 301, Header: map[string]string{"Location": "/mcp/"}}}, tools: "-", left: "redirects are not followed"},
	{name: "nothing there", answers: answers{"/mcp": {Status: 404, Type: "text/plain"}}, tools: "-", left: "HTTP+SSE"},
	{name: "no POST", answers: answers{"/mcp": {Status: 405, Type: "text/plain"}}, tools: "-", left: "HTTP+SSE"},

	{name: "a probe that hangs", timeout: 5 * time.Second, answers: answers{"server/discover": {Type: "text/event-stream", Hold: true}}},
	{name: "a probe without answer", answers: answers{"server/discover": {Status: 202}}},
	{name: "a probe for another host", answers: answers{"server/discover": {Status: 421}}},
	{name: "a probe that fails", answers: answers{"server/discover": {Status: 502}}},
	{name: "a probe that fails in JSON", answers: answers{"server/discover": {Status: 500, Body: `{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"x"}}`}}},
	{name: "a probe and initialize that fail", answers: answers{"server/discover": {Status: 502}, "initialize": {Status: 503}}, tools: "-", left: "initialize: backend "},
	{name: "version refused by text", answers: answers{"initialize": versionText, "initialize 2025-06-18": listens}},
}

// The versions are a matter of both transports.
var oddVersions = []odd{
	{name: "version refused with others", answers: answers{"initialize": versionData, "initialize 2024-11-05": initialized(`"capabilities":{"tools":{}}`)}},
	{name: "version refused without others", answers: answers{"initialize": versionOnly, "initialize 2025-06-18": initialized(`"capabilities":{"tools":{}}`)}},
	{name: "a version of the future", answers: answers{"initialize": result(`"protocolVersion":"2031-01-01","capabilities":{"tools":{}}`)}},
}

// TestOdd: servers as they are. A fault costs one item or one call, never the server's others, and never those of the
// good server beside it, which is listed and answers all the while.
func TestOdd(t *testing.T) {
	setFor(t, &pageSize, 20_000)
	for kind, list := range map[string][]odd{"d": oddDefinitions, "m": oddMessages, "h": oddHTTP, "v": oddVersions} {
		t.Run(kind, func(t *testing.T) { testOdd(t, kind, list) })
	}
}

// testOdd puts the servers of one list behind one gateway.
func testOdd(t *testing.T, kind string, list []odd) {
	backends := map[string]backend.Config{"good": overHTTP(mcptest.NewHTTP(t, mcptest.Options{}).URL)}
	rows := map[string]odd{}
	for i, row := range list {
		said := answers{"tools/list": result(`"tools":[` + toolT + `]`), "tools/call": result(`"content":[{"type":"text","text":"ran"}]`)}
		for method, answer := range row.answers {
			said[method] = answer
		}
		eras := map[string]mcptest.Era{"h": mcptest.Legacy}
		if _, opens := said["initialize"]; !opens && (kind == "d" || kind == "m") {
			eras["n"] = mcptest.Modern
		}
		for suffix, era := range eras {
			if row.over == "stdio" {
				continue
			}
			name := fmt.Sprintf("%s%d%s", kind, i, suffix)
			config := overHTTP(mcptest.NewRaw(t, era, said).URL)
			config.Timeout = row.timeout
			backends[name], rows[name] = config, row
		}
		if row.over != "http" && kind != "h" {
			name := fmt.Sprintf("%s%ds", kind, i)
			variable, value := mcptest.NewScript(t, said)
			backends[name], rows[name] = backend.Config{Command: []string{filepath.Join(programs, "script-mcp")}, Backend: gatewayconfig.Backend{Timeout: row.timeout,
				Transport: gatewayconfig.TransportStdio, Env: map[string]secret.Value{variable: secret.Value(value)}}}, row
		}
	}
	w := startWorld(t, backends)
	await.That(t, "each server is listed or failed", func() bool {
		return !slices.ContainsFunc(w.inv.Status(), func(s inventory.Status) bool { return s.State == "starting" && s.LastFailure == "" })
	})
	said := map[string]string{}
	for _, s := range w.inv.Status() {
		said[s.Backend] = s.LastFailure + fmt.Sprint(s.LeftOut)
	}
	session := w.open(t, "ann", "{}")
	old, new := w.names(t, legacy(session, "1", "tools/list", "")), w.names(t, modern("1", "tools/list", ""))
	for name, row := range rows {
		t.Run(strings.ReplaceAll(row.name, " ", "_")+"/"+name, func(t *testing.T) {
			if row.tools == "" {
				row.tools = "t"
			}
			for era, all := range map[string]map[string][]string{"2025": old, "2026": new} {
				if got := strings.Join(all[name], " "); got != strings.Trim(row.tools, "-") {
					t.Errorf("clients of %s see %q", era, got)
				}
				if !slices.Contains(all["good"], "echo") {
					t.Errorf("clients of %s do not see the good server: %q", era, all["good"])
				}
			}
			if !strings.Contains(said[name], row.left) || row.left == "" && said[name] != "[]" {
				t.Errorf("its status says %s", said[name])
			}
			if row.call == "" {
				row.call = `"text":"ran"`
			}
			for range 2 {
				if strings.Contains(row.tools, "t") {
					if got := w.send(t, legacy(session, "2", "tools/call", toolCall(name+"_t"))); !strings.Contains(got.body, row.call) {
						t.Errorf("a call is answered %d %s", got.status, got.body)
					}
				}
				if got := w.send(t, legacy(session, "3", "tools/call", toolCall("good_echo"))); !strings.Contains(got.body, `"hi"`) {
					t.Errorf("the good server answers %d %s", got.status, got.body)
				}
			}
		})
	}
}

// names are the tools that a list shows, by backend, in order.
func (w *world) names(t *testing.T, a ask) map[string][]string {
	t.Helper()
	body := w.send(t, a).body
	var got struct {
		Result struct {
			Tools []struct {
				Name        string
				InputSchema struct{ Type string }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	all := map[string][]string{}
	for _, tool := range got.Result.Tools {
		if tool.InputSchema.Type != "object" {
			t.Errorf("the schema of %s is of type %q", tool.Name, tool.InputSchema.Type)
		}
		it, ok := w.inv.Catalog().Find(mcpwire.ItemTool, tool.Name)
		if !ok {
			t.Errorf("%s is not in the catalog", tool.Name)
		}
		all[it.Backend] = append(all[it.Backend], it.Original)
	}
	return all
}
