package entrasim

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

// signingKey is an RSA key with a certificate, and a kid that is the certificate's SHA-1, as Entra's are ("Access tokens",
// validate the signature).
type signingKey struct {
	kid  string
	cert []byte // DER
	key  *rsa.PrivateKey
}

func newKey() (*signingKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "accounts.accesscontrol.windows.net"},
		NotBefore:    now.Add(-24 * time.Hour), NotAfter: now.AddDate(5, 0, 0),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	sum := sha1.Sum(cert)
	return &signingKey{kid: encode(sum[:]), cert: cert, key: key}, nil
}

// sign is RS256, the algorithm of all of Entra's tokens.
func sign(input []byte, key *rsa.PrivateKey) []byte {
	sum := sha256.Sum256(input)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // the key is ours
	}
	return signature
}

// RotateKeys makes a new key that signs from now on. The older ones stay published until ForgetKeys. ("Signing key
// rollover": several are valid at a time, and it may happen at any moment.)
func (t *Tenant) RotateKeys() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = append(t.keys, key)
	return nil
}

// ForgetKeys withdraws all keys but the one that signs.
func (t *Tenant) ForgetKeys() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = t.keys[len(t.keys)-1:]
}

func (t *Tenant) serveKeys(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !t.ours(w, r) {
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		var keys []map[string]any
		for _, k := range t.keys {
			jwk := map[string]any{ // no alg, as Entra's
				"kty": "RSA", "use": "sig", "kid": k.kid, "x5t": k.kid, "x5c": []string{base64.StdEncoding.EncodeToString(k.cert)},
				"n": encode(k.key.N.Bytes()), "e": encode(big.NewInt(int64(k.key.E)).Bytes()),
			}
			if version == 2 {
				jwk["issuer"] = t.Issuer()
			}
			keys = append(keys, jwk)
		}
		respond(w, http.StatusOK, map[string]any{"keys": keys})
	}
}

func (t *Tenant) discovery(version int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !t.ours(w, r) {
			return
		}
		base := authority + "/" + t.cfg.Tenant
		doc := map[string]any{ // "OpenID Connect on the Microsoft identity platform", sample metadata
			"issuer": t.Issuer(), "jwks_uri": base + "/discovery/v2.0/keys",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize", "token_endpoint": base + "/oauth2/v2.0/token",
			"end_session_endpoint":                  base + "/oauth2/v2.0/logout",
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
			"response_modes_supported":              []string{"query", "fragment", "form_post"},
			"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
			"subject_types_supported":               []string{"pairwise"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
			"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
			"request_uri_parameter_supported":       false,
			"tenant_region_scope":                   "EU", "cloud_instance_name": "microsoftonline.com",
		}
		if version == 1 {
			doc["issuer"], doc["jwks_uri"] = t.issuerV1(), base+"/discovery/keys"
			doc["authorization_endpoint"], doc["token_endpoint"] = base+"/oauth2/authorize", base+"/oauth2/token"
			doc["end_session_endpoint"] = base + "/oauth2/logout"
		}
		t.mu.Lock()
		change := t.faults.Discovery
		t.mu.Unlock()
		if change != nil {
			change(version, doc)
		}
		respond(w, http.StatusOK, doc)
	}
}

// ours reports whether the path names this tenant; else it has answered.
func (t *Tenant) ours(w http.ResponseWriter, r *http.Request) bool {
	if r.PathValue("tenant") == t.cfg.Tenant {
		return true
	}
	t.failJSON(w, failure(90002, r.PathValue("tenant")))
	return false
}

func respond(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
