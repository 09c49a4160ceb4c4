package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// The ways in which a backend fails a call, for errors.Is. What clients may read is ClientText.
var (
	ErrUnavailable  = errors.New("backend unavailable") // not reached, or it answered with an HTTP error
	ErrRefused      = errors.New("backend refuses us")  // 401 or 403: the gateway's own credentials
	ErrTimeout      = errors.New("backend timed out")   // no answer within the call's time
	ErrStarting     = errors.New("backend is starting") // its child takes long; the start goes on
	ErrBusy         = errors.New("backend busy")        // 429
	ErrFull         = errors.New("backend is full")     // all children that there may be are in calls
	ErrInvalidReply = errors.New("backend sent an invalid reply")
	ErrNeedsInput   = errors.New("backend asks for input") // that the client cannot give, or again and again
	ErrOpen         = errors.New("breaker is open")        // it failed too often lately: not asked
	ErrCancelled    = errors.New("call was cancelled")     // by Session.Cancel: no answer is owed
)

var clientTexts = map[error]string{
	ErrUnavailable:  "the server behind this gateway is not available",
	ErrRefused:      "the server behind this gateway does not accept the gateway's credentials",
	ErrTimeout:      "the server behind this gateway did not answer in time",
	ErrStarting:     "the server behind this gateway is starting, try again later",
	ErrFull:         "as many calls are running as the server behind this gateway has places for, try again later",
	ErrBusy:         "the server behind this gateway is busy, try again later",
	ErrInvalidReply: "the server behind this gateway sent an invalid answer",
	ErrNeedsInput:   "the server behind this gateway asks for what this client cannot give, or asks without end",
	ErrOpen:         "the server behind this gateway has failed again and again and is left alone for a while, try again later",
	ErrCancelled:    "the request was cancelled",
}

// Error is a failed exchange with a backend. Its text names the backend and the cause and is for the log only.
type Error struct {
	Backend string
	Kind    error // one of the sentinels above
	Ran     bool  // the request may have been executed: it must not be repeated (PC-4)
	Err     error // private cause
}

func (e *Error) Error() string {
	return fmt.Sprintf("backend %s: %v: %v", e.Backend, e.Kind, e.Err)
}

func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

// ClientText is the constant text of a -32603 for a client. It names no backend, address or cause.
func ClientText(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return clientTexts[e.Kind]
	}
	return "the request failed inside the gateway"
}

// fail classifies what went wrong during an exchange. ran says that the request may have reached the backend.
func (b *Backend) fail(ctx context.Context, err error, ran bool) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	kind := ErrUnavailable
	var dial *net.OpError
	switch {
	case ctx.Err() != nil:
		cause := context.Cause(ctx)
		if !errors.Is(cause, ErrTimeout) && !errors.Is(cause, context.DeadlineExceeded) {
			return cause // the caller went away: not the backend's fault
		}
		kind = ErrTimeout
	case errors.As(err, &dial) && dial.Op == "dial":
		ran = false
	}
	return &Error{Backend: b.cfg.Name, Kind: kind, Ran: ran, Err: err}
}

func (b *Backend) errorf(kind error, ran bool, format string, args ...any) error {
	return &Error{Backend: b.cfg.Name, Kind: kind, Ran: ran, Err: fmt.Errorf(format, args...)}
}
