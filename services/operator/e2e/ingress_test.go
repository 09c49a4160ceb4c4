package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// ingress ends TLS on the node for the hosts of the world, as something in front of the cluster would, and leads each to
// a Service or an address.
func (n *node) ingress(t *testing.T, services map[string]string) {
	t.Helper()
	var hosts []string
	for host := range services {
		hosts = append(hosts, host)
	}
	cert, err := n.ca.Issue(hosts)
	must(t, err)
	pair, err := tls.X509KeyPair(cert.Cert, cert.Key)
	must(t, err)
	l, err := tls.Listen("tcp", nodeIP+":443", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	must(t, err)
	transport := &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if ips, _ := n.resolve(host + ".svc.cluster.local."); len(ips) > 0 {
				address = net.JoinHostPort(ips[0], port)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	s := &http.Server{Handler: &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		to := &url.URL{Scheme: "http", Host: services[r.In.Host]}
		r.SetURL(to)
		if !strings.HasPrefix(to.Host, "127.") { // a server on loopback wants to be called so
			r.Out.Host = r.In.Host
		}
		// An answer that comes before the transport has seen the end of the request's body would cut its connection.
		if body, err := io.ReadAll(r.In.Body); err == nil {
			r.Out.Body = io.NopCloser(bytes.NewReader(body))
		}
	}}}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// world makes this process see hosts of the world where the node has them.
func (n *node) world(t *testing.T) {
	t.Helper()
	ca, _, err := n.ca.PEM()
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	before := http.DefaultTransport
	http.DefaultTransport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, port, _ := net.SplitHostPort(address); outside[host+"."] != "" {
				address = net.JoinHostPort(outside[host+"."], port)
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}}
	t.Cleanup(func() { http.DefaultTransport = before })
}
