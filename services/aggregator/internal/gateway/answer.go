package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"vmcp/internal/mcpwire"
	"vmcp/internal/version"
)

// serverInfo is our Implementation object toward clients.
var serverInfo = fmt.Appendf(nil, `{"name":"vmcp","title":"vMCP gateway","version":%q}`, version.String())

// ServerInfo is how the gateway names itself to clients, a JSON object.
func ServerInfo() []byte { return serverInfo }

func (x *exchange) writeJSON(status int, body []byte) {
	h := x.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.w.WriteHeader(status)
	if len(body) > piece {
		send(x.w, body) // the client is gone where it fails
	} else {
		x.w.Write(body)
	}
}

var jsonType = []string{"application/json"}

func (x *exchange) error(status, code int, text string, data []byte) {
	x.writeJSON(status, mcpwire.AppendError(nil, x.msg.ID, code, text, data))
}

func (x *exchange) result(result []byte) {
	x.writeJSON(http.StatusOK, mcpwire.AppendResult(make([]byte, 0, len(result)+64), x.msg.ID, result))
}

// unsupportedVersion is -32022 with what is supported (HM-2).
func (x *exchange) unsupportedVersion() {
	data, _ := json.Marshal(struct { // strings only
		Supported []string `json:"supported"`
		Requested string   `json:"requested"`
	}{mcpwire.SupportedVersions, x.msg.Version})
	x.error(http.StatusBadRequest, mcpwire.CodeUnsupportedVersion, "this protocol version is not supported", data)
}

// initialize opens a session (HL-11). It asks no backend.
func (x *exchange) initialize() {
	var p struct {
		ProtocolVersion string          `json:"protocolVersion"`
		Capabilities    json.RawMessage `json:"capabilities"`
		ClientInfo      json.RawMessage `json:"clientInfo"`
	}
	if err := json.Unmarshal(x.msg.Params.Bytes(), &p); err != nil || p.ProtocolVersion == "" || !isObject(p.ClientInfo) || !isObject(p.Capabilities) {
		x.error(http.StatusBadRequest, mcpwire.CodeInvalidParams, "initialize needs params.protocolVersion, and as objects params.capabilities and params.clientInfo", nil)
		return
	}
	version := p.ProtocolVersion
	if !mcpwire.LegacyVersion(version) {
		version = mcpwire.Version20251125
	}
	id, err := x.g.sessions.open(x.d.Principal, version, picked(p.Capabilities, "roots", "sampling", "elicitation"), picked(p.ClientInfo, "name", "title", "version"))
	if err != nil {
		x.error(http.StatusBadRequest, mcpwire.CodeInvalidParams, err.Error(), nil)
		return
	}
	x.w.Header().Set("Mcp-Session-Id", id)
	caps, instructions := x.g.offers(), x.instructions()
	b := append([]byte(`{"protocolVersion":`), mcpwire.Quote(version)...)
	b = append(append(b, `,"capabilities":`...), caps...)
	b = append(append(b, `,"serverInfo":`...), serverInfo...)
	if instructions != "" {
		b = append(append(b, `,"instructions":`...), mcpwire.Quote(instructions)...)
	}
	x.result(append(b, '}'))
}

// isObject: an absent one is none, which is not worth a refusal.
func isObject(raw json.RawMessage) bool { return len(raw) == 0 || raw[0] == '{' }

// picked keeps the named members of an object: of a client's capabilities what is passed on to backends, of its
// clientInfo what names it (an icon would not fit into a session id). Nil where there is none.
func picked(object json.RawMessage, names ...string) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(object, &all) != nil {
		return nil
	}
	kept := map[string]json.RawMessage{}
	for _, name := range names {
		if v, ok := all[name]; ok {
			kept[name] = v
		}
	}
	if len(kept) == 0 {
		return nil
	}
	b, _ := json.Marshal(kept) // taken out of JSON
	return b
}

// discover answers server/discover (HM-10).
func (x *exchange) discover() []byte {
	versions, _ := json.Marshal(mcpwire.SupportedVersions) // strings
	caps, instructions := x.g.offers(), x.instructions()
	b := append([]byte(`{"resultType":"complete","supportedVersions":`), versions...)
	b = append(append(b, `,"capabilities":`...), caps...)
	b = append(append(b, `,"serverInfo":`...), serverInfo...)
	if instructions != "" {
		b = append(append(b, `,"instructions":`...), mcpwire.Quote(instructions)...)
	}
	return append(b, modernTail...)
}

// modernTail ends a result of 2026-07-28 that depends on the caller: hints and our serverInfo (CA-1, CA-3, HM-6).
var modernTail = append(append([]byte(`,"ttlMs":30000,"cacheScope":"private","_meta":{"`+mcpwire.MetaServerInfo+`":`), serverInfo...), "}}"...)

// maxInstructions bounds the text put together from backends.
const maxInstructions = 16 << 10

// offers are our capabilities, a JSON object. Lists can always change: policies and roles change them too (AG-21).
func (g *Gateway) offers() []byte {
	has := g.cfg.Inventory.Catalog().Offers
	b := []byte(`{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true`)
	if has.Subscribe {
		b = append(b, `,"subscribe":true`...)
	}
	b = append(b, '}')
	if has.Completions {
		b = append(b, `,"completions":{}`...)
	}
	if has.Logging {
		b = append(b, `,"logging":{}`...)
	}
	return append(b, '}')
}

// instructions are those of the backends of which the caller may use something: the others' are none of their business,
// and text that a backend wrote should not reach the models of people who cannot use it. Kept by view, as lists are.
func (x *exchange) instructions() string {
	c := x.g.cfg.Inventory.Catalog()
	if len(c.Instructions) == 0 {
		return ""
	}
	key := listKey{view: x.d.View, digest: c.Digest}
	if r := x.g.lists.get(key); r != nil && x.d.View != "" {
		return string(r.result)
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), decisionTime)
	defer cancel()
	usable, view := map[string]bool{}, ""
	for kind := mcpwire.ItemTool; kind <= mcpwire.ItemTemplate; kind++ {
		resp, err := x.permitted(ctx, c, kind)
		if err != nil { // a session without them is better than none
			x.g.cfg.Log.Warn("no instructions", zap.String("request", x.d.RequestId), zap.Error(err))
			return ""
		}
		all := c.Items(kind)
		for _, i := range resp.Indexes {
			if int(i) < len(all) {
				usable[all[i].Backend] = true
			}
		}
		view = resp.View
	}
	var parts []string
	for _, in := range c.Instructions {
		if usable[in.Backend] {
			parts = append(parts, "# "+in.Backend+"\n"+in.Text)
		}
	}
	text := strings.Join(parts, "\n\n")
	if len(text) > maxInstructions {
		text = strings.ToValidUTF8(text[:maxInstructions], "")
	}
	if view != "" {
		key.view = view
		x.g.lists.put(&rendered{key: key, result: []byte(text)})
	}
	return text
}
