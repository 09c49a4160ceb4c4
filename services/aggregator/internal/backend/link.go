package backend

import (
	"context"
	"net/http"

	"vmcp/internal/mcpwire"
)

// A link is an open way to the backend: Streamable HTTP or a child process.
type link interface {
	era() mcpwire.Era
	hello() *hello // never nil on an open link
	// exchange sends a request and hands each message that comes for it to recv, until recv says that it was the last.
	exchange(ctx context.Context, out *outgoing, recv receiver) error
	post(ctx context.Context, body []byte, header http.Header) error
	close()
}

// outgoing is a request as it goes to the backend.
type outgoing struct {
	id     mcpwire.RawID // ours
	method string
	body   []byte
	header http.Header // HTTP only
	// listens says that this is a subscription: it lasts, and what comes beside calls is not taken for a part of it.
	listens bool

	onHeader func(http.Header) // gets the header of the HTTP response; may be nil
}

// receiver takes one message of a backend and its HTTP status; it says whether the message ends the exchange.
type receiver func(r mcpwire.Reply, status int) (done bool, err error)
