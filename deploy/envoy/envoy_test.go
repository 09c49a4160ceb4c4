// Package envoy holds the shipped Envoy configuration. This test proves the rules of it that must not rot, on the file
// itself; what the real Envoy makes of the file is tested in internal/envoyproc and e2e.
package envoy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// open are the paths that may go around authz, by their match, and where they must lead.
var open = map[string]string{
	"prefix /oauth/": "authserver",
	"path /.well-known/oauth-authorization-server": "authserver",
	"path /.well-known/openid-configuration":       "authserver",
	"path /.well-known/jwks.json":                  "authserver",
	"prefix /":                                     "404",
}

const (
	extAuthz = "envoy.filters.http.ext_authz"
	maxBody  = 4 << 20
)

type object = map[string]any

// at follows keys of mappings, and names or indexes ("0") of sequences; nil where there is nothing.
func at(v any, path ...string) any {
	for _, step := range path {
		switch x := v.(type) {
		case object:
			v = x[step]
		case []any:
			v = nil
			for i, e := range x {
				if o, ok := e.(object); ok && o["name"] == step || fmt.Sprint(i) == step {
					v = e
					break
				}
			}
		default:
			return nil
		}
	}
	return v
}

// lint returns everything that is wrong with a configuration.
func lint(config []byte) (problems []string) {
	var doc object
	if err := yaml.Unmarshal(config, &doc); err != nil {
		return []string{err.Error()}
	}
	want := func(where string, v, value any, path ...string) {
		if got := at(v, path...); fmt.Sprintf("%v", got) != fmt.Sprintf("%v", value) {
			problems = append(problems, fmt.Sprintf("%s: %s is %v, want %v", where, strings.Join(path, "."), got, value))
		}
	}
	has := func(where string, v any, path ...string) {
		if at(v, path...) == nil {
			problems = append(problems, fmt.Sprintf("%s: %s is missing", where, strings.Join(path, ".")))
		}
	}

	// Anywhere: what could fail open, retry, or change a body.
	walk("", doc, func(path, key string, v any) {
		switch key {
		case "failure_mode_allow", "failure_mode_allow_header_add", "allow_partial_message", "clear_route_cache", "proxy_100_continue":
			if v != false {
				problems = append(problems, path+" must be false")
			}
		case "retry_policy", "retry_policy_typed_config", "hedge_policy", "filter_enabled", "filter_enabled_metadata", "upgrade_configs",
			"internal_redirect_policy", "request_mirror_policies", "shadow_mode", "check_settings",
			"xff_num_trusted_hops", "allow_missing", "request_headers_to_remove", "request_headers_to_add":
			problems = append(problems, path+" must not be set")
		}
		if s, ok := v.(string); ok && strings.HasPrefix(s, "type.googleapis.com/") && strings.Contains(s, "compressor") {
			problems = append(problems, path+": no (de)compressor")
		}
	})

	listeners, _ := at(doc, "static_resources", "listeners").([]any)
	if len(listeners) != 2 {
		problems = append(problems, fmt.Sprintf("%d listeners, want mcp_tls and mcp_plain", len(listeners)))
	}
	for _, l := range listeners {
		name := fmt.Sprint("listener ", at(l, "name"))
		want(name, l, maxBody, "per_connection_buffer_limit_bytes")
		want(name, l, false, "enable_reuse_port")
		hcm := at(l, "filter_chains", "0", "filters", "0", "typed_config")
		want(name, hcm, true, "normalize_path")
		want(name, hcm, true, "merge_slashes")
		want(name, hcm, "REJECT_REQUEST", "path_with_escaped_slashes_action")
		want(name, hcm, "REJECT_REQUEST", "common_http_protocol_options", "headers_with_underscores_action")
		want(name, hcm, "SANITIZE", "forward_client_cert_details")
		want(name, hcm, true, "use_remote_address")
		for _, timeout := range []string{"stream_idle_timeout", "request_headers_timeout", "request_timeout"} {
			has(name, hcm, timeout)
			if at(hcm, timeout) == "0s" {
				problems = append(problems, name+": "+timeout+" is off")
			}
		}
		mutations, _ := at(hcm, "early_header_mutation_extensions", "0", "typed_config", "mutations").([]any)
		for _, prefix := range []string{"x-vmcp-", "x-envoy-"} {
			if !slices.ContainsFunc(mutations, func(m any) bool {
				match := at(m, "remove_on_match", "key_matcher")
				return at(match, "prefix") == prefix && at(match, "ignore_case") == true
			}) {
				problems = append(problems, name+": client headers "+prefix+"* are not stripped")
			}
		}

		filters, _ := at(hcm, "http_filters").([]any)
		if len(filters) != 3 || at(filters, "0", "name") != "envoy.filters.http.header_mutation" || at(filters, "1", "name") != extAuthz || at(filters, "2", "name") != "envoy.filters.http.router" {
			problems = append(problems, name+": the HTTP filters must be header_mutation, ext_authz, router")
		}
		added, _ := at(filters, "0", "typed_config", "mutations", "request_mutations").([]any)
		if address := at(filters, "0", "typed_config", "mutations", "request_mutations", "0", "append"); len(added) != 1 || at(address, "header", "key") != "x-vmcp-client-address" ||
			at(address, "header", "value") != "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" || at(address, "append_action") != "OVERWRITE_IF_EXISTS_OR_ADD" {
			problems = append(problems, name+": header_mutation must set the client's address and nothing else")
		}
		authz := at(hcm, "http_filters", extAuthz, "typed_config")
		want(name, authz, false, "failure_mode_allow")
		want(name, authz, false, "with_request_body", "allow_partial_message")
		want(name, authz, true, "with_request_body", "pack_as_bytes")
		want(name, authz, maxBody, "with_request_body", "max_request_bytes")
		want(name, authz, true, "encode_raw_headers")
		want(name, authz, true, "validate_mutations")
		want(name, authz, "ServiceUnavailable", "status_on_error", "code")
		want(name, authz, "authz", "grpc_service", "envoy_grpc", "cluster_name")
		want(name, authz, "1s", "grpc_service", "timeout") // 0s would be none
		want(name, authz, true, "decoder_header_mutation_rules", "disallow_all", "value")
		want(name, authz, "authorization|x-vmcp-decision|x-vmcp-principal", "decoder_header_mutation_rules", "allow_expression", "regex")

		hosts, _ := at(hcm, "route_config", "virtual_hosts").([]any)
		if len(hosts) != 1 {
			problems = append(problems, name+": want one virtual host")
		}
		for _, host := range hosts {
			if at(host, "typed_per_filter_config") != nil {
				problems = append(problems, name+": filters are set per route, not per virtual host")
			}
			routes, _ := at(host, "routes").([]any)
			for _, r := range routes {
				problems = append(problems, lintRoute(name, r)...)
			}
			if last := routes[len(routes)-1]; at(last, "match", "prefix") != "/" || at(last, "direct_response", "status") != 404 {
				problems = append(problems, name+": the last route must answer everything else with 404")
			}
		}
	}

	clusters, _ := at(doc, "static_resources", "clusters").([]any)
	for _, c := range clusters {
		name := fmt.Sprint("cluster ", at(c, "name"))
		breakers := at(c, "circuit_breakers", "thresholds", "0")
		want(name, breakers, 50000, "max_connections")
		want(name, breakers, 100000, "max_requests")
		want(name, breakers, 1000, "max_pending_requests")
		problems = append(problems, lintTransport(name, c)...)
	}
	for _, name := range []string{"authz", "aggregator", "authserver"} {
		has("clusters", clusters, name)
	}
	want("admin", doc, nil, "admin", "address", "socket_address")
	has("admin", doc, "admin", "address", "pipe", "path")
	has("overload manager", doc, "overload_manager", "resource_monitors", "envoy.resource_monitors.global_downstream_max_connections",
		"typed_config", "max_active_downstream_connections")
	return problems
}

// lintTransport: services elsewhere are reached by mutual TLS with their role; only what is marked is plain.
func lintTransport(name string, cluster any) (problems []string) {
	const tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
	role := fmt.Sprint(at(cluster, "name"), ".vmcp.internal")
	if role == "authz.vmcp.internal" { // always on this machine
		if at(cluster, "load_assignment", "endpoints", "0", "lb_endpoints", "0", "endpoint", "address", "pipe") == nil {
			problems = append(problems, name+" is not a socket")
		}
		return problems
	}
	context := at(cluster, "transport_socket", "typed_config")
	for _, w := range []struct {
		want any
		path string
	}{
		{tls, "@type"},
		{role, "sni"},
		{"TLSv1_3", "common_tls_context/tls_params/tls_minimum_protocol_version"},
		{"role", "common_tls_context/tls_certificate_sds_secret_configs/0/name"},
		{"peers", "common_tls_context/combined_validation_context/validation_context_sds_secret_config/name"},
		{"DNS", "common_tls_context/combined_validation_context/default_validation_context/match_typed_subject_alt_names/0/san_type"},
		{role, "common_tls_context/combined_validation_context/default_validation_context/match_typed_subject_alt_names/0/matcher/exact"},
		{nil, "common_tls_context/combined_validation_context/default_validation_context/match_typed_subject_alt_names/1"},
		{nil, "common_tls_context/combined_validation_context/default_validation_context/trust_chain_verification"},
	} {
		if got := at(context, strings.Split(w.path, "/")...); got != w.want {
			problems = append(problems, fmt.Sprintf("%s: %s is %v, want %v", name, w.path, got, w.want))
		}
	}
	matches, _ := at(cluster, "transport_socket_matches").([]any)
	if mark, _ := at(matches, "0", "match").(object); len(matches) != 1 || len(mark) != 1 || mark["peer"] != "same_machine" {
		problems = append(problems, name+": the only way around TLS is the mark peer: same_machine")
	}
	return problems
}

func lintRoute(listener string, r any) (problems []string) {
	match, _ := at(r, "match").(object)
	key := ""
	for k, v := range match {
		key += fmt.Sprintf("%s %v", k, v)
	}
	name := fmt.Sprintf("%s, route %s", listener, key)
	cluster := at(r, "route", "cluster")
	leads := fmt.Sprint(cluster)
	if cluster == nil {
		leads = fmt.Sprint(at(r, "direct_response", "status"))
	}
	perFilter, _ := at(r, "typed_per_filter_config").(object)
	if len(perFilter) > 0 {
		if to, ok := open[key]; !ok || to != leads {
			problems = append(problems, name+" goes around authz to "+leads)
		}
		if config, _ := perFilter[extAuthz].(object); len(perFilter) != 1 || len(config) != 2 || config["disabled"] != true {
			problems = append(problems, name+": the only setting per route is ext_authz disabled")
		}
	} else if match["path"] == nil {
		problems = append(problems, name+": routes through authz match an exact path")
	}
	if cluster == "aggregator" {
		if at(r, "route", "timeout") != "0s" || at(r, "route", "idle_timeout") == nil {
			problems = append(problems, name+": streams need timeout 0s and an idle_timeout")
		}
		if at(r, "route", "hash_policy", "0", "terminal") != true {
			problems = append(problems, name+": sessions are not hashed to their replica")
		}
	}
	return problems
}

func walk(path string, v any, visit func(path, key string, v any)) {
	switch x := v.(type) {
	case object:
		for key, v := range x {
			visit(path+"."+key, key, v)
			walk(path+"."+key, v, visit)
		}
	case []any:
		for i, v := range x {
			walk(fmt.Sprintf("%s[%d]", path, i), v, visit)
		}
	}
}

func TestRules(t *testing.T) {
	config, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range lint(config) {
		t.Error(problem)
	}
	// Each rule notices when it is broken.
	for _, tt := range []struct{ old, new string }{
		{"failure_mode_allow: false", "failure_mode_allow: true"},
		{"failure_mode_allow: false", "failure_mode_allow_header_add: true"},
		{"allow_partial_message: false", "allow_partial_message: true"},
		{"pack_as_bytes: true", "pack_as_bytes: false"},
		{", timeout: 1s}", ", timeout: 0s}"},
		{"clear_route_cache: false", "clear_route_cache: true"},
		{"- remove_on_match: {key_matcher: {prefix: x-vmcp-, ignore_case: true}}", ""},
		{"x-vmcp-, ignore_case: true", "x-vmcp-"},
		{"x-envoy-, ignore_case: true", "x-other-, ignore_case: true"},
		{"idle_timeout: 3600s # the aggregator", "retry_policy: {retry_on: 5xx} # the aggregator"},
		{"request_timeout: 30s", "request_timeout: 0s"},
		{"circuit_breakers: *breakers", ""},
		{"match: {peer: same_machine}", "match: {}"},
		{"sni: authserver.vmcp.internal", "sni: aggregator.vmcp.internal"},
		{"matcher: {exact: aggregator.vmcp.internal}", "matcher: {suffix: .vmcp.internal}"},
		{"san_type: DNS, ", ""},
		{"tls_minimum_protocol_version: TLSv1_3", "tls_minimum_protocol_version: TLSv1_2"},
		{"tls_certificate_sds_secret_configs: *role", ""},
		{"transport_sockets.tls.v3.UpstreamTlsContext", "transport_sockets.raw_buffer.v3.RawBuffer"},
		{"pipe: {path: /run/vmcp/authz.sock}", "socket_address: {address: 10.0.0.1, port_value: 9}"},
		{"max_requests: 100000", "max_requests: 1024"},
		{"match: {path: /mcp}", "match: {prefix: /mcp}"},
		{"match: {path: /mcp}", "typed_per_filter_config: {envoy.filters.http.ext_authz: {t: x, disabled: true}}\n                match: {path: /mcp}"},
		{"route: *authserver", "route: {cluster: aggregator, timeout: 0s, idle_timeout: 1s, hash_policy: [{terminal: true}]}"},
		{"match: {path: /.well-known/jwks.json}", "match: {prefix: /.well-known/}"},
		{"terminal: true", "terminal: false"},
		{"x-vmcp-decision|x-vmcp-principal", ".*"},
		{"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"}\n", "%REQ(X-FORWARDED-FOR)%\"}\n"},
		{"append_action: OVERWRITE_IF_EXISTS_OR_ADD", "append_action: APPEND_IF_EXISTS_OR_ADD"},
		{"normalize_path: true", "normalize_path: false"},
		{"merge_slashes: true", "merge_slashes: false"},
		{"max_active_downstream_connections: 40000", "x: 1"},
		{"enable_reuse_port: false", "enable_reuse_port: true"},
		{"address: {pipe: {path: /run/vmcp/envoy-admin.sock, mode: 384}}", "address: {socket_address: {address: 0.0.0.0, port_value: 9901}}"},
	} {
		bent := strings.Replace(string(config), tt.old, tt.new, 1)
		if bent == string(config) {
			t.Errorf("%q is not in the file", tt.old)
		} else if err := yaml.Unmarshal([]byte(bent), &object{}); err != nil {
			t.Errorf("%q for %q: %v", tt.new, tt.old, err)
		} else if len(lint([]byte(bent))) == 0 {
			t.Errorf("%q for %q goes unnoticed", tt.new, tt.old)
		}
	}
}
