package backend

import (
	"errors"
	"net/http"

	"vmcp/internal/mcpwire"
)

// errSessionGone is a 404 for our Mcp-Session-Id.
var errSessionGone = errors.New("the session is gone")

// verdict is what a failed request says about the way it took.
type verdict struct {
	repeat  bool // it was surely not executed, so once more does no harm (PC-4)
	relist  bool // after reading the schemas of the tools again (HV-8)
	reprobe bool // the backend's era may be another (BR-3)
	drop    bool // the link is of no use any more
}

// classify judges an error of a request on a link of that era; errors that the backend answered are *rpcError.
func classify(err error, wire mcpwire.Era) verdict {
	var status *statusError
	var rpc *rpcError
	modern := wire == mcpwire.EraModern
	switch {
	case errors.Is(err, errSessionGone):
		return verdict{repeat: true, drop: true}
	case errors.As(err, &status) && modern:
		return verdict{reprobe: status.contradicts(), drop: status.contradicts()}
	case errors.As(err, &status): // many servers say so that they do not know the session
		return verdict{drop: status.status == http.StatusBadRequest}
	case !errors.As(err, &rpc):
	case rpc.code == mcpwire.CodeUnsupportedVersion && (modern || rpc.status == http.StatusBadRequest):
		return verdict{repeat: true, reprobe: true, drop: true} // with another status a legacy server may mean anything by it
	case modern && rpc.code == mcpwire.CodeHeaderMismatch:
		return verdict{repeat: true, relist: true}
	case rpc.status != http.StatusBadRequest || rpc.code > -32000 || rpc.code < -32019:
	case modern: // no modern error
		return verdict{reprobe: true, drop: true}
	case rpc.noID: // about the session, not about the request; whether that ran nobody knows
		return verdict{drop: true}
	}
	return verdict{}
}

// heed does what a verdict asks for, but for the repetition.
func (c *conn) heed(v verdict, l link) {
	if v.reprobe {
		c.b.facts.Store(nil)
	}
	if v.drop {
		c.drop(l, whyLost)
	}
}
