package gatewayconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// signIn is a whole configuration with every URL in place. Lines are counted from 1.
const signIn = `apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPGroup
metadata: {name: team}
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPServerEntry
metadata: {name: git}
spec:
  groupRef: {name: team}
  transport: streamable-http
  allowPrivateEndpoint: false
  remoteUrl: "https://git.example.com/mcp"
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: MCPOIDCConfig
metadata: {name: idp}
spec:
  type: inline
  inline:
    insecureAllowHTTP: false
    issuer: "https://mcp.example.com"
---
apiVersion: toolhive.stacklok.dev/v1beta1
kind: VirtualMCPServer
metadata: {name: gate}
spec:
  groupRef: {name: team}
  authServerConfig:
    issuer: "https://mcp.example.com"
    upstreamProviders:
      - name: entra
        type: oidc
        oidcConfig:
          clientId: app
          scopes: [openid, "api://app/mcp.access"]
          issuerUrl: "https://login.microsoftonline.com/8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34/v2.0"
          redirectUri: "https://mcp.example.com/oauth/callback"
  incomingAuth:
    type: oidc
    oidcConfigRef:
      name: idp
      audience: anything
      resourceUrl: "https://mcp.example.com"
    authzConfig: {type: inline, inline: {policies: ["permit(principal, action, resource);"]}}
`

func loadText(t *testing.T, text string, src Source) (*Gateway, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "in.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	src.Paths = []string{name}
	gateway, err := Load(src)
	got := strings.TrimSuffix(report(t, gateway, err), "\n")
	return gateway, strings.ReplaceAll(got, name, "in.yaml")
}

func TestURLs(t *testing.T) {
	const (
		remote, issuer, own         = "12: spec.remoteUrl: ", "21: spec.inline.issuer: ", "29: spec.authServerConfig.issuer: "
		upstream                    = "36: spec.authServerConfig.upstreamProviders[0].oidcConfig.issuerUrl: "
		redirect                    = "37: spec.authServerConfig.upstreamProviders[0].oidcConfig.redirectUri: "
		resource                    = "43: spec.incomingAuth.oidcConfigRef.resourceUrl: "
		https                       = "want https (plain http needs insecureAllowHTTP, or a loopback address under `vmcp up`)"
		slash                       = "leave out the trailing slash: clients compare URLs byte by byte"
		lower                       = "write the host in lower case and ASCII: clients compare URLs byte by byte"
		port                        = "leave out the port, or give another one: clients drop the default port of https"
		path                        = "the path must not contain //, dot segments, % or semicolons: proxies rewrite them"
		shape                       = "want a URL such as https://mcp.example.com"
		loopback                    = "a loopback address needs spec.allowPrivateEndpoint: true, or `vmcp up`"
		metadata                    = "link-local, unspecified and metadata addresses are no MCP servers"
		host, all, allowHTTP, allow = "https://mcp.example.com", `issuer: "https://mcp.example.com"`, "insecureAllowHTTP: true", "allowPrivateEndpoint: true"
	)
	at := func(field, value string) []string { // replaces the value of one field
		for line := range strings.Lines(signIn) {
			if strings.HasPrefix(strings.TrimSpace(line), field+": ") {
				before, _, _ := strings.Cut(line, field+": ")
				return []string{line, before + field + ": \"" + value + "\"\n"}
			}
		}
		t.Fatalf("no field %s", field)
		return nil
	}
	resourceURL := func(v string) []string { return at("resourceUrl", v) }
	remoteURL := func(v string) []string { return at("remoteUrl", v) }
	both := func(v string) []string { return []string{all, `issuer: "` + v + `"`} }
	with := func(lists ...[]string) (all []string) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	insecure := []string{"insecureAllowHTTP: false", allowHTTP}
	private := []string{"allowPrivateEndpoint: false", allow}

	for _, c := range []struct {
		change []string // old and new pairs
		here   bool     // Source.Loopback
		want   []string // problems, or notes with "note " before
	}{
		{},
		{change: []string{"      resourceUrl: \"https://mcp.example.com\"\n", ""}, want: []string{
			"40: spec.incomingAuth.oidcConfigRef.resourceUrl: required: the URL under which clients reach this gateway, such as https://mcp.example.com"}},
		{change: resourceURL(host + "/"), want: []string{resource + slash}},
		{change: resourceURL(host + "/mcp/"), want: []string{resource + slash}},
		{change: resourceURL(host + "/a/../mcp"), want: []string{resource + path}},
		{change: resourceURL(host + "//mcp"), want: []string{resource + path}},
		{change: resourceURL(host + "/m%63p"), want: []string{resource + path}},
		{change: resourceURL(host + "/oauth/mcp"), want: []string{resource + "the path /oauth belongs to the authorization server; choose another, such as /mcp"}},
		{change: resourceURL(host + "/oauthority")},
		{change: resourceURL(host + "/mcp?a=b"), want: []string{resource + "must not contain a query (?)"}},
		{change: resourceURL(host + "/mcp?"), want: []string{resource + "must not contain a query (?)"}},
		{change: resourceURL(host + "/mcp#"), want: []string{resource + "must not contain a fragment (#)"}},
		{change: resourceURL("https://ann:hunter2@mcp.example.com"), want: []string{resource + "must not contain a user name or password"}},
		{change: resourceURL("https://MCP.example.com"), want: []string{resource + lower}},
		{change: resourceURL("https://bücher.example.com"), want: []string{resource + lower}},
		{change: resourceURL(host + ":443"), want: []string{resource + port}},
		{change: resourceURL(host + ":"), want: []string{resource + port}},
		{change: resourceURL(host + ":70000"), want: []string{resource + port}},
		{change: resourceURL(host + ":8443")},
		{change: resourceURL("mcp.example.com"), want: []string{resource + shape}},
		{change: resourceURL("https:mcp"), want: []string{resource + shape}},
		{change: resourceURL("https:///mcp"), want: []string{resource + shape}},
		{change: resourceURL("ftp://mcp.example.com"), want: []string{resource + shape}},
		{change: resourceURL("https://ann:hun%zzter2@mcp.example.com"), want: []string{resource + shape}},
		{change: resourceURL("http://mcp.example.com"), want: []string{resource + https}},
		{change: resourceURL("http://mcp.example.com"), here: true, want: []string{resource + https}},
		{change: with(insecure, resourceURL("http://mcp.example.com"))},
		{change: resourceURL("http://127.0.0.1:4483"), want: []string{resource + https}},
		{change: resourceURL("http://[::1]:4483"), here: true, want: []string{"note " + resource + "plain http is accepted: the address is this machine's own"}},

		{change: []string{`    issuer: "https://mcp.example.com"` + "\n    upstream", `    issuer: "https://mcp.example.com:8443"` + "\n    upstream"}, want: []string{
			own + "must equal the issuer of MCPOIDCConfig idp (in.yaml:21), byte for byte",
			"note " + redirect + "the authorization server listens at https://mcp.example.com:8443/oauth/callback: this address must lead there"}},
		{change: both(host + "/auth"), want: []string{own + "must have no path: want " + host}},
		{change: both(host + "/"), want: []string{own + slash}},
		{change: both("http://mcp.example.com"), want: []string{issuer + https, own + https}},
		{change: both("http://localhost:4483"), here: true, want: []string{"note " + issuer + "plain http is accepted: the address is this machine's own",
			"note " + redirect + "the authorization server listens at http://localhost:4483/oauth/callback: this address must lead there"}},

		{change: at("issuerUrl", "https://login.microsoftonline.com/common/v2.0"), want: []string{
			upstream + "want the tenant's GUID in lower case: tokens name the tenant by it, and common, organizations or a domain match none"}},
		{change: at("issuerUrl", "https://login.microsoftonline.com/8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34"), want: []string{
			upstream + "want https://login.microsoftonline.com/8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34/v2.0"}},
		{change: at("issuerUrl", "https://sts.windows.net/8a2f6d1c-3b47-4e0a-9c55-0d6f7e1b2a34/"), want: []string{
			upstream + "the v1 issuer; want https://login.microsoftonline.com/<tenant GUID>/v2.0"}},
		{change: at("issuerUrl", "https://login.microsoftonline.com/{tenant-id}/v2.0"), want: []string{
			upstream + "placeholder {tenant-id} is still there: put in the Directory (tenant) ID, a GUID (Entra ID > App registrations > your app > Overview)"}},
		{change: at("issuerUrl", "http://idp.example.com"), want: []string{upstream + https}},
		{change: at("issuerUrl", "https://tenant.idp.example.com/")},
		{change: at("redirectUri", "https://mcp.example.com/callback"), want: []string{
			redirect + "must be https://mcp.example.com/oauth/callback: nobody would come back from sign-in at another path of the issuer's address"}},
		{change: at("redirectUri", "https://sso.example.com/callback"), want: []string{
			"note " + redirect + "the authorization server listens at https://mcp.example.com/oauth/callback: this address must lead there"}},
		{change: at("scopes", "x"), want: []string{"35: spec.authServerConfig.upstreamProviders[0].oidcConfig.scopes: got text, want a list"}},

		{change: remoteURL("https://git.example.com/mcp/?features=all")},
		{change: remoteURL("https://ann:hunter2@git.example.com/"), want: []string{remote + "must not contain a user name or password"}},
		{change: remoteURL("http://git.internal:8080/mcp"), want: []string{
			"note " + remote + "plain http: calls and their headers can be read on the way (spec.allowPrivateEndpoint: true says that it is a private network)"}},
		{change: with(private, remoteURL("http://git.internal:8080/mcp"))},
		{change: remoteURL("http://127.0.0.1:8080/mcp"), want: []string{remote + loopback}},
		{change: remoteURL("http://[::ffff:127.0.0.1]:8080/mcp"), want: []string{remote + loopback}},
		{change: remoteURL("http://localhost.:8080/mcp"), want: []string{remote + loopback}},
		{change: remoteURL("http://127.0.0.1:8080/mcp"), here: true},
		{change: with(private, remoteURL("http://127.0.0.1:8080/mcp"))},
		{change: with(private, remoteURL("http://169.254.169.254/mcp")), want: []string{remote + metadata}},
		{change: with(private, remoteURL("http://[fe80::1]/mcp")), want: []string{remote + metadata}},
		{change: with(private, remoteURL("http://0.0.0.0:8080/mcp")), want: []string{remote + metadata}},
		{change: with(private, remoteURL("http://metadata.google.internal/mcp")), want: []string{remote + metadata}},
		{change: remoteURL("http://2130706433/mcp"), want: []string{remote + "the host looks like a number; write an IP address as 192.0.2.1 or [2001:db8::1]"}},
		{change: remoteURL("http://127.1/mcp"), want: []string{remote + "the host looks like a number; write an IP address as 192.0.2.1 or [2001:db8::1]"}},
	} {
		text := strings.NewReplacer(c.change...).Replace(signIn)
		if len(c.change) > 0 && text == signIn {
			t.Fatalf("%q changes nothing", c.change)
		}
		name := "as it is"
		if n := len(c.change); n > 0 {
			name = strings.TrimSpace(c.change[n-1])
		}
		t.Run(name, func(t *testing.T) {
			_, got := loadText(t, text, Source{Loopback: c.here})
			var want []string
			problems := false
			for _, w := range c.want {
				problems = problems || !strings.HasPrefix(w, "note ")
			}
			for _, w := range c.want {
				if note, ok := strings.CutPrefix(w, "note "); !ok {
					want = append(want, "in.yaml:"+w)
				} else if !problems { // Load has notes or problems
					want = append(want, "note in.yaml:"+note)
				}
			}
			if got != strings.Join(want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

// The endpoint is what clients see: resourceUrl with its path, or /mcp where it has none.
func TestEndpoint(t *testing.T) {
	for _, c := range []struct{ resourceURL, url, path string }{
		{"https://mcp.example.com", "https://mcp.example.com/mcp", "/mcp"},
		{"https://mcp.example.com/mcp", "https://mcp.example.com/mcp", "/mcp"},
		{"https://mcp.example.com:8443/teams/one", "https://mcp.example.com:8443/teams/one", "/teams/one"},
		{"http://localhost:4483", "http://localhost:4483/mcp", "/mcp"},
	} {
		text := strings.Replace(signIn, `resourceUrl: "https://mcp.example.com"`, "resourceUrl: "+c.resourceURL, 1)
		gateway, problems := loadText(t, text, Source{Loopback: true})
		if gateway == nil {
			t.Fatalf("%s: %s", c.resourceURL, problems)
		}
		got := gateway.Endpoint
		if got.URL != c.url || got.Path != c.path || got.ResourceURL != c.resourceURL || got.Audience != "anything" {
			t.Errorf("%s: got %+v, want URL %s, path %s", c.resourceURL, got, c.url, c.path)
		}
	}
}
