package backend

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"vmcp/internal/mcpwire"
)

// rpcError is a JSON-RPC error in answer to a request of our own.
type rpcError struct {
	code   int
	status int
	text   string
	data   []byte
	noID   bool // it names no request
}

func (e *rpcError) Error() string { return fmt.Sprintf("JSON-RPC error %d: %s", e.code, e.text) }

// query sends a request of our own and returns the response, an *rpcError for a JSON-RPC error.
func (b *Backend) query(ctx context.Context, l link, id mcpwire.RawID, method string, params []byte) (mcpwire.Reply, error) {
	return b.queryHeader(ctx, l, id, method, params, nil)
}

// own makes a request of our own as it goes over l. params is a JSON object, or nil.
func (b *Backend) own(l link, id mcpwire.RawID, method string, params []byte) *outgoing {
	out := &outgoing{id: id, method: method}
	if l.era() == mcpwire.EraModern {
		out.header = http.Header{"Mcp-Method": {method}}
		meta := object([]mcpwire.Field{
			{Name: mcpwire.MetaProtocolVersion, Value: quotedModern},
			{Name: mcpwire.MetaClientInfo, Value: b.cfg.ClientInfo},
			{Name: mcpwire.MetaClientCapabilities, Value: b.anyClients()},
		})
		field := mcpwire.Field{Name: "_meta", Value: meta}
		if params == nil {
			params = object([]mcpwire.Field{field})
		} else if o, err := mcpwire.ParseObject(params, 0, len(params)); err == nil {
			params = mcpwire.Splice(params, o.Change(nil, field)...)
		}
	}
	out.body = []byte(`{"jsonrpc":"2.0","id":` + string(id) + `,"method":` + string(mcpwire.Quote(method)))
	if params != nil {
		out.body = append(append(out.body, `,"params":`...), params...)
	}
	out.body = append(out.body, '}')
	return out
}

func (b *Backend) queryHeader(ctx context.Context, l link, id mcpwire.RawID, method string, params []byte, onHeader func(http.Header)) (mcpwire.Reply, error) {
	out := b.own(l, id, method, params)
	out.onHeader = onHeader
	var reply mcpwire.Reply
	err := l.exchange(ctx, out, func(r mcpwire.Reply, status int) (bool, error) {
		switch {
		case r.Kind == mcpwire.KindRequest:
			return false, b.refuse(ctx, l, r)
		case r.Kind == mcpwire.KindNotification:
			b.noteListChange(r.Method)
			return false, nil
		case !isID(r.ID, string(id)) && !(r.ID == nil && r.ErrorSpan.Exists()):
			return true, b.errorf(ErrInvalidReply, true, "the response to %s has another id", method)
		case r.ErrorSpan.Exists():
			o, _ := r.Error()
			text, _ := o.String("message")
			return true, &rpcError{code: r.ErrorCode(), status: status, text: text, data: bytes.Clone(o.Raw("data")), noID: r.ID == nil}
		}
		var err error
		reply, err = mcpwire.ParseReply(bytes.Clone(r.Body.Text)) // out of the buffer that is used again
		return true, err
	})
	return reply, err
}
