package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcp/internal/await"
	"vmcp/internal/pki"
	"vmcp/internal/stack"
)

// TestTLS: the same gateway with a certificate, over HTTP/1.1 and HTTP/2; a renewed certificate is taken while it runs.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	authority, err := pki.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	renew := func() {
		t.Helper()
		c, err := authority.Issue([]string{"localhost"})
		if err == nil {
			err = c.Write(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	renew()
	w := startWith(t, guide, func(cfg *stack.Config) {
		cfg.TLSCert, cfg.TLSKey = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	},
		func(docs string) string { return strings.ReplaceAll(docs, "'http://localhost", "'https://localhost") })
	w.aud = strings.Replace(w.aud, "http:", "https:", 1)
	if !strings.HasPrefix(w.URL, "https://localhost:") {
		t.Errorf("the endpoint is %s", w.URL)
	}
	ask := func(t *testing.T, h2 bool) (*http.Response, answer) {
		t.Helper()
		pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		var protocols http.Protocols
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		var got *http.Response
		transport := &http.Transport{Protocols: &protocols, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: spy{transport, &got}}
		a, err := w.try(request{client: client, token: w.token("ann", "mcp-developers"), body: initialize})
		if err != nil {
			return nil, answer{}
		}
		return got, a
	}
	for _, h2 := range []bool{false, true} {
		resp, a := ask(t, h2)
		if !a.ok() || (resp.ProtoMajor == 2) != h2 {
			t.Errorf("HTTP/2 %t: %d %s", h2, a.status, a.body)
		}
	}
	first, _ := ask(t, true)
	renew()
	await.That(t, "the renewed certificate is used", func() bool {
		resp, a := ask(t, true)
		return resp != nil && a.ok() && resp.TLS.PeerCertificates[0].SerialNumber.Cmp(first.TLS.PeerCertificates[0].SerialNumber) != 0
	})
	if a, err := w.try(request{url: "http://" + w.Listen + "/mcp", body: initialize}); err == nil && a.status < 400 {
		t.Errorf("plain HTTP on the TLS port: %d %s", a.status, a.body)
	}
}

// spy keeps the last response.
type spy struct {
	next http.RoundTripper
	got  **http.Response
}

func (s spy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	*s.got = resp
	return resp, err
}
