package entra

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"vmcp/internal/guid"
	"vmcp/internal/secret"
)

func offline(t testing.TB) *Client {
	t.Helper()
	c, err := New(Config{
		IssuerURL: "https://login.microsoftonline.com/" + tenantID + "/v2.0", ClientID: clientID, RedirectURI: redirect, Log: zap.NewNop(),
		Secret: func() secret.Value { return canary }, Scopes: []string{"openid", "profile", "api://" + clientID + "/mcp.access"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const fuzzV2 = `{"iss":"https://login.microsoftonline.com/` + tenantID + `/v2.0","aud":"` + clientID + `","exp":4102444800,"ver":"2.0","tid":"` + tenantID +
	`","oid":"5d000000-0000-4000-8000-000000000001","azp":"` + clientID + `","azpacr":"1","scp":"mcp.access","roles":["a"]}`

// FuzzAccessToken lets the fuzzer write the claims behind a good signature: what is accepted is for us, by us, of our
// tenant and of a person, whatever else it says.
func FuzzAccessToken(f *testing.F) {
	c := offline(f)
	v1 := strings.NewReplacer("https://login.microsoftonline.com/"+tenantID+"/v2.0", "https://sts.windows.net/"+tenantID+"/", `"2.0"`, `"1.0"`,
		"azpacr", "appidacr", "azp", "appid", `"aud":"`, `"aud":"api://`).Replace(fuzzV2)
	for _, seed := range []string{fuzzV2, v1, `{}`, `[]`, `{"ver":"1.0","ver":"2.0"}`, `{"aud":["` + graph + `"]}`} {
		f.Add(`{"alg":"RS256","kid":"k"}`, seed)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, seed := range []string{fuzzV2, v1} {
		if p, err := readAccess(c, `{"alg":"RS256"}`, seed, now); err != nil || p.OID == "" {
			f.Fatalf("%s: %v", seed, err)
		}
	}
	f.Fuzz(func(t *testing.T, head, payload string) {
		p, err := readAccess(c, head, payload, now)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Kind != InvalidToken && e.Kind != WrongAudience {
				t.Errorf("got %v", err)
			}
			return
		}
		aud, _ := p.audience()
		if p.TID != tenantID || !guid.Valid(p.OID) || !strings.Contains(strings.ToLower(aud), clientID) || p.Idtyp == "app" ||
			!slices.Contains(strings.Fields(p.Scp), "mcp.access") || p.Iss != c.v1.issuer && p.Iss != c.v2.issuer {
			t.Errorf("accepted %s", payload)
		}
	})
}

// readAccess is accessToken without the signature.
func readAccess(c *Client, head, payload string, now time.Time) (claims, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	v, err := c.choose(b64([]byte(head)) + "." + b64([]byte(payload)) + ".c2ln")
	if err != nil {
		return claims{}, err
	}
	p, err := c.parse(v, "access token", []byte(payload), now)
	if err != nil {
		return claims{}, err
	}
	return p, c.checkAccess(v, p)
}

// FuzzRoles: no role that the claim does not have, sorted, bounded.
func FuzzRoles(f *testing.F) {
	for _, seed := range []string{`["b","a","a"]`, `"a"`, `null`, `[null]`, `[["a"]]`, `{"a":1}`, `["\u0000"]`, ``, `[`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		roles, err := readRoles(jsontext.Value(text))
		if err != nil {
			return
		}
		if roles == nil || len(roles) > maxRoles || !slices.IsSorted(roles) {
			t.Errorf("%s: %q", text, roles)
		}
		for i, role := range roles {
			if role == "" || len(role) > maxRole || i > 0 && role == roles[i-1] {
				t.Errorf("%s: %q", text, roles)
			}
		}
	})
}

// FuzzErrors: whatever Entra, or somebody with a link, says: no panic, and nothing but plain words in our log.
func FuzzErrors(f *testing.F) {
	c := offline(f)
	f.Add("invalid_grant", "AADSTS50173: revoked", "bad_token")
	f.Add("access_denied", "AADSTS99999999999999999: x", "<b>\n")
	f.Fuzz(func(t *testing.T, code, description, suberror string) {
		if code == "" {
			return
		}
		_, err := c.Callback(map[string][]string{"error": {code}, "error_description": {description}, "error_subcode": {suberror}})
		var e *Error
		if !errors.As(err, &e) || e.UserText() == "" || e.Kind.String() == "" {
			t.Fatalf("got %v", err)
		}
		if strings.ContainsAny(e.OAuth+e.Suberror, "<>\"'&\n\r\x1b") || len(e.OAuth) > 64 {
			t.Errorf("in the log: %q", e.Error())
		}
	})
}
