package daemon

import (
	"fmt"
	"io"
)

// Secret is a credential that no log, error or document shows: every way to print it says "redacted". string(s) is the
// way to use it.
type Secret string

const redacted = "redacted"

// Format implements fmt.Formatter for every verb, %x and %#v included.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String is what zap and other loggers print.
func (Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, which JSON and YAML encoders use.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
