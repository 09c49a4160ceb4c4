package backend

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// refusesUs: these are about the gateway and its credentials, not about the client's request, whatever the body says.
func refusesUs(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusTooManyRequests:
		return true
	}
	return false
}

// statusError is the failure that an HTTP status without a JSON-RPC body means, or one about the gateway itself.
func (l *httpLink) statusError(resp *http.Response) error {
	io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
	kind, ran := ErrUnavailable, true
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		kind, ran = ErrRefused, false
	case http.StatusTooManyRequests:
		kind, ran = ErrBusy, false
	}
	return &Error{Backend: l.b.cfg.Name, Kind: kind, Ran: ran, Err: &statusError{resp.StatusCode, l.detail(resp)}}
}

// detail is what makes a status plainer: where a redirect leads, without what may be secret in a URL, or the type of a
// body that is not the one asked for.
func (l *httpLink) detail(resp *http.Response) string {
	const most = 200
	what := ""
	switch to := target(resp, l.url); {
	case to != nil:
		what = fmt.Sprintf(": redirects are not followed, and this one leads to %s://%s%s", to.Scheme, to.Host, to.EscapedPath())
	case resp.StatusCode < 300:
		what = fmt.Sprintf(" with content type %q", contentType(resp))
	}
	return strings.ToValidUTF8(what[:min(len(what), most)], "")
}

type statusError struct {
	status int
	detail string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP status %d%s", e.status, e.detail) }

// contradicts says that a modern server would not have answered so.
func (e *statusError) contradicts() bool {
	return e.status == http.StatusBadRequest || e.status == http.StatusNotFound || e.status == http.StatusMethodNotAllowed
}
