package gateway

import (
	"net/http"

	"vmcp/internal/mcpwire"
)

// listen serves subscriptions/listen (SU-1 to SU-7). Watching single resources is not offered yet: the acknowledgement
// leaves it out.
func (x *exchange) listen() {
	m := x.msg
	mem, ok := m.Params.Find("notifications")
	if !ok || m.Body[mem.Start] != '{' {
		x.error(http.StatusBadRequest, mcpwire.CodeInvalidParams, "subscriptions/listen needs params.notifications", nil)
		return
	}
	asked, err := mcpwire.ParseObject(m.Body, mem.Start, mem.End)
	if err != nil {
		x.error(http.StatusBadRequest, mcpwire.CodeInvalidParams, "params.notifications is not readable", nil)
		return
	}
	meta := append([]byte(`"_meta":{"`+mcpwire.MetaSubscriptionID+`":`), m.ID...)
	meta = append(meta, '}')
	f := follower{x: x, note: func(method string) []byte {
		return append(append([]byte(`{"jsonrpc":"2.0","method":"`+method+`","params":{`), meta...), "}}"...)
	}}
	var honoured []byte
	for _, kind := range announced {
		name := kind.Capability() + "ListChanged"
		if string(asked.Raw(name)) != "true" {
			continue
		}
		f.want = append(f.want, kind)
		if honoured != nil {
			honoured = append(honoured, ',')
		}
		honoured = append(honoured, `"`+name+`":true`...)
	}
	done, ok := x.mayFollow()
	if !ok {
		return
	}
	defer done()
	f.out = x.events()
	ack := append([]byte(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{`), honoured...)
	ack = append(append(append(ack, "},"...), meta...), "}}"...)
	if f.out.write(ack) != nil || !f.run() {
		return
	}
	result := append(append([]byte(`{"resultType":"complete",`), meta...), '}')
	f.out.write(mcpwire.AppendResult(nil, m.ID, result)) // SU-6; the client may be gone
}
