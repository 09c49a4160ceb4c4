package gateway

import (
	"encoding/json"
	"fmt"
	"os"
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

func TestMain(m *testing.M) {
	mcptest.PlayScript()
	os.Exit(m.Run())
}

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
	{name: "a list that fails", answers: answers{"prompts/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"no database"}}`)}, left: "no database"},
	{name: "a list that is no list", answers: answers{"resources/list": result(`"resources":{"a":1}`)}, left: "not a JSON array"},
	{name: "a list that hangs", timeout: 5 * time.Second, answers: answers{"prompts/list": {Type: "text/event-stream", Hold: true}}, left: "timed out"},
	{name: "a list that does not end", over: "http", answers: answers{"resources/templates/list": result(`"resourceTemplates":[],"nextCursor":"-N"`)}, left: "is longer than"},
	{name: "a list that is too long", over: "http", answers: answers{"resources/list": result(`"resources":[{"uri":"` + strings.Repeat("u", 25<<20) + `"}]`)}, left: "is longer than"},
	{name: "no capabilities", answers: answers{"initialize": initialized(`"capabilities":{}`)}},
	{name: "capabilities that are null", answers: answers{"initialize": initialized(`"capabilities":null`)}},
	{name: "output that is no object", answers: answers{"tools/list": result(`"tools":[{"name":"t","outputSchema":{"type":"array"}}]`),
		"tools/call": result(`"content":[{"type":"text","text":"ran"}],"structuredContent":[1]`)}, call: `"result":{"content":[{"type":"text","text":"ran"}]}`},
}

// TestOdd: servers as they are. A fault costs one item or one call, never the server's others, and never those of the
// good server beside it, which is listed and answers all the while.
func TestOdd(t *testing.T) {
	backends := map[string]backend.Config{"good": overHTTP(mcptest.NewHTTP(t, mcptest.Options{}).URL)}
	rows := map[string]odd{}
	for kind, list := range map[string][]odd{"d": oddDefinitions} {
		for i, row := range list {
			said := answers{"tools/list": result(`"tools":[` + toolT + `]`), "tools/call": result(`"content":[{"type":"text","text":"ran"}]`)}
			for method, answer := range row.answers {
				said[method] = answer
			}
			if row.over != "stdio" {
				name := fmt.Sprintf("%s%dh", kind, i)
				config := overHTTP(mcptest.NewRaw(t, mcptest.Legacy, said).URL)
				config.Timeout = row.timeout
				backends[name], rows[name] = config, row
			}
			if row.over != "http" {
				name := fmt.Sprintf("%s%ds", kind, i)
				command, variable, value := mcptest.NewScript(t, said)
				backends[name], rows[name] = backend.Config{Command: command, Backend: gatewayconfig.Backend{Timeout: row.timeout,
					Transport: gatewayconfig.TransportStdio, Env: map[string]secret.Value{variable: secret.Value(value)}}}, row
			}
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
				if got := strings.Join(all[name], " "); got != row.tools {
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
