package backend

import (
	"fmt"
	"io"
	"net/http"
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
	return &Error{Backend: l.b.cfg.Name, Kind: kind, Ran: ran, Err: &statusError{resp.StatusCode}}
}

type statusError struct{ status int }

func (e *statusError) Error() string {
	if e.status < 400 {
		return fmt.Sprintf("HTTP status %d: redirects are not followed", e.status)
	}
	return fmt.Sprintf("HTTP status %d", e.status)
}

// contradicts says that a modern server would not have answered so.
func (e *statusError) contradicts() bool {
	return e.status == http.StatusBadRequest || e.status == http.StatusNotFound || e.status == http.StatusMethodNotAllowed
}
