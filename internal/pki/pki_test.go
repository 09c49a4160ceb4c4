package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	a, err := New(until)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Issue([]string{"authz.vmcp.internal", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CA)
	for _, name := range []string{"authz.vmcp.internal", "127.0.0.1"} {
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("%s, usage %d: %v", name, usage, err)
			}
		}
	}
	if pair.Leaf.IsCA || !pair.Leaf.NotAfter.Equal(until) {
		t.Errorf("authority %v, until %v, want no authority until %v", pair.Leaf.IsCA, pair.Leaf.NotAfter, until)
	}

	dir := t.TempDir()
	if err := c.Write(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"ca.crt": c.CA, "tls.crt": c.Cert, "tls.key": c.Key} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if files, _ := filepath.Glob(dir + "/*"); len(files) != 3 {
		t.Errorf("files %v", files)
	}
}

// TestLoad: an authority that was written down signs what the one before is trusted for, and shorter where it is asked to.
func TestLoad(t *testing.T) {
	a, err := New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Minute).Truncate(time.Second)
	c, err := again.IssueUntil(until, []string{"authz.vmcp.internal"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "authz.vmcp.internal"}); err != nil || !pair.Leaf.NotAfter.Equal(until) {
		t.Errorf("until %v: %v", pair.Leaf.NotAfter, err)
	}
	if _, err := Load(c.Cert, c.Key); err == nil {
		t.Error("a certificate that may not sign is taken for an authority")
	}
}
