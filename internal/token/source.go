package token

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/loopback"
)

// maxDocument bounds discovery documents and key sets, in bytes.
const maxDocument = 1 << 20

// source fetches an issuer's keys over HTTP.
type source struct {
	issuer gatewayconfig.Issuer
	client *http.Client
}

func newSource(issuer gatewayconfig.Issuer) (*source, error) {
	s := &source{issuer: issuer}
	loopback := issuer.AllowPrivateIP
	for _, text := range []string{issuer.URL, issuer.JWKSURL} {
		if text == "" {
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("issuer: %q is not an absolute URL", text)
		}
		if err := s.allowScheme(u); err != nil {
			return nil, err
		}
		// Who writes a loopback address into the configuration means it; discovery may not lead there otherwise.
		loopback = loopback || isLoopback(u)
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(issuer.CABundle) > 0 {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(issuer.CABundle) {
			return nil, errors.New("issuer: the CA bundle holds no PEM certificate")
		}
	}
	dialer := &net.Dialer{
		// After name resolution, so that a name cannot be pointed elsewhere between a check and the use.
		Control: func(_, address string, _ syscall.RawConn) error {
			return checkAddress(address, issuer.AllowPrivateIP, loopback)
		},
	}
	s.client = &http.Client{
		Timeout: fetchTime, // for everything
		Transport: &limited{s, &http.Transport{
			DialContext:       dialer.DialContext, // no proxy: the address rule would not see the target
			TLSClientConfig:   tlsConfig,
			IdleConnTimeout:   30 * time.Second,
			ForceAttemptHTTP2: true,
		}},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 3 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
				return errors.New("redirects to another host are not followed")
			}
			return nil
		},
	}
	return s, nil
}

// fetchKeys returns the issuer's key set, found by discovery where its URL is not configured.
func (s *source) fetchKeys(ctx context.Context) ([]byte, error) {
	jwksURL := s.issuer.JWKSURL
	if jwksURL == "" {
		provider, err := oidc.NewProvider(oidc.ClientContext(ctx, s.client), s.issuer.URL) // compares the issuer
		if err != nil {
			return nil, fmt.Errorf("discovery: %.300s", err.Error()) // may quote a whole page
		}
		var doc struct {
			JWKSURL string `json:"jwks_uri"`
		}
		if err := provider.Claims(&doc); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		if doc.JWKSURL == "" {
			return nil, errors.New("discovery: the document has no jwks_uri")
		}
		jwksURL = doc.JWKSURL
	}
	req, err := http.NewRequestWithContext(ctx, "GET", jwksURL, nil)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("key set: %s answers %s", jwksURL, res.Status)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return body, nil
}

// allowScheme refuses plain http to anything but loopback, unless the configuration allows it.
func (s *source) allowScheme(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && (s.issuer.AllowHTTP || isLoopback(u)) {
		return nil
	}
	return fmt.Errorf("issuer: %s://%s is not https (insecureAllowHTTP allows http)", u.Scheme, u.Host)
}

func isLoopback(u *url.URL) bool {
	return loopback.Host(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."))
}

// notPublic are ranges that net/netip does not know as private.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598, carriers and some clouds' metadata
	netip.MustParsePrefix("192.0.0.0/24"),  // RFC 6890
	netip.MustParsePrefix("198.18.0.0/15"), // RFC 2544
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), // RFC 6052: an IPv4 address in disguise
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"), // RFC 3056: the same
}

// checkAddress refuses addresses inside our own network: what an issuer's documents say must not make the gateway
// talk to its neighbours.
func checkAddress(address string, private, loopback bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.IsLoopback() && loopback {
		return nil
	}
	if ip.IsMulticast() || ip.IsUnspecified() {
		return fmt.Errorf("address %s is not one of a server", ip)
	}
	inside := ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
	for _, p := range notPublic {
		inside = inside || p.Contains(ip)
	}
	if inside && !private {
		return fmt.Errorf("address %s is private (jwksAllowPrivateIP allows it)", ip)
	}
	return nil
}

// limited refuses URLs by scheme, redirects and discovered ones included, and bounds what is read of an answer.
type limited struct {
	s    *source
	next http.RoundTripper
}

func (l *limited) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := l.s.allowScheme(req.URL); err != nil {
		return nil, err
	}
	res, err := l.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body = &limitedBody{res.Body, maxDocument}
	return res, nil
}

type limitedBody struct {
	io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the document is larger than %d bytes", maxDocument)
	}
	return n, err
}
