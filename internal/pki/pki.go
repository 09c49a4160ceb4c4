// Package pki is a certificate authority that signs a certificate for each role of a gateway. For `vmcp keys new tls` and
// tests it lives as long as one program run and is forgotten; the operator keeps its key in a Secret.
//
// It owns the shape of the certificates. Who accepts which role is internal/mtls's and Envoy's.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"time"

	"vmcp/internal/durable"
)

// Authority signs.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Certificate is one certificate with its key and authority, PEM, as files or keys of a Secret of type
// kubernetes.io/tls name them.
type Certificate struct {
	CA   []byte // ca.crt
	Cert []byte // tls.crt
	Key  []byte // tls.key
}

// New makes an authority whose certificates are valid from now until then.
func New(until time.Time) (*Authority, error) {
	key, template, err := begin(until)
	if err != nil {
		return nil, err
	}
	template.Subject = pkix.Name{CommonName: "vMCP gateway"}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making a certificate authority: %w", err)
	}
	return &Authority{cert, key}, nil
}

// Load reads what PEM gives.
func Load(certificate, key []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate authority: %w", err)
	}
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("reading a certificate authority: want one with an ECDSA key")
	}
	return &Authority{pair.Leaf, private}, nil
}

// PEM is the authority's own certificate and its key, for Load.
func (a *Authority) PEM() (certificate, key []byte, err error) {
	if key, err = privatePEM(a.key); err != nil {
		return nil, nil, fmt.Errorf("writing a certificate authority: %w", err)
	}
	return a.certificate(), key, nil
}

// Until is when it ends.
func (a *Authority) Until() time.Time { return a.cert.NotAfter }

func (a *Authority) certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func privatePEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Issue signs a certificate for DNS names and IP addresses, for servers and clients or the given usages, good as long as
// the authority's own.
func (a *Authority) Issue(names []string, usages ...x509.ExtKeyUsage) (*Certificate, error) {
	return a.IssueUntil(a.cert.NotAfter, names, usages...)
}

// IssueUntil is Issue with an earlier end.
func (a *Authority) IssueUntil(until time.Time, names []string, usages ...x509.ExtKeyUsage) (*Certificate, error) {
	key, template, err := begin(until)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if template.ExtKeyUsage = usages; usages == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	private, err := privatePEM(key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return &Certificate{CA: a.certificate(), Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: private}, nil
}

func begin(until time.Time) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("making a serial number: %w", err)
	}
	// Clocks of machines differ a little.
	return key, &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: until}, nil
}

// Write puts the three files into dir, each by a rename, the certificate last: its arrival is what Envoy watches for.
func (c *Certificate) Write(dir string) error {
	for _, f := range []struct {
		name string
		text []byte
	}{{"ca.crt", c.CA}, {"tls.key", c.Key}, {"tls.crt", c.Cert}} {
		if err := durable.Write(filepath.Join(dir, f.name), f.text); err != nil {
			return fmt.Errorf("writing a certificate: %w", err)
		}
	}
	return nil
}
