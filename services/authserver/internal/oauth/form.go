package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	maxQuery  = 16 << 10 // bytes of an authorization request
	maxForm   = 64 << 10 // bytes of a token request
	maxParams = 50
)

var (
	errTwice     = errors.New("a parameter is given twice") // RFC 6749 section 3.1
	errMalformed = errors.New("the parameters are malformed")
)

// parseParams reads parameters in application/x-www-form-urlencoded. Each may be given once; only resource may repeat
// (RFC 8707), for others to judge. Semicolons, invalid escapes and what is not UTF-8 are errors.
func parseParams(raw string) (url.Values, error) {
	if strings.Count(raw, "&") >= maxParams {
		return nil, errMalformed
	}
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errMalformed
	}
	for name, values := range v {
		if len(values) > 1 && name != "resource" {
			return nil, errTwice
		}
		for _, s := range append(values, name) {
			if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return nil, errMalformed
			}
		}
		if len(values) == 1 && values[0] == "" { // RFC 6749 section 3.1: as if it were not there
			delete(v, name)
		}
	}
	return v, nil
}

// readForm reads the body of a POST. Nothing in its query counts.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || mediaType != "application/x-www-form-urlencoded" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, errors.New("Content-Type must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return nil, errors.New("the body is too large, or was cut off")
	}
	return parseParams(string(body))
}

// only returns the named parameters, so that nothing else reaches fosite.
func only(v url.Values, names ...string) url.Values {
	out := url.Values{}
	for _, name := range names {
		if values := v[name]; len(values) > 0 {
			out[name] = values[:1]
		}
	}
	return out
}
