package entra

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vmcp/internal/guid"
	"vmcp/internal/token"
)

const (
	skew  = 60 * time.Second
	graph = "00000003-0000-0000-c000-000000000000"
)

// verifier is one issuer of the tenant, with its keys.
type verifier struct {
	version string // the ver of its tokens
	issuer  string
	keys    *token.Keys
}

// newVerifier follows Microsoft's advice on key caches ("Signing key rollover"): look every hour, look for an unknown key
// but at most every five minutes, keep keys through an outage, a day at most.
func (c *Client) newVerifier(version, issuer, discovery string) *verifier {
	return &verifier{version, issuer, token.NewKeys(token.KeysConfig{
		Issuer: issuer, Log: c.log,
		Fetch:   func(ctx context.Context) ([]byte, error) { return c.fetchKeys(ctx, issuer, discovery) },
		Refresh: time.Hour, Demand: 5 * time.Minute, Wait: 10 * time.Second, Trust: 24 * time.Hour,
	})}
}

// claims is what we read of both kinds of tokens and both versions.
type claims struct {
	Iss   string         `json:"iss"`
	Aud   jsontext.Value `json:"aud"`
	Exp   *float64       `json:"exp"`
	Nbf   *float64       `json:"nbf"`
	Ver   string         `json:"ver"`
	TID   string         `json:"tid"`
	OID   string         `json:"oid"`
	Nonce string         `json:"nonce"`
	Roles jsontext.Value `json:"roles"`

	Scp      string `json:"scp"`
	Idtyp    string `json:"idtyp"`
	Azp      string `json:"azp"`      // v2.0
	Azpacr   string `json:"azpacr"`   // v2.0
	AppID    string `json:"appid"`    // v1.0
	AppIDAcr string `json:"appidacr"` // v1.0

	// For display only: these change, and somebody else may have them tomorrow.
	Name              string `json:"name"`
	Email             string `json:"email"`
	PreferredUsername string `json:"preferred_username"`
	UPN               string `json:"upn"`
	UniqueName        string `json:"unique_name"`

	// Too many groups for a token: they were left out.
}

func invalid(format string, args ...any) *Error {
	return &Error{Kind: InvalidToken, Hint: fmt.Sprintf(format, args...)}
}

// verify checks signature, issuer, version, tenant, times, and that there is one person.
func (c *Client) verify(v *verifier, what, compact string, now time.Time) (claims, error) {
	payload, err := v.keys.Verify(compact, jose.RS256) // the only algorithm Entra signs with
	switch {
	case errors.Is(err, token.ErrNotReady):
		return claims{}, &Error{Kind: Unavailable, Hint: "Entra's signing keys are not known", cause: err}
	case errors.Is(err, token.ErrUnknownKey):
		// Most likely our keys are old: Entra may change its own at any moment, and we look again within minutes.
		return claims{}, &Error{Kind: Unavailable, Hint: what + ": signed with a key that is not published, or not yet seen; keys of a claims mapping policy are not supported", cause: err}
	case err != nil:
		return claims{}, &Error{Kind: InvalidToken, Hint: what, cause: err}
	}
	return c.parse(v, what, payload, now)
}

// parse is verify without the signature.
func (c *Client) parse(v *verifier, what string, payload []byte, now time.Time) (claims, error) {
	var p claims
	if err := json.Unmarshal(payload, &p); err != nil { // refuses duplicate names and invalid UTF-8
		return claims{}, invalid("%s: malformed claims", what)
	}
	switch {
	case p.Iss != v.issuer:
		return claims{}, invalid("%s: issuer is not %s", what, v.issuer)
	case p.Ver != v.version:
		return claims{}, invalid("%s: version is not %s", what, v.version)
	case p.TID != c.tenant: // beside iss, which has it too
		return claims{}, invalid("%s: of another tenant", what)
	case p.Exp == nil || !date(*p.Exp) || now.After(time.Unix(int64(*p.Exp), 0).Add(skew)):
		return claims{}, invalid("%s: expired, or this machine's clock is fast", what)
	case p.Nbf != nil && (!date(*p.Nbf) || now.Add(skew).Before(time.Unix(int64(*p.Nbf), 0))):
		return claims{}, invalid("%s: not valid yet, or this machine's clock is slow", what)
	}
	// No rule for the age of iat: Entra dates it back by minutes.
	if p.OID = strings.ToLower(p.OID); !guid.Valid(p.OID) {
		return claims{}, invalid("%s: no oid", what)
	}
	return p, nil
}

// date accepts seconds since the epoch until the year 9999.
func date(seconds float64) bool { return seconds >= 0 && seconds < 253402300800 }

// audience is the one audience of a token.
func (p claims) audience() (string, bool) {
	var aud string
	if err := json.Unmarshal(p.Aud, &aud); err == nil && p.Aud.Kind() == '"' {
		return aud, true
	}
	var list []string
	if err := json.Unmarshal(p.Aud, &list); err == nil && len(list) == 1 {
		return list[0], true
	}
	return "", false
}

// idToken verifies an ID token. nonce is that of the sign-in; a refresh has none.
func (c *Client) idToken(compact, nonce string, refresh bool, now time.Time) (claims, error) {
	p, err := c.verify(c.v2, "ID token", compact, now)
	if err != nil {
		return p, err
	}
	if aud, ok := p.audience(); !ok || aud != c.cfg.ClientID {
		return p, invalid("ID token: for another application")
	}
	if !refresh && (nonce == "" || !equal(p.Nonce, nonce)) {
		return p, invalid("ID token: its nonce is not that of this sign-in")
	}
	return p, nil
}

// accessToken verifies an access token for our API, of either version.
func (c *Client) accessToken(compact string, now time.Time) (claims, error) {
	v, err := c.choose(compact)
	if err != nil {
		return claims{}, err
	}
	p, err := c.verify(v, "access token", compact, now)
	if err != nil {
		return p, err
	}
	return p, c.checkAccess(v, p)
}

// choose picks the verifier by what the token says of itself, and recognises tokens for Microsoft Graph, which nobody
// but Graph can verify: their header has a nonce.
func (c *Client) choose(compact string) (*verifier, error) {
	var head struct {
		Nonce jsontext.Value `json:"nonce"`
	}
	var body struct {
		Ver string         `json:"ver"`
		Aud jsontext.Value `json:"aud"`
	}
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return nil, invalid("access token: not a signed token")
	}
	for i, into := range []any{&head, &body} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, invalid("access token: not a signed token")
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return nil, invalid("access token: malformed")
		}
	}
	aud, _ := claims{Aud: body.Aud}.audience()
	if aud = strings.TrimSuffix(aud, "/"); head.Nonce != nil || aud == graph || aud == "https://graph.microsoft.com" {
		return nil, &Error{Kind: WrongAudience, Hint: "the access token is for Microsoft Graph: scopes must have one of Expose an API (api://<client id>/mcp.access)"}
	}
	switch body.Ver {
	case c.v1.version:
		return c.v1, nil
	case c.v2.version:
		return c.v2, nil
	}
	return nil, invalid("access token: version is neither 1.0 nor 2.0")
}

// checkAccess checks for whom and by whom an access token is.
func (c *Client) checkAccess(v *verifier, p claims) error {
	aud, ok := p.audience()
	if !ok || !slices.ContainsFunc(c.audiences, func(want string) bool { return c.sameAudience(aud, want) }) {
		return &Error{Kind: WrongAudience, Hint: "the access token is for another API: compare the Application ID URI with scopes"}
	}
	actor, method := p.Azp, p.Azpacr
	if v == c.v1 {
		actor, method = p.AppID, p.AppIDAcr
	}
	if !strings.EqualFold(actor, c.cfg.ClientID) {
		return invalid("access token: issued to another application")
	}
	if method != "1" && method != "2" { // 0 is a public client: not us
		return invalid("access token: issued to a client that did not authenticate")
	}
	// A token of a person. That there is no scp must never be read as "trusted": every application of the tenant can get
	// tokens for our API, without a role or with one.
	granted := strings.Fields(p.Scp)
	if p.Idtyp == "app" || len(granted) == 0 {
		return invalid("access token: of an application, not of a person")
	}
	for _, name := range c.names {
		if name != ".default" && !slices.Contains(granted, name) {
			return invalid("access token: scope %s was not granted", name)
		}
	}
	return nil
}

// sameAudience: v2.0 tokens have the client id, v1.0 tokens an App ID URI, possibly with a slash at its end. GUIDs are
// compared without case.
func (c *Client) sameAudience(aud, want string) bool {
	aud, want = strings.TrimSuffix(aud, "/"), strings.TrimSuffix(want, "/")
	if want == c.cfg.ClientID || want == "api://"+c.cfg.ClientID {
		return strings.EqualFold(aud, want)
	}
	return aud == want
}
