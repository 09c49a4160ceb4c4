package token

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// parseClaims decodes a payload whose signature was good and applies the rules for its claims.
func parseClaims(payload []byte, issuer, audience string, now time.Time) (Claims, error) {
	if len(payload) > maxPayload {
		return Claims{}, fmt.Errorf("token payload has %d bytes, at most %d are accepted: ask the issuer for fewer claims", len(payload), maxPayload)
	}
	var p struct {
		Iss      string   `json:"iss"`
		Sub      string   `json:"sub"`
		Aud      strs     `json:"aud"`
		Exp      *float64 `json:"exp"`
		Nbf      *float64 `json:"nbf"`
		Iat      *float64 `json:"iat"`
		ClientID string   `json:"client_id"`
		Azp      string   `json:"azp"`
		AppID    string   `json:"appid"`
		TSID     string   `json:"tsid"`
		JTI      string   `json:"jti"`
		Scope    strs     `json:"scope"`
		Scp      strs     `json:"scp"`
	}
	if err := json.Unmarshal(payload, &p); err != nil { // refuses duplicate names and invalid UTF-8
		return Claims{}, fmt.Errorf("token payload: %w", private(err))
	}
	if p.Iss != issuer {
		return Claims{}, errors.New("token is of another issuer")
	}
	if !slices.Contains(p.Aud, audience) {
		return Claims{}, errors.New("token is for another audience")
	}
	if p.Sub == "" {
		return Claims{}, errors.New("token has no sub")
	}
	if p.Exp == nil {
		return Claims{}, errors.New("token has no exp")
	}
	exp, err := numericDate(*p.Exp)
	if err != nil {
		return Claims{}, fmt.Errorf("token exp: %w", err)
	}
	// No leeway here: streams and sealed decisions end at exp as well.
	if !now.Before(exp) {
		return Claims{}, fmt.Errorf("token expired at %s", exp.UTC().Format(time.RFC3339))
	}
	c := Claims{Payload: payload, Issuer: p.Iss, Subject: p.Sub, TSID: p.TSID, JTI: p.JTI, Expiry: exp}
	for name, at := range map[string]*float64{"nbf": p.Nbf, "iat": p.Iat} {
		if at == nil {
			continue
		}
		t, err := numericDate(*at)
		if err != nil {
			return Claims{}, fmt.Errorf("token %s: %w", name, err)
		}
		if now.Add(skew).Before(t) {
			return Claims{}, fmt.Errorf("token %s is in the future: %s", name, t.UTC().Format(time.RFC3339))
		}
		if name == "iat" {
			c.IssuedAt = t
		}
	}
	for _, id := range []string{p.ClientID, p.Azp, p.AppID} {
		if c.ClientID == "" {
			c.ClientID = id
		}
	}
	for _, s := range append(p.Scope, p.Scp...) { // a string separated by spaces (RFC 9068), or a list
		c.Scope = append(c.Scope, strings.Fields(s)...)
	}
	return c, nil
}

// strs is a string or a list of strings (RFC 7519 section 4.1.3).
type strs []string

func (s *strs) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte{'"'}) {
		*s = strs{""}
		return json.Unmarshal(b, &(*s)[0])
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// numericDate converts seconds since the epoch (RFC 7519 section 2), until the year 9999.
func numericDate(seconds float64) (time.Time, error) {
	if !(seconds >= 0 && seconds < 253402300800) {
		return time.Time{}, errors.New("not a date")
	}
	return time.Unix(int64(seconds), 0), nil // fractions are cut: earlier is safer for exp
}
