package daemon

import "strings"

// List is a flag that may be given several times (flag.Value).
type List []string

func (l *List) String() string { return strings.Join(*l, " ") }

// Set adds one value.
func (l *List) Set(v string) error {
	*l = append(*l, v)
	return nil
}
