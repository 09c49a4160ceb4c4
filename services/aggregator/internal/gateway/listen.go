package gateway

import (
	"net/http"

	"vmcp/internal/mcpwire"
)

// listen serves subscriptions/listen (SU-1 to SU-8).
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
	resources, uris := x.watched(asked)
	if len(uris) > 0 {
		if honoured != nil {
			honoured = append(honoured, ',')
		}
		honoured = append(honoured, `"resourceSubscriptions":[`...)
		for i, uri := range uris {
			if i > 0 {
				honoured = append(honoured, ',')
			}
			honoured = append(honoured, mcpwire.Quote(uri)...)
		}
		honoured = append(honoured, ']')
		f.letters = newLetters()
	}
	f.out = x.events()
	ack := append([]byte(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{`), honoured...)
	ack = append(append(append(ack, "},"...), meta...), "}}"...)
	if f.out.write(ack) != nil {
		return
	}
	unwatch := x.watch(x.r.Context(), resources, func(r mcpwire.Reply) { f.letters.put(subscribed(r, m.ID)) })
	there := f.run()
	unwatch()
	if !there {
		return
	}
	result := append(append([]byte(`{"resultType":"complete",`), meta...), '}')
	f.out.write(mcpwire.AppendResult(nil, m.ID, result)) // SU-6; the client may be gone
}

// subscribed is a backend's notification as one of the subscription with this id (SU-3).
func subscribed(r mcpwire.Reply, id mcpwire.RawID) []byte {
	field := mcpwire.Field{Name: mcpwire.MetaSubscriptionID, Value: id}
	params, ok := r.Params()
	if !ok {
		return nil
	}
	if at, ok := params.Find("_meta"); ok {
		if meta, err := mcpwire.ParseObject(r.Body.Text, at.Start, at.End); err == nil {
			return mcpwire.Splice(r.Body.Text, meta.Change(nil, field)...)
		}
	}
	meta := append(append([]byte(`{"`+mcpwire.MetaSubscriptionID+`":`), id...), '}')
	return mcpwire.Splice(r.Body.Text, params.Change(nil, mcpwire.Field{Name: "_meta", Value: meta})...)
}
