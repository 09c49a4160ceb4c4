package signing

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/secret"
	"vmcp/internal/token"
	"vmcp/services/authserver/internal/store"
)

func openStore(t *testing.T) *store.DB {
	t.Helper()
	d, err := store.Open(filepath.Join(t.TempDir(), "test.db"), keyringtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func open(t *testing.T, d *store.DB, pems ...secret.Value) *Keys {
	t.Helper()
	r, err := Open(t.Context(), Config{Store: d, Overlap: time.Hour, Log: zap.NewNop()}, Documents{PEM: pems})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// kids are the published keys, the newest first.
func kids(t *testing.T, r *Keys) []string {
	t.Helper()
	jwks, _ := r.JWKS()
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, k := range set.Keys {
		if k["d"] != "" || k["use"] != "sig" || k["alg"] == "" {
			t.Errorf("published key %v", k)
		}
		list = append(list, k["kid"])
	}
	return list
}

// verify is what authz does.
func verify(t *testing.T, r *Keys, text string) error {
	t.Helper()
	v, err := token.New(token.Config{Issuer: gatewayconfig.Issuer{URL: "https://as.example.com", Own: true}, Audience: "https://mcp", Log: zap.NewNop()},
		func(c token.Claims) (token.Claims, error) { return c, nil })
	if err != nil {
		t.Fatal(err)
	}
	jwks, _ := r.JWKS()
	if err := v.SetKeys(jwks); err != nil {
		return err
	}
	_, err = v.Verify(text)
	return err
}

func sign(t *testing.T, r *Keys) string {
	t.Helper()
	payload, err := token.Issued{Issuer: "https://as.example.com", Audience: "https://mcp", Subject: "ann", IssuedAt: time.Now(), Expiry: time.Now().Add(time.Hour)}.Payload()
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRotation(t *testing.T) {
	d := openStore(t)
	r := open(t, d)
	start := time.Now()
	at := func(after time.Duration) []string {
		t.Helper()
		if err := r.Update(t.Context(), start.Add(after)); err != nil {
			t.Fatal(err)
		}
		return kids(t, r)
	}
	first := at(0)
	if len(first) != 1 {
		t.Fatalf("%d keys at the start", len(first))
	}
	if err := verify(t, r, sign(t, r)); err != nil {
		t.Error(err)
	}
	if got := at(period - lead - time.Minute); len(got) != 1 {
		t.Errorf("%d keys before it is time", len(got))
	}
	changed := r.Changed()
	both := at(period - lead + time.Second)
	if len(both) != 2 || both[1] != first[0] {
		t.Fatalf("keys %v, the first was %v", both, first)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the change")
	}
	// The new key is known before it signs.
	if text := sign(t, r); verify(t, r, text) != nil || !strings.Contains(header(t, text), first[0]) {
		t.Error("the new key signs already")
	}
	if got := at(period + 59*time.Minute); len(got) != 2 {
		t.Errorf("%d keys while tokens of the old one live", len(got))
	}
	if got := at(period + 61*time.Minute); len(got) != 1 || got[0] != both[0] {
		t.Errorf("keys %v after the overlap, want %v", got, both[:1])
	}
}

func header(t *testing.T, text string) string {
	t.Helper()
	head, _, _ := strings.Cut(text, ".")
	raw, err := decode(head)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Whoever slept over the change still publishes before signing.
func TestLateRotation(t *testing.T) {
	d := openStore(t)
	r := open(t, d)
	late := time.Now().Add(10 * period).Truncate(time.Microsecond)
	if err := r.Update(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	stored, err := d.SigningKeys(t.Context())
	if err != nil || len(stored) != 2 || stored[1].Active.Before(late.Add(lead)) {
		t.Errorf("%d keys, %v", len(stored), err)
	}
}

// Two replicas agree, and a restart finds the key.
func TestSharedStore(t *testing.T) {
	d := openStore(t)
	a, b := open(t, d), open(t, d)
	if err := verify(t, b, sign(t, a)); err != nil {
		t.Error(err)
	}
	for _, r := range []*Keys{a, b} {
		if err := r.Update(t.Context(), time.Now().Add(period)); err != nil {
			t.Fatal(err)
		}
	}
	if x, y := kids(t, a), kids(t, b); strings.Join(x, " ") != strings.Join(y, " ") || len(x) != 2 {
		t.Errorf("keys %v and %v", x, y)
	}
}

func pemOf(t *testing.T, kind string, der []byte, err error) secret.Value {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return secret.Value(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestConfigured(t *testing.T) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	public, ed, _ := ed25519.GenerateKey(rand.Reader)
	sec1, err := x509.MarshalECPrivateKey(ec)
	ecPEM := pemOf(t, "EC PRIVATE KEY", sec1, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ed)
	edPEM := pemOf(t, "PRIVATE KEY", pkcs8, err)
	pkcs8, err = x509.MarshalPKCS8PrivateKey(p384)
	p384PEM := pemOf(t, "PRIVATE KEY", pkcs8, err)
	pkcs8, err = x509.MarshalPKCS8PrivateKey(p521)
	p521PEM := pemOf(t, "PRIVATE KEY", pkcs8, err)
	spki, err := x509.MarshalPKIXPublicKey(public)
	publicPEM := pemOf(t, "PUBLIC KEY", spki, err)
	rsaPEM := pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil)
	weakPEM := pemOf(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak), nil)

	for alg, text := range map[string]secret.Value{"ES256": ecPEM, "ES384": p384PEM, "RS256": rsaPEM, "EdDSA": edPEM} {
		r := open(t, openStore(t), text)
		signed := sign(t, r)
		if !strings.Contains(header(t, signed), `"alg":"`+alg+`"`) {
			t.Errorf("%s: header %s", alg, header(t, signed))
		}
		if err := verify(t, r, signed); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if _, err := r.Open(signed); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	r := open(t, openStore(t), rsaPEM, ecPEM)
	for name, text := range map[string]secret.Value{"weak": weakPEM, "P-521": p521PEM, "public": publicPEM, "text": "canary", "cut": ecPEM[:60] + "\n-----END EC PRIVATE KEY-----\n"} {
		err := r.Configure(t.Context(), Documents{PEM: []secret.Value{text}})
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), string(ecPEM[30:60])) {
			t.Errorf("%s: the error holds the key: %v", name, err)
		}
	}

	for _, bad := range []secret.Value{weakPEM, "canary"} {
		if err := r.Configure(t.Context(), Documents{PEM: []secret.Value{edPEM, bad}}); err == nil {
			t.Error("a bad key was put in force")
		}
	}
	if !strings.Contains(header(t, sign(t, r)), "RS256") || len(kids(t, r)) != 2 {
		t.Error("a bad key changed what signs")
	}
}

// newPEM makes a key as the documents have it, and its id.
func newPEM(t *testing.T) (text secret.Value, kid string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newKey(private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	return pemOf(t, "EC PRIVATE KEY", der, err), k.kid
}

// T54: a key of the documents is published before it signs; one that was removed is believed until its last token has
// expired, or not at all any more, and a restart changes nothing of that.
func TestConfiguredRotation(t *testing.T) {
	first, firstID := newPEM(t)
	second, secondID := newPEM(t)
	const overlap = time.Hour
	type step struct {
		what    string
		after   time.Duration // since the start
		pems    []secret.Value
		drop    bool
		restart bool
		signs   string
		known   string // first, second, own
	}
	for name, steps := range map[string][]step{
		"put in front": {
			{"start", 0, []secret.Value{first}, false, false, "first", "first"},
			{"new", 0, []secret.Value{second, first}, false, false, "first", "first second"},
			{"restart", lead - time.Second, []secret.Value{second, first}, false, true, "first", "first second"},
			{"it signs", lead + time.Second, []secret.Value{second, first}, false, false, "second", "first second"},
			{"the old one goes", lead + time.Second, []secret.Value{second}, false, false, "second", "first second"},
			{"its tokens live", 2*lead + overlap - time.Second, []secret.Value{second}, false, true, "second", "first second"},
			{"none is left", 2*lead + overlap + 2*time.Second, []secret.Value{second}, false, false, "second", "second"},
		},
		"replaced": {
			{"start", 0, []secret.Value{first}, false, false, "first", "first"},
			{"the old one signs on", 0, []secret.Value{second}, false, false, "first", "first second"},
			{"for a while", lead + time.Second, []secret.Value{second}, false, false, "second", "first second"},
			{"none is left", lead + overlap + time.Second, []secret.Value{second}, false, false, "second", "second"},
		},
		"replaced and restarted": {
			{"start", 0, []secret.Value{first}, false, false, "first", "first"},
			{"there is no other to sign", 0, []secret.Value{second}, false, true, "second", "first second"},
		},
		"dropped": {
			{"start", 0, []secret.Value{first}, false, false, "first", "first"},
			{"at once", 0, []secret.Value{second}, true, false, "second", "second"},
		},
		"back again": {
			{"start", 0, []secret.Value{first, second}, false, false, "first", "first second"},
			{"gone", lead, []secret.Value{second}, false, false, "second", "first second"},
			{"back", lead + time.Minute, []secret.Value{first, second}, false, false, "first", "first second"},
			{"and stays", 2*lead + overlap, []secret.Value{first, second}, false, false, "first", "first second"},
		},
		"from our own": {
			{"start", 0, nil, false, false, "own", "own"},
			{"new", 0, []secret.Value{first}, false, false, "own", "first own"},
			{"restart", lead - time.Second, []secret.Value{first}, false, true, "own", "first own"},
			{"it signs", lead + time.Second, []secret.Value{first}, false, false, "first", "first own"},
			{"none is left", lead + overlap + time.Second, []secret.Value{first}, false, false, "first", "first"},
		},
		"to our own": {
			{"start", 0, []secret.Value{first}, false, false, "first", "first"},
			{"new", 0, nil, false, false, "first", "first own"},
			{"it signs", lead + time.Second, nil, false, false, "own", "first own"},
			{"none is left", lead + overlap + time.Second, nil, false, false, "own", "own"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := openStore(t)
			start := time.Now()
			var r *Keys
			named := func(kid string) string {
				switch kid {
				case firstID:
					return "first"
				case secondID:
					return "second"
				}
				return "own"
			}
			for _, s := range steps {
				now := start.Add(s.after)
				if r == nil || s.restart {
					r = &Keys{cfg: Config{Store: d, Overlap: overlap, Log: zap.NewNop()}, changed: make(chan struct{})}
				}
				if err := r.configure(t.Context(), Documents{PEM: s.pems, Drop: s.drop}, now); err != nil {
					t.Fatal(err)
				}
				if err := r.Update(t.Context(), now); err != nil { // a minute later, as Run does: the same
					t.Fatal(err)
				}
				var known []string
				for _, kid := range kids(t, r) {
					known = append(known, named(kid))
				}
				slices.Sort(known)
				i := slices.IndexFunc(r.set.Load().keys, func(k key) bool { return k.signs(now) })
				if got := strings.Join(known, " "); got != s.known || i < 0 || named(r.set.Load().keys[i].kid) != s.signs {
					t.Errorf("%s: published %s, want %s; key %d signs, want %s", s.what, got, s.known, i, s.signs)
				}
			}
		})
	}
}

func TestOpenForeign(t *testing.T) {
	a, b := open(t, openStore(t)), open(t, openStore(t))
	for _, text := range []string{"", "a.b.c", sign(t, b), strings.TrimSuffix(sign(t, a), "A") + "x"} {
		if _, err := a.Open(text); err == nil {
			t.Errorf("%.20q opens", text)
		}
	}
}

var decode = base64.RawURLEncoding.DecodeString
