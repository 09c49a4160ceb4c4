package entra

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcp/internal/entrasim"
)

// forgery is one way in which a token is not what it should be.
type forgery struct {
	name   string
	tokens string // id, access, or both; of which
	change func(*entrasim.Token)
	want   Kind
	hint   string // somewhere in the error's text
}

func set(claims map[string]any) func(*entrasim.Token) {
	return func(tok *entrasim.Token) {
		for name, value := range claims {
			tok.Claims[name] = value
		}
	}
}

func header(name string, value any) func(*entrasim.Token) {
	return func(tok *entrasim.Token) { tok.Header[name] = value }
}

func hmacWith(secret []byte) func([]byte, *rsa.PrivateKey) []byte {
	return func(input []byte, _ *rsa.PrivateKey) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write(input)
		return m.Sum(nil)
	}
}

// forgeries is the table of what must not sign anybody in, for both token versions.
func forgeries(t *testing.T, version int) []forgery {
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const other = "99999999-9999-4999-8999-999999999999"
	now := time.Now()
	v1, v2 := "https://sts.windows.net/"+tenantID+"/", "https://login.microsoftonline.com/"+tenantID+"/v2.0"
	actor, method := "appid", "appidacr"
	if version == 2 {
		actor, method = "azp", "azpacr"
	}
	list := []forgery{
		{"alg none", "both", func(tok *entrasim.Token) {
			tok.Header["alg"], tok.Sign = "none", func([]byte, *rsa.PrivateKey) []byte { return nil }
		}, InvalidToken, "algorithm"},
		{"HS256 with the public key", "both", func(tok *entrasim.Token) {
			tok.Header["alg"] = "HS256"
			tok.Sign = func(input []byte, key *rsa.PrivateKey) []byte {
				return hmacWith(x509.MarshalPKCS1PublicKey(&key.PublicKey))(input, nil)
			}
		}, InvalidToken, "algorithm"},
		{"PS256 said, RS256 signed", "both", header("alg", "PS256"), InvalidToken, "algorithm"},
		{"another key under our kid", "both", func(tok *entrasim.Token) {
			tok.Sign = func(input []byte, _ *rsa.PrivateKey) []byte { return rs256(input, stranger) }
		}, InvalidToken, "signature"},
		{"a changed signature", "both", func(tok *entrasim.Token) {
			tok.Sign = func(input []byte, key *rsa.PrivateKey) []byte { s := rs256(input, key); s[9] ^= 1; return s }
		}, InvalidToken, "signature"},
		{"an unknown kid", "both", header("kid", "nobody"), Unavailable, "not published"},
		{"no kid", "both", header("kid", nil), InvalidToken, "names no key"},
		{"a key of its own", "both", func(tok *entrasim.Token) {
			tok.Header["kid"], tok.Header["jku"], tok.Header["x5u"] = "mine", "https://evil.example/keys", "https://evil.example/cert"
			tok.Header["jwk"] = map[string]any{"kty": "RSA", "kid": "mine", "n": "AQAB", "e": "AQAB"}
		}, Unavailable, "not published"},
		{"crit", "both", header("crit", []string{"exp"}), InvalidToken, "crit"},
		{"typ of another kind", "both", header("typ", "dpop+jwt"), InvalidToken, "typ"},

		{"iss of another tenant", "both", set(map[string]any{"iss": strings.Replace(v2, tenantID, other, 1)}), InvalidToken, "issuer"},
		{"iss without its end", "both", set(map[string]any{"iss": "https://sts.windows.net/" + tenantID}), InvalidToken, "issuer"},
		{"iss common", "both", set(map[string]any{"iss": "https://login.microsoftonline.com/{tenantid}/v2.0"}), InvalidToken, "issuer"},
		{"tid of another tenant", "both", set(map[string]any{"tid": other}), InvalidToken, "tenant"},
		{"no tid", "both", set(map[string]any{"tid": nil}), InvalidToken, "tenant"},
		{"no ver", "both", set(map[string]any{"ver": nil}), InvalidToken, "version"},
		{"ver 3.0", "both", set(map[string]any{"ver": "3.0"}), InvalidToken, "version"},
		{"expired", "both", set(map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}), InvalidToken, "expired"},
		{"no exp", "both", set(map[string]any{"exp": nil}), InvalidToken, "expired"},
		{"exp of no time", "both", set(map[string]any{"exp": 1e300}), InvalidToken, "expired"},
		{"nbf in future", "both", set(map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}), InvalidToken, "not valid yet"},
		{"no oid", "both", set(map[string]any{"oid": nil}), InvalidToken, "oid"},
		{"oid no GUID", "both", set(map[string]any{"oid": "dev"}), InvalidToken, "oid"},
		{"claim of another type", "both", set(map[string]any{"tid": []string{tenantID}}), InvalidToken, "malformed"},

		{"ID token of v1", "id", set(map[string]any{"ver": "1.0", "iss": v1}), InvalidToken, "issuer"},
		{"ID token of another application", "id", set(map[string]any{"aud": other}), InvalidToken, "another application"},
		{"ID token for the URI", "id", set(map[string]any{"aud": "api://" + clientID}), InvalidToken, "another application"},
		{"ID token for two", "id", set(map[string]any{"aud": []string{clientID, other}}), InvalidToken, "another application"},
		{"nonce of another sign-in", "id", set(map[string]any{"nonce": "other"}), InvalidToken, "nonce"},
		{"no nonce", "id", set(map[string]any{"nonce": nil}), InvalidToken, "nonce"},
		{"ID token of another person", "id", set(map[string]any{"oid": other}), UserSwap, "different people"},

		{"aud of another API", "access", set(map[string]any{"aud": "api://" + other}), WrongAudience, "another API"},
		{"aud of two", "access", set(map[string]any{"aud": []string{clientID, other}}), WrongAudience, "another API"},
		{"aud of nobody", "access", set(map[string]any{"aud": nil}), WrongAudience, "another API"},
		{"aud with two slashes", "access", set(map[string]any{"aud": "api://" + clientID + "//"}), WrongAudience, "another API"},
		{"aud Graph by name", "access", set(map[string]any{"aud": "https://graph.microsoft.com/"}), WrongAudience, "Expose an API"},
		{"aud Graph by id", "access", set(map[string]any{"aud": graph}), WrongAudience, "Expose an API"},
		{"nonce in the header", "access", header("nonce", "x"), WrongAudience, "Expose an API"},
		{"v1 under the v2 issuer", "access", set(map[string]any{"ver": "1.0", "iss": v2}), InvalidToken, "issuer"},
		{"v2 under the v1 issuer", "access", set(map[string]any{"ver": "2.0", "iss": v1}), InvalidToken, "issuer"},
		{"by another client", "access", set(map[string]any{actor: other}), InvalidToken, "another application"},
		{"by nobody", "access", set(map[string]any{actor: nil}), InvalidToken, "another application"},
		{"by a public client", "access", set(map[string]any{method: "0"}), InvalidToken, "did not authenticate"},
		{"idtyp app", "access", set(map[string]any{"idtyp": "app"}), InvalidToken, "not of a person"},
		{"no scp", "access", set(map[string]any{"scp": nil}), InvalidToken, "not of a person"},
		{"another scope", "access", set(map[string]any{"scp": "mcp.accessall Mcp.Access"}), InvalidToken, "not granted"},
		{"access token of another person", "access", set(map[string]any{"oid": other}), UserSwap, "different people"},
		{"roles null in a list", "access", set(map[string]any{"roles": []any{"mcp-admin", nil}}), InvalidToken, "roles"},
		{"roles as an object", "access", set(map[string]any{"roles": map[string]any{"mcp-admin": true}}), InvalidToken, "roles"},
		{"roles as a number", "access", set(map[string]any{"roles": []int{1}}), InvalidToken, "roles"},
		{"65 roles", "access", set(map[string]any{"roles": many(65)}), InvalidToken, "roles"},
		{"roles in the ID token only", "access", set(map[string]any{"roles": nil}), NoRole, ""},
		{"roles of blanks", "access", set(map[string]any{"roles": []string{"", "mcp\nadmin", strings.Repeat("r", 129)}}), NoRole, ""},
	}
	if version == 2 {
		list = append(list, forgery{"v1 names of the client", "access", set(map[string]any{"azp": nil, "azpacr": nil, "appid": clientID, "appidacr": "1"}), InvalidToken, "another application"})
	} else {
		list = append(list, forgery{"v2 names of the client", "access", set(map[string]any{"appid": nil, "appidacr": nil, "azp": clientID, "azpacr": "1"}), InvalidToken, "another application"})
	}
	return list
}

func many(n int) (roles []string) {
	for i := range n {
		roles = append(roles, fmt.Sprintf("role-%d", i))
	}
	return roles
}

// Each forgery, in a sign-in and in a refresh: no tokens for us, the right kind, the right hint.
func TestForgedTokens(t *testing.T) {
	for _, version := range []int{1, 2} {
		sim := simulate(t, func(cfg *entrasim.Config) { cfg.TokenVersion = version })
		c := client(t, config(sim))
		before := mustSignIn(t, c, dev)
		for _, f := range forgeries(t, version) {
			for _, which := range []string{"id", "access"} {
				if f.tokens != which && f.tokens != "both" {
					continue
				}
				sim.SetFaults(entrasim.Faults{Mutate: func(tok *entrasim.Token) {
					if tok.ID == (which == "id") {
						f.change(tok)
					}
				}})
				name := fmt.Sprintf("v%d %s token: %s", version, which, f.name)
				t.Run(name, func(t *testing.T) {
					i, err := signIn(t, c, dev)
					if i != nil && (f.want != NoRole || i.RefreshToken != "") {
						t.Errorf("got %+v", i)
					}
					if e := wantKind(t, err, f.want); !strings.Contains(e.Error(), f.hint) {
						t.Errorf("got %v, want a word of %q", e, f.hint)
					}
				})
				if strings.Contains(f.name, "nonce") && which == "id" { // refreshes have none
					continue
				}
				t.Run(name+", at a refresh", func(t *testing.T) {
					want := f.want
					if i, err := c.Refresh(t.Context(), before.RefreshToken, before.Person); i != nil && i.RefreshToken != "" {
						t.Errorf("got %+v", i)
					} else {
						wantKind(t, err, want)
					}
				})
			}
		}
		sim.SetFaults(entrasim.Faults{})
		mustSignIn(t, c, dev)
	}
}

// What is unusual and good.
func TestGoodTokens(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	for version, changes := range map[int][]map[string]any{
		1: {{"aud": clientID}, {"aud": "api://" + clientID + "/"}, {"aud": "api://" + strings.ToUpper(clientID)}, {"appidacr": "2"}, {"exp": time.Now().Add(-30 * time.Second).Unix()}, {"nbf": time.Now().Add(30 * time.Second).Unix()}},
		2: {{"aud": strings.ToUpper(clientID)}, {"aud": []string{clientID}}, {"azpacr": "2"}, {"scp": "other mcp.access"}, {"roles": "mcp-developers"}, {"iat": 1}, {"idtyp": "user"}},
	} {
		sim.SetTokenVersion(version)
		for _, change := range changes {
			sim.SetFaults(entrasim.Faults{Mutate: func(tok *entrasim.Token) {
				if !tok.ID {
					set(change)(tok)
				}
			}})
			if i, err := signIn(t, c, dev); err != nil || !slices.Equal(i.Roles, []string{"mcp-developers"}) {
				t.Errorf("v%d %v: got %+v, %v", version, change, i, err)
			}
		}
	}
	sim.SetFaults(entrasim.Faults{Mutate: set(map[string]any{"name": "\u202eDev\x00\n" + strings.Repeat("é", 300)})})
	if i := mustSignIn(t, c, dev); len(i.Name) > 256 || !strings.HasPrefix(i.Name, "Devé") || strings.ContainsRune(i.Name, '\uFFFD') {
		t.Errorf("name: %q", i.Name)
	}
}

func TestFaultyTenant(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	for name, tt := range map[string]struct {
		faults entrasim.Faults
		want   Kind
	}{
		"another tenant":  {entrasim.Faults{WrongTenant: true}, InvalidToken},
		"wrong audience":  {entrasim.Faults{WrongAudience: true}, WrongAudience},
		"app-only":        {entrasim.Faults{AppOnly: true}, InvalidToken},
		"no ID token":     {entrasim.Faults{Response: func(r map[string]any) { delete(r, "id_token") }}, InvalidToken},
		"no access token": {entrasim.Faults{Response: func(r map[string]any) { delete(r, "access_token") }}, InvalidToken},
		"opaque token":    {entrasim.Faults{Response: func(r map[string]any) { r["access_token"] = "opaque" }}, InvalidToken},
		"token type":      {entrasim.Faults{Response: func(r map[string]any) { r["token_type"] = "pop" }}, InvalidToken},
		"swapped tokens":  {entrasim.Faults{Response: func(r map[string]any) { r["id_token"], r["access_token"] = r["access_token"], r["id_token"] }}, InvalidToken},
		"ID token twice":  {entrasim.Faults{Response: func(r map[string]any) { r["access_token"] = r["id_token"] }}, InvalidToken},
		"wrong types":     {entrasim.Faults{Response: func(r map[string]any) { r["access_token"] = 1 }}, Unavailable},
		"huge":            {entrasim.Faults{Response: func(r map[string]any) { r["x"] = strings.Repeat("x", maxResponse) }}, Unavailable},
		"huge token":      {entrasim.Faults{Mutate: set(map[string]any{"groups": many(3000)})}, InvalidToken},
	} {
		a, err := pick(t, c, dev)
		if err != nil {
			t.Fatal(err)
		}
		sim.SetFaults(tt.faults)
		i, err := c.Exchange(t.Context(), a.code, a.verifier, a.nonce)
		sim.SetFaults(entrasim.Faults{})
		if i != nil {
			t.Errorf("%s: got %+v", name, i)
		}
		t.Run(name, func(t *testing.T) { wantKind(t, err, tt.want) })
	}
	// The scopes of OpenID Connect alone: the token is for Graph, as it would be in reality.
	c.scope, c.scopeGUID = "openid profile", "openid profile"
	_, err := signIn(t, c, dev)
	if e := wantKind(t, err, WrongAudience); !strings.Contains(e.Hint, "Expose an API") {
		t.Errorf("hint: %s", e.Hint)
	}
}

// A code that somebody else got, brought with our own state (RFC 9700 section 4.5): PKCE and nonce are not theirs.
func TestCodeInjection(t *testing.T) {
	sim := simulate(t, nil)
	c := client(t, config(sim))
	victim, err := pick(t, c, admin)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := pick(t, c, dev)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exchange(t.Context(), victim.code, mine.verifier, mine.nonce)
	wantKind(t, err, Revoked)
	_, err = c.Exchange(t.Context(), victim.code, victim.verifier, mine.nonce) // if only PKCE failed to protect
	if e := wantKind(t, err, InvalidToken); !strings.Contains(e.Hint, "nonce") {
		t.Error(e)
	}
	_, err = c.Exchange(t.Context(), mine.code, mine.verifier, "")
	wantKind(t, err, InvalidToken)
	_, err = c.Exchange(t.Context(), mine.code, mine.verifier, mine.nonce) // used
	if e := wantKind(t, err, Revoked); !e.has(54005) {
		t.Error(e)
	}
	elsewhere := simulate(t, func(cfg *entrasim.Config) { cfg.Tenant = "99999999-9999-4999-8999-999999999999" })
	cfg := config(elsewhere)
	cfg.IssuerURL = elsewhere.Issuer()
	theirs, err := pick(t, client(t, cfg), admin)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Exchange(t.Context(), theirs.code, theirs.verifier, theirs.nonce)
	wantKind(t, err, Revoked)
}
