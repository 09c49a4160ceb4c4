package token

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// algorithms are those accepted, whatever a token or a key set says. Never none or HS*: a public key is no secret
// (RFC 8725 section 2.1).
var algorithms = map[jose.SignatureAlgorithm]bool{
	jose.RS256: true, jose.PS256: true, jose.ES256: true, jose.ES384: true, jose.EdDSA: true,
}

// header is the JOSE header of a token, as far as we read it. Keys that it brings or points to (jwk, jku, x5c, x5u)
// are not even decoded.
type header struct {
	alg jose.SignatureAlgorithm
	kid string
	typ string
}

// strict is canonical base64url: two texts never decode to the same bytes.
var strict = base64.RawURLEncoding.Strict()

// parseHeader checks the outer form, three parts of base64url, and decodes the first.
func parseHeader(token string) (header, error) {
	dots := 0
	for i := range len(token) {
		switch c := token[i]; {
		case c == '.':
			dots++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default: // the decoder would skip line breaks
			return header{}, errors.New("token is not in compact form: a byte that base64url does not have")
		}
	}
	if dots != 2 {
		return header{}, fmt.Errorf("token is not in compact form: %d dots, want 2", dots)
	}
	first, rest, _ := strings.Cut(token, ".")
	_, signature, _ := strings.Cut(rest, ".")
	raw, err := strict.DecodeString(first)
	if err != nil {
		return header{}, errors.New("token header is not base64url")
	}
	if _, err := strict.DecodeString(signature); err != nil {
		return header{}, errors.New("token signature is not base64url")
	}
	var h struct {
		Alg  string         `json:"alg"`
		Kid  string         `json:"kid"`
		Typ  string         `json:"typ"`
		Crit jsontext.Value `json:"crit"`
		B64  jsontext.Value `json:"b64"`
		Zip  jsontext.Value `json:"zip"`
	}
	if err := json.Unmarshal(raw, &h); err != nil { // refuses duplicate names and invalid UTF-8
		return header{}, fmt.Errorf("token header: %w", private(err))
	}
	// No extension is understood here, so each critical one is a reason to refuse (RFC 7515 section 4.1.11). Unencoded
	// payloads are for JWS, not for tokens (RFC 7797 section 7).
	if h.Crit != nil || h.B64 != nil || h.Zip != nil {
		return header{}, errors.New("token header has crit, b64 or zip")
	}
	if len(h.Kid) > 256 {
		return header{}, errors.New("token header: kid is too long")
	}
	return header{alg: jose.SignatureAlgorithm(h.Alg), kid: h.Kid, typ: h.Typ}, nil
}

// check applies what does not need a key. own is true for our own access tokens.
func (h header) check(own bool) error {
	if !algorithms[h.alg] {
		return fmt.Errorf("token algorithm %.16q is not accepted", string(h.alg))
	}
	typ := strings.TrimPrefix(strings.ToLower(h.typ), "application/") // RFC 7515 section 4.1.9
	if typ == "at+jwt" || !own && (typ == "jwt" || typ == "") {
		return nil
	}
	return fmt.Errorf("token typ %.32q is not that of an access token", h.typ)
}

// private keeps the reason of a JSON error and drops the text around it, which comes from the token.
func private(err error) error {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New("duplicate member name")
	case errors.Is(err, jsontext.ErrNonStringName):
		return errors.New("member name is not a string")
	}
	return errors.New("malformed JSON or a member of the wrong type")
}
