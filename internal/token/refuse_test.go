package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestVerifyRefuses(t *testing.T) {
	i := startIssuer(t)
	v := newVerifier(t, issuerConfig(i))
	run(t, v)
	now := time.Now().Unix()
	ok := i.Mint(good(nil))
	parts := strings.Split(ok, ".")

	// HS256 with the published key as the secret, the classic confusion.
	hs := func(secret []byte) string {
		text := b64(`{"alg":"HS256","typ":"at+jwt","kid":"key-1"}`) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: own}, &jose.SignerOptions{EmbedJWK: true, ExtraHeaders: map[jose.HeaderKey]any{"typ": "at+jwt", "kid": "key-1"}})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := embedded.Sign(payload(i, nil))
	if err != nil {
		t.Fatal(err)
	}
	brought, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	head := func(h string) string { return i.SignRaw([]byte(h), payload(i, nil)) }
	raw := func(format string, args ...any) string { return i.Sign(nil, fmt.Appendf(nil, format, args...)) }
	other := startIssuer(t)
	sig := []byte(parts[2])
	if sig[3] == 'A' { // another character of the alphabet
		sig[3] = 'B'
	} else {
		sig[3] = 'A'
	}

	for name, tt := range map[string]struct{ token, want string }{
		"empty":                {"", "compact"},
		"no dots":              {"abc", "compact"},
		"two dots":             {"..", "header"},
		"three dots":           {ok + ".", "compact"},
		"five parts":           {ok + ".a.b", "compact"},
		"line break":           {ok + "\n", "compact"},
		"space":                {" " + ok, "compact"},
		"padding":              {parts[0] + "=." + parts[1] + "." + parts[2], "compact"},
		"not canonical":        {parts[0] + "." + parts[1] + "." + parts[2][:85] + "_", "signature"},
		"a byte too long":      {ofLength(t, i, maxToken+1), "bytes"},
		"alg none":             {b64(`{"alg":"none","typ":"at+jwt","kid":"key-1"}`) + "." + parts[1] + ".", "algorithm"},
		"alg None":             {b64(`{"alg":"None","typ":"at+jwt","kid":"key-1"}`) + "." + parts[1] + "." + parts[2], "algorithm"},
		"no alg":               {head(`{"typ":"at+jwt","kid":"key-1"}`), "algorithm"},
		"HS256 with the set":   {hs(i.JWKS()), "algorithm"},
		"ES512":                {head(`{"alg":"ES512","typ":"at+jwt","kid":"key-1"}`), "algorithm"},
		"another algorithm":    {head(`{"alg":"RS256","typ":"at+jwt","kid":"key-1"}`), "key"},
		"wrong kid":            {head(`{"alg":"ES256","typ":"at+jwt","kid":"../../keys"}`), "does not publish"},
		"its own key":          {brought, "signature"},
		"another's key":        {other.Mint(good(map[string]any{"iss": i.URL})), "signature"},
		"no signature":         {parts[0] + "." + parts[1] + ".", "signature"},
		"changed signature":    {parts[0] + "." + parts[1] + "." + string(sig), "signature"},
		"changed payload":      {parts[0] + "." + b64(`{"sub":"bob"}`) + "." + parts[2], "signature"},
		"crit":                 {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","crit":["exp"]}`), "crit"},
		"crit null":            {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","crit":null}`), "crit"},
		"b64":                  {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","b64":false}`), "b64"},
		"zip":                  {head(`{"alg":"ES256","typ":"at+jwt","kid":"key-1","zip":"DEF"}`), "zip"},
		"twin alg":             {head(`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"key-1"}`), "duplicate"},
		"header is a list":     {head(`["ES256"]`), "header"},
		"header and more":      {head(`{"alg":"ES256","kid":"key-1"} {}`), "header"},
		"alg is a number":      {head(`{"alg":256}`), "header"},
		"ID token of OIDC":     {head(`{"alg":"ES256","typ":"logout+jwt","kid":"key-1"}`), "typ"},
		"longest kid":          {head(`{"alg":"ES256","kid":"` + strings.Repeat("k", 256) + `"}`), "does not publish"},
		"longer kid":           {head(`{"alg":"ES256","kid":"` + strings.Repeat("k", 257) + `"}`), "kid"},
		"another issuer":       {i.Mint(good(map[string]any{"iss": i.URL + "/"})), "issuer"},
		"no issuer":            {i.Mint(good(map[string]any{"iss": nil})), "issuer"},
		"another audience":     {i.Mint(good(map[string]any{"aud": audience + "/"})), "audience"},
		"other audiences":      {i.Mint(good(map[string]any{"aud": []string{"a", "b"}})), "audience"},
		"no audience":          {i.Mint(good(map[string]any{"aud": nil})), "audience"},
		"audience a number":    {i.Mint(good(map[string]any{"aud": 5})), "payload"},
		"no sub":               {i.Mint(good(map[string]any{"sub": nil})), "sub"},
		"empty sub":            {i.Mint(good(map[string]any{"sub": ""})), "sub"},
		"sub a number":         {i.Mint(good(map[string]any{"sub": 1})), "payload"},
		"no exp":               {i.Mint(good(map[string]any{"exp": nil})), "exp"},
		"exp a string":         {i.Mint(good(map[string]any{"exp": "9999999999"})), "payload"},
		"exp beyond time":      {i.Mint(good(map[string]any{"exp": 1e300})), "exp"},
		"negative exp":         {i.Mint(good(map[string]any{"exp": -1})), "exp"},
		"expired":              {i.Mint(good(map[string]any{"exp": now - 1})), "expired"},
		"not yet":              {i.Mint(good(map[string]any{"nbf": now + 90})), "nbf"},
		"from the future":      {i.Mint(good(map[string]any{"iat": now + 90})), "iat"},
		"a byte too large":     {i.Sign(nil, padded(payload(i, nil), maxPayload+1)), "fewer claims"},
		"twin claim":           {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann","sub":"bob"}`, i.URL, audience, now+60), "duplicate"},
		"twin claim escaped":   {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann","s\u0075b":"bob"}`, i.URL, audience, now+60), "duplicate"},
		"twin inside":          {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann","x":{"a":1,"a":2}}`, i.URL, audience, now+60), "duplicate"},
		"invalid UTF-8":        {raw("{\"iss\":%q,\"aud\":%q,\"exp\":%d,\"sub\":\"ann\xff\"}", i.URL, audience, now+60), "payload"},
		"two documents":        {raw(`{"iss":%q,"aud":%q,"exp":%d,"sub":"ann"}{}`, i.URL, audience, now+60), "payload"},
		"payload is no object": {raw(`"x"`), "payload"},
		"Sub is not sub":       {raw(`{"iss":%q,"aud":%q,"exp":%d,"Sub":"ann"}`, i.URL, audience, now+60), "sub"},
	} {
		got, err := v.Verify(tt.token)
		if err == nil {
			t.Errorf("%s: accepted: %+v", name, got)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrNotReady) {
			t.Errorf("%s: got %q, want %q in it", name, err, tt.want)
		}
		if len(err.Error()) > 200 {
			t.Errorf("%s: an error of %d bytes: %.300s", name, len(err.Error()), err)
		}
	}
}
