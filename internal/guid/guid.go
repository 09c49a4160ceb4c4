// Package guid knows the one spelling of a GUID that is accepted: Entra's ids of tenants, applications and accounts. A
// second spelling of the same id would be another person, or another audience, to whoever compares texts.
package guid

import "regexp"

var form = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Valid says whether s is a GUID in lower case with hyphens.
func Valid(s string) bool { return form.MatchString(s) }
