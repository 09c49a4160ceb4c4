package token

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/token/tokentest"
)

func TestTLS(t *testing.T) {
	i, err := tokentest.StartTLS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	cfg := issuerConfig(i)
	if _, err := newVerifier(t, cfg).keys.fetchKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown authority: got %v", err)
	}
	cfg.Issuer.CABundle = i.CABundle
	if _, err := newVerifier(t, cfg).keys.fetchKeys(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSourceRefuses(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the other host was asked") }))
	defer evil.Close()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	defer s.Close()
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.URL, http.StatusFound) })
	mux.HandleFunc("/tls", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(s.URL, "http:", "https:", 1)+"/hop/0", http.StatusFound)
	})
	mux.HandleFunc("/hop/{left}", func(w http.ResponseWriter, r *http.Request) {
		if left, err := strconv.Atoi(r.PathValue("left")); err != nil || left > 0 {
			http.Redirect(w, r, fmt.Sprint("/hop/", left-1), http.StatusFound)
		}
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, maxDocument+1)) })
	mux.HandleFunc("/largest", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, maxDocument)) })
	discovery := func(issuer, jwks string) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.URL+issuer, jwks)
		}
	}
	mux.HandleFunc("/a/.well-known/openid-configuration", discovery("/other", s.URL+"/largest"))
	mux.HandleFunc("/b/.well-known/openid-configuration", discovery("/b", "http://169.254.169.254/keys"))
	mux.HandleFunc("/c/.well-known/openid-configuration", discovery("/c", "https://169.254.169.254/keys"))
	mux.HandleFunc("/d/.well-known/openid-configuration", discovery("/d", ""))
	mux.HandleFunc("/e/.well-known/openid-configuration", discovery("/e", "file:///etc/passwd"))
	for _, tt := range []struct {
		issuer gatewayconfig.Issuer
		want   string
	}{
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/redirect"}, "redirects"},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/hop/2"}, ""},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/hop/3"}, "redirects"},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/tls"}, "redirects"},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/large"}, "larger than"},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/largest"}, ""},
		{gatewayconfig.Issuer{URL: s.URL, JWKSURL: s.URL + "/none"}, "404"},
		{gatewayconfig.Issuer{URL: s.URL + "/a"}, "issuer"},
		{gatewayconfig.Issuer{URL: s.URL + "/b"}, "not https"},
		{gatewayconfig.Issuer{URL: s.URL + "/c"}, "private"},
		{gatewayconfig.Issuer{URL: s.URL + "/d"}, "jwks_uri"},
		{gatewayconfig.Issuer{URL: s.URL + "/e"}, "not https"},
		{gatewayconfig.Issuer{URL: "https://issuer.example.com", JWKSURL: "https://10.0.0.1/keys"}, "private"},
	} {
		source, err := newSource(tt.issuer)
		if err != nil {
			t.Fatal(err)
		}
		_, err = source.fetchKeys(t.Context())
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: got %v, want %q", tt.issuer, err, tt.want)
		}
	}
	for _, text := range []string{"http://issuer.example.com", "issuer.example.com", "ftp://127.0.0.1/"} {
		if _, err := newSource(gatewayconfig.Issuer{URL: text}); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
	if _, err := newSource(gatewayconfig.Issuer{URL: "http://issuer.example.com", AllowHTTP: true}); err != nil {
		t.Error(err)
	}
	if _, err := newSource(gatewayconfig.Issuer{URL: "https://issuer.example.com", CABundle: []byte("x")}); err == nil {
		t.Error("a CA bundle without certificates: accepted")
	}
}

func TestCheckAddress(t *testing.T) {
	for _, tt := range []struct {
		ip                string
		private, loopback bool
		ok                bool
	}{
		{"8.8.8.8", false, false, true}, {"2606:4700::1", false, false, true},
		{"10.1.2.3", false, false, false}, {"10.1.2.3", true, false, true}, {"172.16.0.1", false, true, false}, {"192.168.1.1", false, false, false},
		{"169.254.169.254", false, true, false}, {"100.100.100.200", false, false, false}, {"127.0.0.1", false, false, false}, {"127.0.0.1", false, true, true},
		{"::1", false, false, false}, {"::ffff:10.0.0.1", false, false, false}, {"::ffff:127.0.0.1", false, false, false}, {"fe80::1", false, false, false},
		{"fd00::1", false, false, false}, {"64:ff9b::a00:1", false, false, false}, {"0.0.0.0", true, true, false}, {"::", true, true, false}, {"224.0.0.1", true, true, false},
	} {
		err := checkAddress(net.JoinHostPort(tt.ip, "443"), tt.private, tt.loopback)
		if (err == nil) != tt.ok {
			t.Errorf("%+v: got %v", tt, err)
		}
	}
}
