package extauthz

import (
	"encoding/json"
	"net/url"
	"strings"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

const wellKnown = "/.well-known/oauth-protected-resource"

// metadata makes the protected resource metadata documents (RFC 9728) by path, and the challenge that points to the
// endpoint's. Strict clients compare resource byte for byte with the URL they were given
// (docs/architecture.md#addresses-that-clients-compare).
func metadata(e gatewayconfig.Endpoint, issuer string) (documents map[string][]byte, challenge string) {
	if issuer == "" || e.URL == "" {
		return nil, ""
	}
	type document struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
		ScopesSupported      []string `json:"scopes_supported,omitempty"`
		BearerMethods        []string `json:"bearer_methods_supported"`
	}
	encode := func(resource string) []byte {
		b, err := json.Marshal(document{resource, []string{issuer}, e.Scopes, []string{"header"}})
		if err != nil {
			panic(err) // strings only
		}
		return b
	}
	documents = map[string][]byte{wellKnown + e.Path: encode(e.URL)}
	if u, err := url.Parse(e.ResourceURL); err == nil && (u.Path == "" || u.Path == "/") {
		documents[wellKnown] = encode(e.ResourceURL)
	}
	challenge = `Bearer resource_metadata="` + strings.TrimSuffix(e.URL, e.Path) + wellKnown + e.Path + `"`
	if len(e.Scopes) > 0 {
		challenge += `, scope="` + strings.Join(e.Scopes, " ") + `"`
	}
	return documents, challenge
}

// document answers a GET of a metadata document. It is public; HEAD and others are refused.
func document(r *request, doc []byte) *answer {
	if r.method != "GET" {
		d := refuseRequest(405, mcpwire.CodeInvalidRequest, "method_not_allowed", "use GET")
		d.headers = []header{{"allow", "GET"}}
		return d
	}
	return &answer{kind: service, status: 200, reason: "metadata", body: doc, headers: []header{{"cache-control", "public, max-age=300"}}}
}
