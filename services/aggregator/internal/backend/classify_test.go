package backend

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"vmcp/internal/mcpwire"
)

func TestClassify(t *testing.T) {
	rpc := func(code, status int) error { return fmt.Errorf("asking: %w", &rpcError{code: code, status: status}) }
	http := func(status int) error { return &Error{Kind: ErrUnavailable, Err: &statusError{status: status}} }
	gone := verdict{repeat: true, drop: true}
	otherEra := verdict{repeat: true, reprobe: true, drop: true}
	doubt := verdict{reprobe: true, drop: true}
	unknown := verdict{drop: true} // session
	noID := func(code, status int) error { return &rpcError{code: code, status: status, noID: true} }
	for _, test := range []struct {
		err            error
		legacy, modern verdict
	}{
		{errSessionGone, gone, gone},
		{fmt.Errorf("posting: %w", errSessionGone), gone, gone},
		{rpc(-32022, 200), verdict{}, otherEra},
		{rpc(-32022, 400), otherEra, otherEra},
		{rpc(-32020, 400), verdict{}, verdict{repeat: true, relist: true}},
		{rpc(-32021, 400), verdict{}, verdict{}},
		{rpc(-32000, 400), verdict{}, doubt},
		{rpc(-32019, 400), verdict{}, doubt},
		{rpc(-32000, 200), verdict{}, verdict{}}, // a server's own word for a failed call
		{rpc(-32600, 400), verdict{}, verdict{}},
		{rpc(-32601, 404), verdict{}, verdict{}},
		{rpc(-32603, 500), verdict{}, verdict{}},
		{noID(-32000, 400), unknown, doubt},
		{noID(-32019, 400), unknown, doubt},
		{noID(-32600, 400), verdict{}, verdict{}},
		{noID(-32000, 200), verdict{}, verdict{}},
		{noID(-32000, 500), verdict{}, verdict{}},
		{http(400), unknown, doubt},
		{http(404), verdict{}, doubt},
		{http(405), verdict{}, doubt},
		{http(401), verdict{}, verdict{}},
		{http(429), verdict{}, verdict{}},
		{http(503), verdict{}, verdict{}},
		{errors.New("connection reset"), verdict{}, verdict{}},
		{context.Canceled, verdict{}, verdict{}},
		{&Error{Kind: ErrInvalidReply, Err: errTooLong}, verdict{}, verdict{}},
	} {
		if got := classify(test.err, mcpwire.EraLegacy); got != test.legacy {
			t.Errorf("%v, legacy: %+v, want %+v", test.err, got, test.legacy)
		}
		if got := classify(test.err, mcpwire.EraModern); got != test.modern {
			t.Errorf("%v, modern: %+v, want %+v", test.err, got, test.modern)
		}
	}
}
