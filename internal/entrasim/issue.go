package entrasim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Token is a token about to be signed, for Faults.Mutate.
type Token struct {
	ID     bool           // an ID token; else an access token
	Header map[string]any // a nil value leaves the member out
	Claims map[string]any // the same
	// Sign makes the signature of input, the first two parts; nil for RS256 with key.
	Sign func(input []byte, key *rsa.PrivateKey) []byte
}

// accessLife is random between 60 and 90 minutes, in seconds ("Configurable token lifetimes").
func (t *Tenant) accessLife() int {
	n, err := rand.Int(rand.Reader, big.NewInt(30*60))
	if err != nil {
		panic(err) // no randomness
	}
	return 60*60 + int(n.Int64())
}

// mint signs a token with the current key. It needs mu.
func (t *Tenant) mint(id bool, claims map[string]any, life int) string {
	key := t.keys[len(t.keys)-1]
	// iat and nbf lie some minutes back: Entra allows for slow clocks (seen in its samples).
	start := t.now().Add(-5 * time.Minute).Unix()
	claims["iat"], claims["nbf"], claims["exp"] = start, start, t.now().Unix()+int64(life)
	claims["uti"], claims["aio"], claims["rh"] = random("")[:22], random("A"), random("0.")
	tok := &Token{ID: id, Header: map[string]any{"typ": "JWT", "alg": "RS256", "kid": key.kid}, Claims: claims}
	if claims["ver"] == "1.0" {
		tok.Header["x5t"] = key.kid // v1.0 only ("Access tokens", header)
	}
	if t.faults.WrongTenant {
		tok.foreign(t.cfg.Tenant)
	}
	if t.faults.Mutate != nil {
		t.faults.Mutate(tok)
	}
	return tok.compact(key.key)
}

// foreign moves a token to another tenant.
func (tok *Token) foreign(tenant string) {
	const other = "99999999-9999-4999-8999-999999999999"
	tok.Claims["tid"] = other
	tok.Claims["iss"] = strings.Replace(fmt.Sprint(tok.Claims["iss"]), tenant, other, 1)
}

func (tok *Token) compact(key *rsa.PrivateKey) string {
	missing := func(_ string, v any) bool { return v == nil }
	maps.DeleteFunc(tok.Header, missing)
	maps.DeleteFunc(tok.Claims, missing)
	input := encode(marshal(tok.Header)) + "." + encode(marshal(tok.Claims))
	if tok.Sign != nil {
		return input + "." + encode(tok.Sign([]byte(input), key))
	}
	return input + "." + encode(sign([]byte(input), key))
}

// accessToken makes a token for our application: of a person, or of the application itself. The version is the
// resource's choice ("Access tokens", token formats). It needs mu.
func (t *Tenant) accessToken(p *Person, scopes []string, life int) string {
	c := map[string]any{"tid": t.cfg.Tenant}
	version2 := t.version == 2
	if version2 { // "Access token claims reference": aud is the API's client id
		c["ver"], c["iss"], c["aud"] = "2.0", t.Issuer(), t.cfg.ClientID
		c["azp"], c["azpacr"] = t.cfg.ClientID, "1"
	} else { // aud is how the resource was asked for, an App ID URI
		c["ver"], c["iss"], c["aud"] = "1.0", t.issuerV1(), t.cfg.AppIDURI
		c["appid"], c["appidacr"] = t.cfg.ClientID, "1"
	}
	if p == nil || t.faults.AppOnly {
		// An application: no scp, and sub is oid, its service principal. It says idtyp only where the optional claim is set.
		c["oid"], c["sub"] = servicePrincipal, servicePrincipal
		if t.faults.AppOnly {
			c["idtyp"], c["roles"] = "app", []string{"mcp-admin"}
		}
		return t.mint(false, c, life)
	}
	t.person(c, p)
	c["scp"] = strings.Join(scopes, " ")
	if version2 {
		c["preferred_username"] = p.UPN
	} else {
		c["acr"], c["amr"], c["unique_name"], c["ipaddr"] = "1", []string{"pwd"}, p.UPN, "127.0.0.1"
		if !p.Guest {
			c["upn"] = p.UPN
		}
	}
	if t.faults.WrongAudience {
		c["aud"] = "api://88888888-8888-4888-8888-888888888888"
	}
	return t.mint(false, c, life)
}

// idToken follows "ID token claims reference". Its version is that of the endpoint: always 2.0 here. It needs mu.
func (t *Tenant) idToken(p *Person, scopes []string, nonce string) string {
	c := map[string]any{"ver": "2.0", "iss": t.Issuer(), "aud": t.cfg.ClientID, "tid": t.cfg.Tenant}
	t.person(c, p)
	c["preferred_username"] = p.UPN
	if !slices.Contains(scopes, "profile") { // oid needs it too
		c["name"], c["preferred_username"], c["oid"] = nil, nil, nil
	}
	if slices.Contains(scopes, "email") {
		c["email"] = p.UPN
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	return t.mint(true, c, 3600)
}

// person adds what both tokens say of somebody. It needs mu.
func (t *Tenant) person(c map[string]any, p *Person) {
	c["oid"], c["name"] = p.OID, p.Name
	sum := sha256.Sum256([]byte(t.cfg.Tenant + p.OID + t.cfg.ClientID))
	c["sub"] = encode(sum[:]) // pairwise: another one for each application
	if p.Guest {
		c["idp"] = sts + "/77777777-7777-4777-8777-777777777777/"
	}
	if len(p.Roles) > 0 && !t.faults.OmitRoles { // absent, never empty
		c["roles"] = slices.Clone(p.Roles)
	}
}

// graphToken is what a client gets who did not ask for its own API. Only Graph can verify it: its header has a nonce, and
// the signature is over the header with the nonce's hash in its place (reported, not documented). It needs mu.
func (t *Tenant) graphToken(p *Person, scopes []string, life int) string {
	key := t.keys[len(t.keys)-1]
	now := t.now().Unix()
	c := map[string]any{
		"aud": graph, "iss": t.issuerV1(), "iat": now, "nbf": now, "exp": now + int64(life), "tid": t.cfg.Tenant, "ver": "1.0",
		"appid": t.cfg.ClientID, "appidacr": "1", "oid": p.OID, "sub": random(""), "name": p.Name, "unique_name": p.UPN, "upn": p.UPN,
		"scp": strings.Join(slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "offline_access" }), " "),
	}
	nonce := random("")
	head := map[string]any{"typ": "JWT", "alg": "RS256", "kid": key.kid, "x5t": key.kid, "nonce": nonce}
	sum := sha256.Sum256([]byte(nonce))
	hashed := maps.Clone(head)
	hashed["nonce"] = encode(sum[:])
	payload := encode(marshal(c))
	signature := sign([]byte(encode(marshal(hashed))+"."+payload), key.key)
	return encode(marshal(head)) + "." + payload + "." + encode(signature)
}

// servicePrincipal is the object id of the application in the tenant.
const servicePrincipal = "5d000000-0000-4000-8000-0000000000ff"

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("claims are not JSON: %v", err)) // of a mutator
	}
	return b
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
