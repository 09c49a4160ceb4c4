// Package secret is the type of credentials: strings that no log, error or document shows. Where they come from is
// internal/gatewayconfig's, where they go the owner's.
package secret

import (
	"fmt"
	"io"
)

// Value is one credential. Every way to print it says "redacted"; string(v) is the way to use it. Two
// things are beyond it: fmt calls no methods in unexported fields, and none below a value whose verb is wrong (vet
// reports those).
type Value string

const redacted = "redacted"

// Format implements fmt.Formatter for every verb, %x and %#v included.
func (Value) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String is what zap and other loggers print.
func (Value) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML encoders use.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
