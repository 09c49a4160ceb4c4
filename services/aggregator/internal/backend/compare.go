package backend

import (
	"fmt"
	"net/http"
	"strconv"

	"vmcp/internal/mcpwire"
)

// CompareParams checks the Mcp-Param-* headers of a modern client's call against its arguments, by the schema that List
// last saw (HV-5). Headers that no schema names mean nothing (HV-6). The error is for the client.
func (b *Backend) CompareParams(tool string, arguments []byte, h http.Header) error {
	known := b.schemas.Load()
	if known == nil {
		return nil
	}
	for _, p := range (*known)[tool] {
		want, given := argument(arguments, p.path)
		got := h[p.header]
		switch {
		case len(got) > 1:
			return fmt.Errorf("header %s is given %d times", p.header, len(got))
		case given != (len(got) == 1):
			return fmt.Errorf("header %s and its argument are not both present", p.header)
		case given && !sameParam(got[0], want, p.number):
			return fmt.Errorf("header %s and its argument do not agree", p.header)
		}
	}
	return nil
}

// sameParam compares two header forms as text, those of an integer also by value (42.0 is 42).
func sameParam(got, want string, number bool) bool {
	a, ok1 := mcpwire.DecodeHeader(got)
	b, ok2 := mcpwire.DecodeHeader(want)
	if !ok1 || !ok2 {
		return false
	}
	if a == b || !number {
		return a == b
	}
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	const exact = 1<<53 - 1
	return err1 == nil && err2 == nil && x == y && x >= -exact && x <= exact
}
