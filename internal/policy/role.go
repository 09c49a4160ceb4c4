package policy

// MayBePermitted reports whether any permit's principal scope, and what it asks of the caller alone, fits this caller.
// False: whatever the item, nothing will ever be permitted, as for a person without a role.
func (c *Caller) MayBePermitted() bool {
	for i, p := range c.set.policies {
		if p.permit && c.verdicts[i] != no {
			return true
		}
	}
	return false
}
