package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"vmcp/services/authserver/internal/store"
)

const (
	maxRegistration = 8 << 10
	maxRedirects    = 10
	maxName         = 64             // characters that a person is shown
	unusedTime      = 24 * time.Hour // a client that never signs anybody in is kept
)

// registration is the part of RFC 7591 section 2 that means something here. The rest is ignored, as it says.
type registration struct {
	RedirectURIs    []string `json:"redirect_uris"`
	Name            string   `json:"client_name,omitempty"`
	AuthMethod      string   `json:"token_endpoint_auth_method"`
	GrantTypes      []string `json:"grant_types"`
	ResponseTypes   []string `json:"response_types"`
	Scope           string   `json:"scope,omitempty"`
	ApplicationType string   `json:"application_type"`
}

// registered is the answer of section 3.2.1.
type registered struct {
	ClientID      string `json:"client_id"`
	IssuedAt      int64  `json:"client_id_issued_at"`
	Secret        string `json:"client_secret,omitempty"`
	SecretExpires *int64 `json:"client_secret_expires_at,omitempty"` // 0: it does not
	registration
}

// register is dynamic client registration (RFC 7591). Whoever registers gains nothing yet: a person must agree on our
// page, and sign in.
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	if !s.cfg.Registration {
		return &Error{Code: "not_found", Text: "clients cannot register themselves here: ask the administrators", Status: http.StatusNotFound}
	}
	if !s.registering.allow(clientIP(r)) {
		return &Error{Code: codeUnavailable, Text: "too many registrations: try again later", Status: http.StatusTooManyRequests, RetryAfter: time.Minute}
	}
	reg, err := readRegistration(w, r)
	if err != nil {
		return err
	}
	if err := s.check(reg); err != nil {
		return err
	}
	now := time.Now()
	c := &store.Client{ID: random(16), Name: reg.Name, RedirectURIs: reg.RedirectURIs, Refresh: slices.Contains(reg.GrantTypes, "refresh_token"),
		Scopes: strings.Fields(reg.Scope), AuthMethod: reg.AuthMethod, ApplicationType: reg.ApplicationType, Created: now, Expires: now.Add(unusedTime)}
	out := registered{ClientID: c.ID, IssuedAt: now.Unix(), registration: *reg}
	if c.AuthMethod != authNone {
		out.Secret, out.SecretExpires = random(32), new(int64)
		c.SecretHash = store.Hash(out.Secret)
	}
	if err := s.cfg.Store.AddClient(r.Context(), c, maxClients); errors.Is(err, store.ErrFull) {
		return (&Error{Code: codeUnavailable, Text: "no more clients can be registered now", RetryAfter: time.Hour}).because(err)
	} else if err != nil {
		return internalError("keeping the client", err)
	}
	recordOf(r).client, recordOf(r).outcome = c.ID, "registered"
	writeJSON(w, http.StatusCreated, out)
	return nil
}

func readRegistration(w http.ResponseWriter, r *http.Request) (*registration, error) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return nil, fail(codeInvalidMetadata, "Content-Type must be application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRegistration))
	if err != nil {
		return nil, fail(codeInvalidMetadata, fmt.Sprintf("more than %d bytes, or cut off", maxRegistration))
	}
	reg := &registration{}
	if err := json.Unmarshal(body, reg); err != nil {
		return nil, fail(codeInvalidMetadata, "not a JSON object with the members of RFC 7591").because(err)
	}
	return reg, nil
}

// check applies our rules and fills in what was left out. What we do not give is left out of the answer, as RFC 7591
// section 3.2.1 allows, where refusing would only lock clients out.
func (s *Server) check(reg *registration) error {
	bad := func(text string) error { return fail(codeInvalidMetadata, text) }
	if n := len(reg.RedirectURIs); n == 0 || n > maxRedirects {
		return fail(codeInvalidRedirect, fmt.Sprintf("want 1 to %d redirect_uris", maxRedirects))
	}
	switch reg.ApplicationType {
	case "native", "web":
	case "": // OpenID Connect's default is web, which no client that leaves it out means
		reg.ApplicationType = "native"
	default:
		return bad("want application_type native or web")
	}
	for _, uri := range reg.RedirectURIs {
		if err := checkRedirect(uri, reg.ApplicationType); err != nil {
			return fail(codeInvalidRedirect, "a redirect URI is not accepted: "+err.Error())
		}
	}
	if reg.AuthMethod == "" { // the default of RFC 7591 is a secret, which no client that leaves it out keeps
		reg.AuthMethod = authNone
	}
	if !slices.Contains(s.authMethods(), reg.AuthMethod) {
		return bad("want token_endpoint_auth_method " + strings.Join(s.authMethods(), " or "))
	}
	if reg.AuthMethod != authNone {
		for _, uri := range reg.RedirectURIs {
			if !strings.HasPrefix(uri, "https://") {
				return bad("a client with a secret needs https redirect_uris")
			}
		}
	}
	switch {
	case len(reg.GrantTypes) == 0:
		reg.GrantTypes = []string{"authorization_code", "refresh_token"}
	case !slices.Contains(reg.GrantTypes, "authorization_code"):
		return bad("grant_types must contain authorization_code")
	}
	reg.GrantTypes = slices.DeleteFunc(reg.GrantTypes, func(g string) bool { return g != "authorization_code" && g != "refresh_token" })
	slices.Sort(reg.GrantTypes)
	reg.GrantTypes = slices.Compact(reg.GrantTypes)
	if len(reg.ResponseTypes) > 0 && !slices.Contains(reg.ResponseTypes, "code") {
		return bad("response_types must contain code")
	}
	reg.ResponseTypes = []string{"code"}
	reg.Scope = s.registeredScope(reg.Scope)
	reg.Name = displayName(reg.Name)
	return nil
}

// registeredScope is what the client may ask for: what it named and we have, and offline_access, which clients ask for
// without having registered it.
func (s *Server) registeredScope(scope string) string {
	named := strings.Fields(scope)
	if len(named) == 0 {
		return strings.Join(s.scopes, " ")
	}
	named = append(named, s.cfg.ClientScopes...)
	named = append(named, s.cfg.Endpoint.Scopes...)
	named = append(named, "openid", "offline_access")
	var out []string
	for _, scope := range s.scopes {
		if slices.Contains(named, scope) {
			out = append(out, scope)
		}
	}
	return strings.Join(out, " ")
}

// displayName is a name that cannot pretend: visible, one line, no marks that turn the direction of text or pile up over
// other lines (T14).
func displayName(name string) string {
	marks := 0
	name = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r), invisible(r), marks > 2:
			return -1
		}
		return r
	}, name)
	name = strings.Join(strings.Fields(name), " ")
	if runes := []rune(name); len(runes) > maxName {
		name = string(runes[:maxName-1]) + "…"
	}
	return name
}

// invisible: letters, marks and symbols that leave no ink (Default_Ignorable_Code_Point of Unicode, and the empty
// pattern of Braille). What else does not is no printable character.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) || r == '\u2800'
}
