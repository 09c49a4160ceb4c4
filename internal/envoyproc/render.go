package envoyproc

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Addresses is all that may be replaced in deploy/envoy/envoy.yaml. Every field is required but those of proxies.
//
// A listener's address is `IP:PORT` or `unix:/path`; one that nobody needs is given a socket in a private directory. A
// service's is `unix:/path`, `IP:PORT` on loopback, or `mtls://HOST:PORT` for one elsewhere: mutual TLS with every
// address that HOST has. authz shares Envoy's machine.
type Addresses struct {
	TLS        string // listener mcp_tls
	Plain      string // listener mcp_plain
	Admin      string // path of the admin socket
	Authz      string // address of authz (gRPC)
	Aggregator string // address of the aggregator (HTTP/1.1)
	AuthServer string // address of the authorization server (HTTP/1.1)
	TLSFile    string // path of the rendered tls.yaml, see RenderTLS
	RoleFile   string // path of the rendered role.yaml, likewise
	PeersFile  string // path of the rendered peers.yaml, see RenderPeers
	AccessLog  string // path of the access log
	Endpoint   string // path of the MCP endpoint, gatewayconfig.Endpoint.Path

	// Which proxies in front are believed about the client's address, by one of the two. None: the peer is the client.
	TrustedHops  int            // that many proxies are in front, whoever connects
	TrustedCIDRs []netip.Prefix // a peer in one of them is a proxy; anybody else is a client
}

// Render returns config with the addresses replaced. A place that is not found is an error, so that this code and the
// file cannot drift apart.
func Render(config []byte, a Addresses) ([]byte, error) {
	if !strings.HasPrefix(a.Endpoint, "/") || strings.HasSuffix(a.Endpoint, "/") || strings.ContainsAny(a.Endpoint, "?#%\"\\ ") ||
		strings.HasPrefix(a.Endpoint, "/oauth/") || strings.HasPrefix(a.Endpoint, "/.well-known/") {
		return nil, fmt.Errorf("endpoint path %q: must start with /, not end with it, and leave /oauth/ and /.well-known/ alone", a.Endpoint)
	}
	doc, err := parse(config)
	if err != nil {
		return nil, fmt.Errorf("reading the Envoy configuration: %w", err)
	}
	const hcm = "static_resources/listeners/mcp_tls/filter_chains/0/filters/0/typed_config/"
	const routes = hcm + "route_config/virtual_hosts/vmcp/routes/"
	errs := []error{
		doc.address("static_resources/listeners/mcp_tls/address", a.TLS),
		doc.address("static_resources/listeners/mcp_plain/address", a.Plain),
		doc.text("admin/address/pipe/path", a.Admin),
		doc.text("static_resources/listeners/mcp_tls/filter_chains/0/transport_socket/typed_config/common_tls_context/"+
			"tls_certificate_sds_secret_configs/server/sds_config/path_config_source/path", a.TLSFile),
		doc.text(hcm+"access_log/0/typed_config/path", a.AccessLog),
		doc.text(routes+"mcp/match/path", a.Endpoint),
		doc.text(hcm+"local_reply_config/mappers/3/body/inline_string",
			`{"jsonrpc":"2.0","error":{"code":-32600,"message":"no such path: the MCP endpoint is `+a.Endpoint+`"}}`),
		doc.text(routes+"resource_metadata/match/path", "/.well-known/oauth-protected-resource"+a.Endpoint),
	}
	const clusters = "static_resources/clusters/"
	errs = append(errs, doc.address(clusters+"authz/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address", a.Authz))
	for cluster, address := range map[string]string{"aggregator": a.Aggregator, "authserver": a.AuthServer} {
		const context = "/transport_socket/typed_config/common_tls_context/"
		errs = append(errs,
			doc.service(clusters+cluster, address),
			doc.text(clusters+cluster+context+"tls_certificate_sds_secret_configs/role/sds_config/path_config_source/path", a.RoleFile),
			doc.text(clusters+cluster+context+"combined_validation_context/validation_context_sds_secret_config/sds_config/path_config_source/path", a.PeersFile))
	}
	errs = append(errs, doc.proxies(strings.TrimSuffix(hcm, "/"), a))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return doc.bytes()
}

// proxies says whom Envoy believes about the client's address. By ranges nobody can choose their address, by a number
// whoever reaches Envoy without the proxies can.
func (d document) proxies(hcm string, a Addresses) error {
	if a.TrustedHops > 0 && len(a.TrustedCIDRs) > 0 {
		return errors.New("trusted proxies: want a number or ranges, not both")
	}
	n, err := d.at(hcm)
	if err != nil {
		return err
	}
	switch {
	case a.TrustedHops > 0:
		return setMember(n, "xff_num_trusted_hops", a.TrustedHops)
	case len(a.TrustedCIDRs) > 0:
		var ranges []map[string]any
		for _, p := range a.TrustedCIDRs {
			ranges = append(ranges, map[string]any{"address_prefix": p.Addr().String(), "prefix_len": p.Bits()})
		}
		return errors.Join(
			d.text(hcm+"/use_remote_address", "false"), // else Envoy refuses the extension
			setMember(n, "original_ip_detection_extensions", []map[string]any{{
				"name": "envoy.http.original_ip_detection.xff",
				"typed_config": map[string]any{
					"@type":             "type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig",
					"xff_trusted_cidrs": map[string]any{"cidrs": ranges},
				},
			}}))
	}
	return nil
}

// setMember adds or replaces a key of a mapping.
func setMember(n *yaml.Node, key string, value any) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("the parent of %s in the Envoy configuration is no mapping", key)
	}
	to := member(n, key)
	if to == nil {
		to = &yaml.Node{}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, to)
	}
	return to.Encode(value)
}

// RenderTLS returns config (deploy/envoy/tls.yaml or role.yaml) with the files of the certificate and its key. Envoy
// reads both again when a file is renamed into the certificate's directory.
func RenderTLS(config []byte, certFile, keyFile string) ([]byte, error) {
	doc, err := parse(config)
	if err != nil {
		return nil, fmt.Errorf("reading the Envoy TLS configuration: %w", err)
	}
	const cert = "resources/0/tls_certificate/"
	err = errors.Join(
		doc.text(cert+"certificate_chain/filename", certFile),
		doc.text(cert+"private_key/filename", keyFile),
		doc.text(cert+"watched_directory/path", filepath.Dir(certFile)),
	)
	if err != nil {
		return nil, err
	}
	return doc.bytes()
}

// RenderPeers returns config (deploy/envoy/peers.yaml) with the file of the authority.
func RenderPeers(config []byte, caFile string) ([]byte, error) {
	doc, err := parse(config)
	if err != nil {
		return nil, fmt.Errorf("reading the Envoy TLS configuration: %w", err)
	}
	const ca = "resources/0/validation_context/"
	if err := errors.Join(doc.text(ca+"trusted_ca/filename", caFile), doc.text(ca+"watched_directory/path", filepath.Dir(caFile))); err != nil {
		return nil, err
	}
	return doc.bytes()
}

type document struct{ root *yaml.Node }

func parse(config []byte) (document, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(config, &n); err != nil {
		return document{}, err
	}
	if len(n.Content) != 1 {
		return document{}, errors.New("not one YAML document")
	}
	return document{n.Content[0]}, nil
}

func (d document) bytes() ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(d.root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// at follows a path: a key of a mapping; in a sequence the element with that name, or its index.
func (d document) at(path string) (*yaml.Node, error) {
	n := d.root
	for step := range strings.SplitSeq(path, "/") {
		if n = member(n, step); n == nil {
			return nil, fmt.Errorf("the Envoy configuration has no %s (at %q)", path, step)
		}
	}
	return n, nil
}

func member(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			if name := member(e, "name"); strconv.Itoa(i) == step || name != nil && name.Value == step {
				return e
			}
		}
	}
	return nil
}

func (d document) text(path, value string) error {
	if value == "" {
		return fmt.Errorf("no value for %s of the Envoy configuration", path)
	}
	n, err := d.at(path)
	if err != nil {
		return err
	}
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("%s of the Envoy configuration is not a plain value", path)
	}
	n.SetString(value)
	return nil
}

// service points a cluster to a service: where it is, how that is found, and whether it is on this machine, which decides
// about TLS.
func (d document) service(cluster, value string) error {
	discovery, peer := "STATIC", "same_machine"
	remote, mtls := strings.CutPrefix(value, "mtls://")
	if mtls {
		discovery, peer = "STRICT_DNS", "elsewhere"
	} else if !strings.HasPrefix(value, "unix:") {
		if host, _, _ := net.SplitHostPort(value); !net.ParseIP(host).IsLoopback() {
			return fmt.Errorf("%s: address %q: want unix:/path, IP:PORT on loopback, or mtls://HOST:PORT", cluster, value)
		}
	}
	const endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/"
	err := errors.Join(
		d.text(cluster+"/type", discovery),
		d.text(cluster+endpoint+"metadata/filter_metadata/envoy.transport_socket_match/peer", peer),
	)
	if err != nil || !mtls {
		return errors.Join(err, d.address(cluster+endpoint+"endpoint/address", value))
	}
	host, port, err := net.SplitHostPort(remote)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" || strings.ContainsAny(host, "/ ?#@") {
		return fmt.Errorf("%s: address %q: want mtls://HOST:PORT", cluster, value)
	}
	n, err := d.at(cluster + endpoint + "endpoint/address")
	if err != nil {
		return err
	}
	return n.Encode(map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}})
}

func (d document) address(path, value string) error {
	n, err := d.at(path)
	if err != nil {
		return err
	}
	if n.Kind != yaml.MappingNode || member(n, "pipe") == nil && member(n, "socket_address") == nil {
		return fmt.Errorf("%s of the Envoy configuration is not an address", path)
	}
	var address any
	if socket, ok := strings.CutPrefix(value, "unix:"); ok {
		if len(socket) > 107 {
			return fmt.Errorf("%s: socket path %q has %d bytes, at most 107 fit", path, socket, len(socket))
		}
		address = map[string]any{"pipe": map[string]any{"path": socket, "mode": 0o600}}
	} else {
		host, port, err := net.SplitHostPort(value)
		if err != nil {
			return fmt.Errorf("%s: address %q: want IP:PORT or unix:/path", path, value)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || net.ParseIP(host) == nil {
			return fmt.Errorf("%s: address %q: want IP:PORT or unix:/path", path, value)
		}
		address = map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}}
	}
	return n.Encode(address)
}
