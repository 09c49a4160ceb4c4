package e2e

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"vmcp/internal/mcptest"
	"vmcp/internal/mcpwire"
)

// What a backend may send that a careless proxy would rewrite: members nobody knows yet, in an order of their own, blanks,
// numbers that no float holds, escapes.
const (
	goldenTool = `{ "x-first":{"z":1,"a":2} , "name" : "odd", "description":"caf\u00e9 \ud83d\ude00 \/ é",` +
		`"inputSchema":{"type":"object","properties":{"n":{"type":"integer","maximum":9007199254740993,"default":1e400,"x":-0,"y":1.10}},"$defs":{"b":1,"a":[]}},` +
		`"outputSchema":{"type":"object","future":[{"k":null}]},"annotations":{"title":"Odd","vendor":[1.0,100E-2,1e400]},` +
		`"icons":[{"src":"data:,","theme":"dark"}],"execution":{"taskSupport":"forbidden"},"_meta":{"vendor.example/k":12345678901234567890},"zzz":null}`
	goldenPrompt   = `{"title":"P","future":{"b":1,"a":9007199254740993},"arguments":[{"name":"x","weird":1.0}],"name":"oddly"}`
	goldenResource = `{"uri":"raw://x/\u0061","name":"n","size":9007199254740993,"annotations":{"priority":0.10},"later":[ ]}`

	goldenResult = `{ "structuredContent":{"big":9007199254740993,"f":1e400,"m":-0,"z":0,"a":1.10},"content":[{"type":"text","text":"\u00e9\/é","annotations":{"q":0.10},"new":{}}],` +
		`"isError":false,"future":{"deep":[{"k":1,"j":2}]},"_meta":{"vendor.example/x":12345678901234567890}}`
	goldenGet  = `{"messages":[{"role":"user","content":{"type":"text","text":"\u0041","n":9007199254740993},"more":1e400}],"description":"d","future":[1.0]}`
	goldenRead = `{"contents":[{"uri":"raw://x/a","text":"\u0041","n":9007199254740993,"_meta":{"b":1,"a":2}}],"future":{"z":1,"a":2}}`

	goldenArguments = `{ "n":9007199254740993,"f":1e400,"m":-0, "text":"\u00e9\/é","deep":{"z":[1.0,{"b":null,"a":100E-2}],"a":{}} }`
	goldenVendor    = `"vendor.example/trace":{"z":1.0,"a":9007199254740993}`
)

// permitted are the members of a result that a gateway may write (docs/rules.md#what-passes-unchanged).
var permitted = map[string]bool{"resultType": true, "ttlMs": true, "cacheScope": true, "_meta": true}

// TestFidelity: what passes through is what was sent, byte for byte, but for what the protocol says is the gateway's.
func TestFidelity(t *testing.T) {
	for era, name := range map[mcptest.Era]string{mcptest.Legacy: "legacy", mcptest.Modern: "modern"} {
		t.Run(name+" backend", func(t *testing.T) { fidelity(t, era) })
	}
}

func fidelity(t *testing.T, era mcptest.Era) {
	mark := ""
	if era == mcptest.Modern {
		mark = `"resultType":"complete",`
	}
	answer := func(result string) mcptest.Answer {
		return mcptest.JSON(`{"x-before":9007199254740993,"jsonrpc":"2.0","result":{` + mark + strings.TrimPrefix(result, "{") + `,"id":ID}`)
	}
	page := func(member, item string) mcptest.Answer { return answer(`{"` + member + `":[` + item + `]}`) }
	h := mcptest.NewRaw(t, era, map[string]mcptest.Answer{
		"tools/list": page("tools", goldenTool), "prompts/list": page("prompts", goldenPrompt), "resources/list": page("resources", goldenResource),
		"resources/templates/list": page("resourceTemplates", ""),
		"tools/call":               answer(goldenResult), "prompts/get": answer(goldenGet), "resources/read": answer(goldenRead),
		"completion/complete": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"error":{"code":-31999,"message":"\u0041","data":{"n":9007199254740993,"z":1.0},"more":1}}`),
	})
	w := start(t, guide, behind("raw", h.URL))
	token := w.token("ann", "mcp-developers")
	legacy, modern := &caller{w: w, token: token}, &caller{w: w, token: token, modern: true}
	for who, c := range map[string]*caller{"legacy client": legacy, "modern client": modern} {
		t.Run(who, func(t *testing.T) {
			t.Run("definitions", func(t *testing.T) {
				for method, want := range map[string]string{
					"tools/list":     strings.Replace(goldenTool, `"name" : "odd"`, `"name" : "raw_odd"`, 1),
					"prompts/list":   strings.Replace(goldenPrompt, `"name":"oddly"`, `"name":"raw_oddly"`, 1),
					"resources/list": goldenResource,
				} {
					if a := c.ask(t, method, "", ""); !strings.Contains(a.body, want) {
						t.Errorf("%s: %s\nwant in it %s", method, a.body, want)
					}
				}
			})
			t.Run("results", func(t *testing.T) {
				sameResult(t, c.call(t, "raw_odd", goldenArguments), goldenResult, c.modern)
				sameResult(t, c.prompt(t, "raw_oddly", `{"x":"1"}`), goldenGet, c.modern)
				sameResult(t, c.read(t, "raw://x/a"), goldenRead, c.modern)
			})
			t.Run("errors", func(t *testing.T) {
				a := c.ask(t, "completion/complete", `"ref":{"type":"ref/prompt","name":"raw_oddly"},"argument":{"name":"x","value":""}`, "")
				if want := `"error":{"code":-31999,"message":"\u0041","data":{"n":9007199254740993,"z":1.0},"more":1}`; !strings.Contains(a.body, want) {
					t.Errorf("%d %s, want in it %s", a.status, a.body, want)
				}
			})
			t.Run("ids", func(t *testing.T) {
				for _, id := range []string{"9007199254740993", `"a\u00e9\/"`, `""`, "-1", "0"} {
					r := c.message("tools/call", `"name":"raw_odd","arguments":{}`, "raw_odd")
					r.body = strings.Replace(r.body, `"id":1`, `"id":`+id, 1)
					if got := string(w.send(t, r).reply().ID); got != id {
						t.Errorf("id %s came back as %s", id, got)
					}
				}
			})
			t.Run("arguments", func(t *testing.T) {
				h.Reset()
				r := c.message("tools/call", `"x-first":1.0,"name":"raw_odd","arguments":`+goldenArguments+`,"future":{"z":1,"a":2},"_meta":{`+goldenVendor+`}`, "raw_odd")
				if c.modern {
					r.body = strings.Replace(strings.Replace(r.body, ","+meta, "", 1), `"_meta":{`, strings.TrimSuffix(meta, "}")+",", 1)
				}
				if a := w.send(t, r); !a.ok() {
					t.Fatalf("%d %s", a.status, a.body)
				}
				for _, got := range h.Requests() {
					if got.Method != "tools/call" {
						continue
					}
					for _, want := range []string{`{"x-first":1.0,"name":"odd","arguments":` + goldenArguments + `,"future":{"z":1,"a":2},"_meta":{`, goldenVendor} {
						if !bytes.Contains(got.Body, []byte(want)) {
							t.Errorf("the backend got %s\nwant in it %s", got.Body, want)
						}
					}
					if version := got.Header.Get("Mcp-Name"); era == mcptest.Modern && version != "odd" || era == mcptest.Legacy && version != "" {
						t.Errorf("the backend got Mcp-Name %q", version)
					}
				}
				if !h.Saw("odd") {
					t.Error("the backend saw no call")
				}
			})
		})
	}
}

// sameResult compares the members of a result, their bytes and their order.
func sameResult(t *testing.T, a answer, golden string, modern bool) {
	t.Helper()
	raw := a.reply().Result
	got, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		t.Fatalf("%v: %d %s", err, a.status, a.body)
	}
	want, err := mcpwire.ParseObject([]byte(golden), 0, len(golden))
	if err != nil {
		t.Fatal(err)
	}
	if want.Raw("_meta") != nil && !bytes.Contains(got.Raw("_meta"), []byte(`"vendor.example/x":12345678901234567890`)) {
		t.Errorf("_meta is %s", got.Raw("_meta"))
	}
	names := func(o mcpwire.Object) (all []string) {
		for _, m := range o.Members {
			if !permitted[m.Name] {
				all = append(all, m.Name)
			}
		}
		return all
	}
	if g, w := strings.Join(names(got), " "), strings.Join(names(want), " "); g != w {
		t.Errorf("the members are %s, want %s", g, w)
	}
	for _, name := range names(want) {
		if g, w := got.Raw(name), want.Raw(name); !bytes.Equal(g, w) {
			t.Errorf("%s is %s\nwant %s", name, g, w)
		}
	}
	if kind, ok := got.String("resultType"); modern && kind != "complete" || !modern && ok {
		t.Errorf("resultType is %q", kind)
	}
}

// TestClientSecrets: nothing by which a client proves itself goes further than Envoy and authz.
func TestClientSecrets(t *testing.T) {
	elsewhere := mcptest.NewHTTP(t, mcptest.Options{})
	backends := map[string]*mcptest.HTTP{}
	var edits []edit
	for era, name := range map[mcptest.Era]string{mcptest.Legacy: "old", mcptest.Modern: "new", mcptest.Dual: "both"} {
		backends[name] = mcptest.NewHTTP(t, mcptest.Options{Era: era})
		edits = append(edits, behind(name, backends[name].URL))
	}
	leaving := mcptest.NewRaw(t, mcptest.Legacy, map[string]mcptest.Answer{
		"tools/list": mcptest.JSON(`{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}}`),
		"tools/call": {Status: http.StatusTemporaryRedirect, Header: map[string]string{"Location": elsewhere.URL}},
	})
	backends["leaving"] = leaving
	w := start(t, guide, append(edits, behind("leaving", leaving.URL))...)
	legacy, modern := w.developers()
	secrets := []string{legacy.token, strings.Split(legacy.token, ".")[1], strings.Split(legacy.token, ".")[2], "c-o-o-k-i-e"}
	for _, c := range []*caller{legacy, modern} {
		c.follow(t)
		for name := range backends {
			for _, r := range []request{
				c.message("tools/call", `"name":"`+name+`_echo","arguments":{"text":"x"}`, name+"_echo"),
				c.message("prompts/get", `"name":"`+name+`_greet","arguments":{"who":"x"}`, name+"_greet"),
				c.message("resources/read", `"uri":"test://hello"`, "test://hello"),
			} {
				if r.header == nil {
					r.header = http.Header{}
				}
				r.header["Cookie"] = []string{"session=c-o-o-k-i-e"}
				r.header["X-Forwarded-Access-Token"] = []string{legacy.token}
				r.header["Proxy-Authorization"] = []string{"Bearer " + legacy.token}
				r.url = w.URL + "?access_token=" + legacy.token
				if a := w.send(t, r); a.status != 200 {
					t.Errorf("%s: %d %s", r.body, a.status, a.body)
				}
			}
		}
	}
	secrets = append(secrets, legacy.session)
	if a := w.send(t, request{method: "DELETE", token: legacy.token, session: legacy.session}); a.status != 204 {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	for name, h := range backends {
		if !h.Saw("echo") {
			t.Errorf("%s saw no call", name)
		}
		for _, r := range h.Requests() {
			for header, values := range r.Header {
				all := strings.Join(values, "\n")
				for _, s := range secrets {
					if strings.Contains(all, s) {
						t.Errorf("%s got a secret of the client in %s", name, header)
					}
				}
				switch {
				case header == "Authorization", header == "Cookie", header == "Proxy-Authorization", strings.HasPrefix(header, "X-"):
					t.Errorf("%s got %s", name, header)
				}
			}
			for _, s := range secrets {
				if bytes.Contains(r.Body, []byte(s)) {
					t.Errorf("%s got a secret of the client in a body", name)
				}
			}
		}
	}
	if got := elsewhere.Requests(); len(got) > 0 {
		t.Errorf("a redirect was followed: %s %s", got[0].HTTP, got[0].Method)
	}
}
