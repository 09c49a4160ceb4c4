// Package credentials makes what the parts of a gateway know each other by: an authority for a namespace, a certificate
// for each role, and the keys that seal. It owns when each is made, renewed and dropped; where it is kept is its caller's.
package credentials

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"vmcp/internal/keyring"
	"vmcp/internal/mtls"
	"vmcp/internal/pki"
)

const (
	authorityLife   = 2 * 365 * 24 * time.Hour
	certificateLife = 30 * 24 * time.Hour
	// overlap is how long an authority is trusted before it signs, and after it signed its last: by far more than a
	// kubelet takes to give every pod its files.
	overlap = time.Hour
)

// Data is that of a Secret.
type Data = map[string][]byte

// Authority keeps an authority: it gives what is to be kept at this time, have itself where nothing is due. An authority
// whose last third has begun gets a successor, which is trusted at once and signs an overlap later; the one before stays
// trusted for another overlap, in which all certificates are signed anew.
func Authority(have Data, now time.Time) (Data, error) {
	current, err := pki.Load(have["ca.crt"], have["ca.key"])
	if len(have) == 0 {
		return fresh(now, "ca")
	} else if err != nil {
		return nil, err
	}
	want := clone(have)
	switch next, nextErr := pki.Load(have["next.crt"], have["next.key"]); {
	case len(have["next.crt"]) == 0 && late(current.Until(), authorityLife, now):
		made, err := fresh(now, "next")
		if err != nil {
			return nil, err
		}
		want["next.crt"], want["next.key"] = made["next.crt"], made["next.key"]
	case len(have["next.crt"]) == 0:
	case nextErr != nil:
		return nil, nextErr
	case now.After(made(next).Add(overlap)):
		want["old.crt"] = have["ca.crt"]
		want["ca.crt"], want["ca.key"] = have["next.crt"], have["next.key"]
		delete(want, "next.crt")
		delete(want, "next.key")
		return want, nil
	}
	if len(have["old.crt"]) > 0 && now.After(made(current).Add(2*overlap)) {
		delete(want, "old.crt")
	}
	return want, nil
}

func fresh(now time.Time, name string) (Data, error) {
	a, err := pki.New(now.Add(authorityLife))
	if err != nil {
		return nil, err
	}
	certificate, key, err := a.PEM()
	return Data{name + ".crt": certificate, name + ".key": key}, err
}

// trusted are the authorities that certificates are verified by.
func trusted(authority Data) []byte {
	return slices.Concat(authority["ca.crt"], authority["next.crt"], authority["old.crt"])
}

// Certificate gives the certificate of a role at this time, have itself where nothing is due.
func Certificate(have, authority Data, role mtls.Role, now time.Time) (Data, error) {
	if bytes.Equal(have["ca.crt"], trusted(authority)) && good(have, authority, role, now) {
		return have, nil
	}
	want := Data{"ca.crt": trusted(authority), "tls.crt": have["tls.crt"], "tls.key": have["tls.key"]}
	if good(have, authority, role, now) {
		return want, nil
	}
	a, err := pki.Load(authority["ca.crt"], authority["ca.key"])
	if err != nil {
		return nil, err
	}
	until := now.Add(certificateLife)
	if a.Until().Before(until) {
		until = a.Until()
	}
	c, err := a.IssueUntil(until, []string{string(role)})
	if err != nil {
		return nil, err
	}
	want["tls.crt"], want["tls.key"] = c.Cert, c.Key
	return want, nil
}

// good says that a certificate is the role's, signed by the authority that signs now, and not in its last third.
func good(have, authority Data, role mtls.Role, now time.Time) bool {
	pair, err := tls.X509KeyPair(have["tls.crt"], have["tls.key"])
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority["ca.crt"])
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: string(role), CurrentTime: now})
	return err == nil && !late(pair.Leaf.NotAfter, certificateLife, now)
}

// late says that the last third of a life has begun.
func late(until time.Time, life time.Duration, now time.Time) bool {
	return now.After(until.Add(-life / 3))
}

// made is when an authority was.
func made(a *pki.Authority) time.Time { return a.Until().Add(-authorityLife) }

// A ring is one kind of keys that seal.
type ring struct {
	every time.Duration // a new one is made; 0: never
	keep  time.Duration // an old one, beside a newer one
}

// Rings are the kinds of keys, as `vmcp keys new` names them. What the state of authserver is encrypted with stays.
var Rings = map[string]ring{
	"seal":       {30 * 24 * time.Hour, time.Hour},
	"session":    {30 * 24 * time.Hour, 3 * 24 * time.Hour},
	"authserver": {},
}

// Keys gives the keys of a kind at this time, have itself where nothing is due.
func Keys(have Data, kind string, now time.Time) (Data, error) {
	r, ok := Rings[kind]
	if !ok {
		return nil, fmt.Errorf("no keys of kind %s", kind)
	}
	var newest time.Time
	ours := map[string]time.Time{} // others are somebody's own, and stay
	for id := range have {
		if at, err := time.Parse(keyring.IDLayout, id); err == nil {
			if ours[id] = at; at.After(newest) {
				newest = at
			}
		}
	}
	want := clone(have)
	if len(have) == 0 || r.every > 0 && !newest.IsZero() && now.Sub(newest) > r.every {
		want[now.UTC().Format(keyring.IDLayout)] = []byte(keyring.New())
		return want, nil
	}
	for id, at := range ours {
		if r.keep > 0 && at.Before(newest) && now.Sub(newest) > r.keep {
			delete(want, id)
		}
	}
	return want, nil
}

func clone(d Data) Data {
	c := Data{}
	for k, v := range d {
		c[k] = v
	}
	return c
}
