package entra

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"vmcp/internal/secret"
)

const (
	maxRoles = 64
	maxRole  = 128 // bytes; Entra takes 120 characters
)

// Person is who somebody is, for good: an object id means one account of one tenant. Names and mail addresses do not.
type Person struct {
	TID string // tenant
	OID string // object id
}

// Identity is what one verified answer of Entra says of a person.
type Identity struct {
	Person
	Name     string // for display only, as are the next two
	Email    string
	Username string // preferred_username, or the user principal name

	Roles        []string     // app roles, sorted; never nil
	RefreshToken secret.Value // empty when Entra sent none: after a refresh, keep the old one
	Version      string       // of the access token, 1.0 or 2.0
}

// Exchange redeems a code. verifier is the PKCE code verifier, nonce that of AuthorizeURL. Errors are of type *Error.
// With NoRole the identity is returned too, without tokens: the page should say who it is that has no role.
func (c *Client) Exchange(ctx context.Context, code, verifier, nonce string) (*Identity, error) {
	r, err := c.request(ctx, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {c.cfg.RedirectURI}, "code_verifier": {verifier},
	})
	if err != nil {
		return nil, err
	}
	if r.IDToken == "" {
		return nil, invalid("Entra sent no ID token")
	}
	return c.resolve(r, nonce, nil)
}

// Refresh redeems a refresh token and reads the roles anew. stored is whose it is. Errors are of type *Error; see
// Temporary. Entra sends a new refresh token each time, and the old one stays valid.
func (c *Client) Refresh(ctx context.Context, refreshToken secret.Value, stored Person) (*Identity, error) {
	r, err := c.request(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(refreshToken)}})
	if err != nil {
		return nil, err
	}
	return c.resolve(r, "", &stored)
}

// request asks the token endpoint, always with the scope. Client and API are the same application, which Entra may
// refuse as "requesting a token for itself" (AADSTS90009) when the API is named by its URI, or when scope is missing on
// a refresh. The form with the bare client id works, so it is tried once and remembered.
func (c *Client) request(ctx context.Context, form url.Values) (response, error) {
	form.Set("scope", c.scope)
	if c.useGUID.Load() {
		form.Set("scope", c.scopeGUID)
	}
	r, err := c.post(ctx, form)
	var e *Error
	if errors.As(err, &e) && e.has(90009) && form.Get("scope") != c.scopeGUID {
		form.Set("scope", c.scopeGUID)
		if r, err = c.post(ctx, form); err == nil {
			c.useGUID.Store(true)
			c.log.Info("Entra wants the scope with the client id instead of the Application ID URI (AADSTS90009)")
		}
	}
	return r, err
}

// resolve makes an identity of an answer: the role algorithm. stored is nil for a sign-in.
func (c *Client) resolve(r response, nonce string, stored *Person) (*Identity, error) {
	now := time.Now()
	if r.AccessToken == "" || !strings.EqualFold(r.TokenType, "Bearer") {
		return nil, invalid("Entra sent no bearer token")
	}
	var id claims
	if r.IDToken != "" { // a refresh need not have one
		var err error
		if id, err = c.idToken(r.IDToken, nonce, stored != nil, now); err != nil {
			return nil, err
		}
	}
	access, err := c.accessToken(r.AccessToken, now)
	if err != nil {
		return nil, err
	}
	if id.OID != "" && access.OID != id.OID {
		return nil, &Error{Kind: UserSwap, Hint: "ID token and access token are of different people"}
	}
	person := Person{access.TID, access.OID}
	if stored != nil && person != *stored {
		return nil, &Error{Kind: UserSwap, Hint: "the refresh token gave tokens of another person than it was issued to"}
	}

	all, err := readRoles(access.Roles)
	if err != nil {
		return nil, err
	}
	// Never the union of both: the access token's are those of the API, also when client and API part one day.
	if id.Roles != nil {
		if other, err := readRoles(id.Roles); err != nil || !slices.Equal(all, other) {
			c.log.Debug("roles of ID token and access token differ; the access token counts", zap.String("oid", person.OID))
		}
	}
	i := &Identity{
		Person: person,
		Name:   display(access.Name, id.Name), Email: display(id.Email, access.Email),
		Username: display(access.PreferredUsername, id.PreferredUsername, access.UPN, access.UniqueName),
		Roles:    all, Version: access.Ver,
	}
	if len(all) == 0 {
		return i, &Error{Kind: NoRole, Hint: "the account is assigned without a role (\"Default Access\"), or not at all"}
	}
	i.RefreshToken = secret.Value(r.RefreshToken)
	return i, nil
}

// readRoles reads the roles claim: absent, a string, or a list of strings. Everything else is refused as a whole.
// Values are exact, case included. The result is sorted, without duplicates, never nil.
func readRoles(raw jsontext.Value) ([]string, error) {
	roles := []string{}
	switch {
	case raw == nil:
		return roles, nil
	case raw.Kind() == '"':
		roles = append(roles, "")
		if err := json.Unmarshal(raw, &roles[0]); err != nil {
			return nil, invalid("access token: roles is malformed")
		}
	case raw.Kind() == '[':
		var list []jsontext.Value
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, invalid("access token: roles is malformed")
		}
		for _, item := range list {
			var role string
			if item.Kind() != '"' || json.Unmarshal(item, &role) != nil { // null would decode, too
				return nil, invalid("access token: roles has something that is no string")
			}
			roles = append(roles, role)
		}
	default:
		return nil, invalid("access token: roles is neither a string nor a list")
	}
	roles = slices.DeleteFunc(roles, func(s string) bool {
		return s == "" || len(s) > maxRole || strings.ContainsFunc(s, unicode.IsControl)
	})
	slices.Sort(roles)
	if roles = slices.Compact(roles); len(roles) > maxRoles {
		return nil, invalid("access token: %d roles, at most %d are accepted", len(roles), maxRoles)
	}
	return roles, nil
}

// display returns the first text that is not empty, for people to read: printable, at most 256 bytes.
func display(texts ...string) string {
	for _, s := range texts {
		s = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) { // also marks that turn the direction of text
				return -1
			}
			return r
		}, s)
		if s = strings.ToValidUTF8(s[:min(len(s), 256)], ""); s != "" { // no half letter at the end
			return s
		}
	}
	return ""
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
