package gatewayconfig

import (
	"regexp"
	"slices"
	"strings"
)

// Difference is what documents of ToolHive mean otherwise here, in one place of them.
type Difference struct {
	Note
	Reason string // why it is so
}

// Migration is what becomes of documents that ToolHive's operator runs.
type Migration struct {
	Gateway     *Gateway // nil where there are Problems
	Same        int      // fields that mean the same, of our kinds
	Differences []Difference
	Unused      []Note // accepted, and nothing acts on them; and kinds that are not for the gateway
	Problems    Problems
}

// difference is a row of the table of docs/from-toolhive.md.
type difference struct {
	kind, pattern string // of a field; a pattern below it counts too
	absent        bool   // it is about the field not being there
	value         string // only where the field has this value; empty: any
	change        string
	reason        string
}

// differences are those that a field shows, or its absence. What has no field is on the page alone.
var differences = []difference{
	{kind: "MCPServer", pattern: "spec.image",
		change: "`vmcp up` starts a program of this machine that you name by `--run` or the annotation `vmcp/command`; in a cluster the operator runs the image, a child of it for each session, with a bridge beside it",
		reason: "nothing here needs a container engine or the attach API"},
	{kind: "VirtualMCPServer", pattern: "spec.config.aggregation", absent: true,
		change: "tools are prefixed `{workload}_` as there, and policies may name them with or without the prefix: a forbid of the name without it bites here, and does nothing there",
		reason: "a policy that stops nothing because a server was renamed must not pass for one that does"},
	{kind: "VirtualMCPServer", pattern: "spec.config.aggregation.tools[].filter",
		change: "names are those that clients see, before the prefix",
		reason: "overrides, then conflicts, then filters, as the reference documents it"},
	{kind: "VirtualMCPServer", pattern: "spec.incomingAuth.oidcConfigRef.audience",
		change: "it may differ from `resourceUrl`",
		reason: "the guide says so; there tokens are made for `resourceUrl` alone"},
	{kind: "VirtualMCPServer", pattern: "spec.incomingAuth.authzConfig",
		change: "a change is in force without a restart; numbers in arguments compare as numbers; misspelt names of groups, actions and attributes are errors or warnings; an error in one policy denies what that policy is about, not everything",
		reason: "policies are checked against a schema when they are loaded"},
	{kind: "VirtualMCPServer", pattern: "spec.incomingAuth.authzConfig.groupClaimName", absent: true,
		change: "with `authServerConfig` the groups of a person are the app roles that Entra named, whatever else it emits; there a `groups` claim hides the roles, even an empty one",
		reason: "an Entra application that emits both would deny everybody"},
	{kind: "VirtualMCPServer", pattern: "spec.authServerConfig",
		change: "a page asks for consent before a client is let in; roles are those that Entra names at sign-in and at each refresh, and stand in our token; `sub` is another identifier; sessions can be revoked within seconds; the state is on disk and survives a restart",
		reason: "the token that decides is one that we have verified and signed"},
	{kind: "VirtualMCPServer", pattern: "spec.authServerConfig.signingKeySecretRefs", absent: true,
		change: "a key is made once and kept, so tokens outlive a restart; there it is lost with the pod"},
	{kind: "VirtualMCPServer", pattern: "spec.authServerConfig.storage",
		change: "not used: sign-ins are kept in a database of the authorization server, encrypted where they hold tokens",
		reason: "there Redis holds tokens in the clear"},
	{kind: "VirtualMCPServer", pattern: "spec.config.operational.timeouts",
		change: "it counts: the time of a call in which nothing moves, progress begins it anew; there calls are cut after about 30 s whatever it says"},
	{kind: "VirtualMCPServer", pattern: "spec.config.operational.failureHandling.partialFailureMode", value: "fail",
		change: "it counts: while one server is failing every list is an error; there it is read and does nothing. Take it out, or write best_effort, for lists of what there is"},
	{kind: "VirtualMCPServer", pattern: "spec.config.operational.failureHandling.circuitBreaker",
		change: "calls that fail open it, as well as health checks",
		reason: "there only health checks do, so calls go on failing"},
	{kind: "VirtualMCPServer", pattern: "spec.config.audit",
		change: "not used: there is always an audit trail, of each decision with the policies that made it"},
	{kind: "VirtualMCPServer", pattern: "spec.sessionStorage",
		change: "not used: a session id carries what any replica needs to go on with it",
		reason: "no Redis has to run"},
	{kind: "MCPOIDCConfig", pattern: "spec.inline.jwksAllowPrivateIP",
		change: "needed only for an issuer elsewhere: our own keys are not fetched over the network"},
	{kind: "MCPOIDCConfig", pattern: "spec.inline.insecureAllowHTTP",
		change: "needed only for an issuer elsewhere, and not under `vmcp up` on loopback"},
}

// inPolicies are what texts of policies say that means something else.
var inPolicies = []struct {
	what   string // for people
	is     *regexp.Regexp
	change string
	reason string
}{
	{"a policy with `Client::\"…\"`", regexp.MustCompile(`Client::"`),
		"a person is `Client::\"…\"` of another identifier here: write the rule on claims (`principal.claim_email`) or on a group",
		"there it is the upstream's `sub`, which Entra makes anew for each application"},
	{"a policy with `claim_roles`, `claim_upn`, `claim_appid`, `claim_azp`, `claim_scp`, `claim_wids`, `claim_idp` or `claim_preferred_username`", regexp.MustCompile(`claim_(roles|upn|appid|azp|scp|wids|idp|preferred_username)\b`),
		"with `authServerConfig` the token is ours and has no such claim, so the rule never matches: it has `sub`, `client_id`, `name`, `email`, `oid`, `tid`, `groups` (the app roles), `auth_time`; for roles write `principal in THVGroup::\"…\"`",
		"there policies read the upstream's access token, unverified"},
	{"a policy with `arg_…_present`", regexp.MustCompile(`\barg_[A-Za-z0-9_]+_present\b`),
		"`context has arg_x` asks whether an argument is there, of whatever type",
		"arguments keep their types"},
}

// Migrate says what becomes of documents that ToolHive runs. What Load refuses is in Problems.
func Migrate(src Source) *Migration {
	all := read(src)
	m := &Migration{}
	gateway, err := resolve(all, src)
	switch p := err.(type) {
	case nil:
		m.Gateway, m.Unused = gateway, slices.DeleteFunc(slices.Clone(gateway.Notes), func(n Note) bool {
			return !strings.HasPrefix(n.Text, "accepted, ") && !strings.HasPrefix(n.Text, "kind ")
		})
	case Problems:
		m.Problems = p
	}
	for _, d := range all.documents {
		if ours[d.kind] != nil {
			m.compare(d)
		}
	}
	return m
}

func (m *Migration) compare(d *document) {
	for _, row := range differences {
		there := func(f *field) bool { return f.pattern == row.pattern || below(f.pattern, row.pattern) }
		if row.kind == d.kind && row.absent && d.mayHave(row.pattern) && !slices.ContainsFunc(d.fields, there) {
			m.differ(d, d.at(row.pattern).line, row.pattern, row.change, row.reason)
		}
	}
	told := map[int]bool{} // once for all elements of a list
	for _, f := range d.fields {
		if isOneOf(silent, f.pattern) {
			continue
		}
		same := isOneOf(used[d.kind], f.pattern) || isOneOf(inPods[d.kind], f.pattern)
		for i, row := range differences {
			if row.kind == d.kind && !row.absent && !told[i] && f.pattern == row.pattern && (row.value == "" || f.node.Value == row.value) {
				told[i], same = true, false
				m.differ(d, f.line, f.path, row.change, row.reason)
			}
		}
		if strings.HasSuffix(f.pattern, "policies[]") {
			for _, p := range inPolicies {
				if p.is.MatchString(f.node.Value) {
					m.differ(d, f.line, f.path, p.change, p.reason)
				}
			}
		}
		if same {
			m.Same++
		}
	}
}

// mayHave says whether what the field would stand in is there, or is spec.config, which nobody has to write.
func (d *document) mayHave(path string) bool {
	parent := parentPath(path)
	return parent == "spec.config" || d.byPath[parent] != nil
}

func (m *Migration) differ(d *document, line int, field, change, reason string) {
	m.Differences = append(m.Differences, Difference{Note{d.file, line, field, change}, reason})
}
