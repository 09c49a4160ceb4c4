// Package errorsx stands in for the package of the same name in github.com/ory/x: only what fosite v0.49.0 imports of
// it, written anew, because the original brings hundreds of modules along.
package errorsx

import "errors"

// WithStack returns err. fosite's errors carry what we log; nobody here reads stacks.
func WithStack(err error) error { return err }

// Cause returns the innermost wrapped error.
func Cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if c, ok := err.(interface{ Cause() error }); ok {
			next = c.Cause()
		}
		if next == nil {
			return err
		}
		err = next
	}
}

// What fosite's errors implement.
type (
	DebugCarrier      interface{ Debug() string }
	ReasonCarrier     interface{ Reason() string }
	RequestIDCarrier  interface{ RequestID() string }
	StatusCarrier     interface{ Status() string }
	StatusCodeCarrier interface{ StatusCode() int }
)
