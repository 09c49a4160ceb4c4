package extauthz

import (
	"strings"

	"vmcp/services/authz/internal/audit"
)

// clip bounds what a client wrote: a denied name may be as long as a body.
func clip(s string) string {
	const most = 1 << 10
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// record is the outcome for the audit trail.
func (o *outcome) record(r *request) audit.Record {
	rec := audit.Record{
		Time: now(), Request: r.id, ClientIP: r.clientIP, HTTPMethod: r.method,
		Decision: "deny", Reason: o.reason, Policies: o.policies,
	}
	if o.answer == nil && o.seal != "" {
		rec.Decision = "allow"
	} else if o.answer != nil {
		rec.Reason = o.answer.reason
		if o.answer.kind == service {
			rec.Decision = "answer"
		}
		if o.answer.private != nil {
			rec.Detail = o.answer.private.Error()
		}
	}
	if o.private != nil {
		rec.Detail = o.private.Error()
	}
	if o.caller != nil {
		rec.Caller, rec.Client, rec.Token = o.caller.Claims.Subject, o.caller.Claims.ClientID, o.caller.Claims.JTI
	}
	if o.message != nil {
		rec.Era, rec.Method, rec.Name = o.message.Era.String(), clip(o.message.Method), clip(o.message.Name)
	}
	if o.target != nil {
		rec.Backend, rec.Original, rec.Definition = o.target.Backend, o.target.Name, o.definition
	}
	if o.snap != nil {
		rec.Revision, rec.Catalog = o.snap.Policies.Revision(), o.snap.Digest
	}
	return rec
}
