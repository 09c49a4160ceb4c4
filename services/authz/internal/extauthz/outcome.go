package extauthz

import (
	"vmcp/internal/mcpwire"
	"vmcp/internal/policy"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/engine"
)

// outcome is what was found out about a request. The zero outcome denies: it has no seal.
type outcome struct {
	answer     *answer
	caller     *Caller
	message    *mcpwire.Message
	snap       *engine.Snapshot
	prepared   *engine.Caller
	target     *gatewayv1.Target
	definition string // digest of the item's
	policies   []string
	reason     string
	private    error
	seal       string
}

func (o *outcome) decided(d policy.Decision) {
	o.policies, o.reason = d.Policies, d.Reason
}

func (o *outcome) refused(d policy.Decision, a *answer) {
	o.policies, o.private, o.answer = d.Policies, d.Err, a
}
