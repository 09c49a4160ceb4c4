package extauthz

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/grpc/codes"

	"vmcp/internal/decision"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/audit"
)

var update = flag.Bool("update", false, "rewrite the want parts of testdata")

// TestTable is the contract (docs/architecture.md#what-is-decided). testdata/world.txtar holds the policies, the catalog
// and the callers; every other archive may replace parts of it, and holds pairs of files: NAME is a request
//
//	CALLER METHOD PATH       a caller of callers.json, or - for no token
//	Header: value            as Envoy passes them; Host is the gateway's where it is not given
//
//	body                     «meta» is the envelope of a modern request
//
// and NAME.want is everything that follows from it.
func TestTable(t *testing.T) {
	issuer := startIssuer(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 2 {
		t.Fatal("no testdata", err)
	}
	for _, path := range files {
		if filepath.Base(path) == "world.txtar" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, issuer, ar)
			for i := range ar.Files {
				in := ar.Files[i]
				if filepath.Ext(in.Name) != "" {
					continue
				}
				if i+1 == len(ar.Files) || ar.Files[i+1].Name != in.Name+".want" {
					t.Fatalf("%s has no %s.want after it", in.Name, in.Name)
				}
				want := &ar.Files[i+1]
				t.Run(in.Name, func(t *testing.T) {
					got := w.run(t, in.Data)
					if *update {
						want.Data = []byte(got)
					} else if diff := cmp.Diff(string(want.Data), got); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				})
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// checkRequest reads a request of the table.
func (w *world) checkRequest(t testing.TB, data []byte) (*authv3.CheckRequest, mcpwire.Request) {
	t.Helper()
	head, body, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(strings.TrimSpace(string(head)), "\n")
	first := strings.Fields(lines[0])
	if len(first) != 3 {
		t.Fatalf("%q: want CALLER METHOD PATH", lines[0])
	}
	host := "gateway.example"
	var headers []*corev3.HeaderValue
	add := func(name, value string) {
		headers = append(headers, &corev3.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(value)})
	}
	if first[0] != "-" {
		add("Authorization", "Bearer "+w.token(t, first[0]))
	}
	add("X-Request-Id", "req-1")
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		value = strings.TrimPrefix(value, " ")
		if strings.EqualFold(name, "host") {
			host = value
			continue
		}
		add(name, value)
	}
	add("x-vmcp-client-address", "192.0.2.7")
	body = bytes.ReplaceAll(bytes.TrimSuffix(body, []byte("\n")), []byte("«meta»"), []byte(modernMeta))
	req := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "10.9.9.9"}}}}, // a proxy in front
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: first[1], Path: first[2], Host: host, RawBody: body, HeaderMap: &corev3.HeaderMap{Headers: headers}}},
	}}
	values := func(name string) (v []string) {
		for _, h := range headers {
			if strings.EqualFold(h.Key, name) {
				v = append(v, string(h.RawValue))
			}
		}
		return v
	}
	return req, mcpwire.Request{Method: first[1], Header: values, Body: body}
}

// run asks Check and describes all that came of it.
func (w *world) run(t *testing.T, data []byte) string {
	req, wire := w.checkRequest(t, data)
	w.audit.Reset()
	resp, err := w.server.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var rec audit.Record
	if err := json.Unmarshal(w.audit.Bytes(), &rec); err != nil || bytes.Count(w.audit.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("audit: %q: %v, want one record", w.audit.Bytes(), err)
	}
	var b strings.Builder
	w.describeMessage(&b, wire, rec)
	if ok := resp.GetOkResponse(); ok != nil {
		w.describeSeal(t, &b, resp, wire)
	} else {
		d := resp.GetDeniedResponse()
		if codes.Code(resp.Status.Code) == codes.OK {
			t.Error("a denial has status OK")
		}
		fmt.Fprintf(&b, "answer %d\n", d.Status.Code)
		describeHeaders(&b, d.Headers)
		if d.Body != "" {
			fmt.Fprintf(&b, "%s\n", d.Body)
		}
	}
	w.describeAudit(t, &b, rec, resp)
	return b.String()
}

// describeMessage says what the message is, and what Cedar was asked.
func (w *world) describeMessage(b *strings.Builder, wire mcpwire.Request, rec audit.Record) {
	m, perr := mcpwire.Parse(wire)
	if perr != nil || rec.Era == "" {
		return // nothing was parsed, or not decided on
	}
	fmt.Fprintf(b, "%s %s %s\n", m.Era, m.Kind, m.Method)
	if m.Rule == nil || m.VersionUnsupported || rec.Revision == "" || rec.Reason == "no_role" {
		return
	}
	action := mcpwire.ItemAction(m.Item)
	if m.Rule.Action != action {
		fmt.Fprintf(b, "cedar %s MCP::\"team\"\n", m.Rule.Action)
	}
	if rec.Backend != "" {
		fmt.Fprintf(b, "cedar %s %s %q as %q\n", action, rec.Backend, rec.Original, m.Name)
	}
}

func (w *world) describeSeal(t *testing.T, b *strings.Builder, resp *authv3.CheckResponse, wire mcpwire.Request) {
	t.Helper()
	if codes.Code(resp.Status.Code) != codes.OK {
		t.Errorf("allowed with status %v", resp.Status)
	}
	ok := resp.GetOkResponse()
	if !slices.Equal(ok.HeadersToRemove, []string{"authorization"}) {
		t.Errorf("removes %q, want authorization", ok.HeadersToRemove)
	}
	got := map[string]string{}
	for _, h := range ok.Headers {
		if h.AppendAction != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s: %v, want the client's header overwritten", h.Header.Key, h.AppendAction)
		}
		got[h.Header.Key] = h.Header.Value
	}
	d, err := decision.Open(w.keys, got["x-vmcp-decision"])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(wire.Body)
	principal := decision.Principal(w.issuer.URL, callerOf(d), "cli")
	if len(d.TokenPayload) == 0 {
		principal = decision.Anonymous
	}
	for field, equal := range map[string]bool{
		"body_sha256":      bytes.Equal(d.BodySha256, sum[:]),
		"principal":        d.Principal == principal,
		"principal header": got["x-vmcp-principal"] == principal && len(got) == 2,
		"policy_revision":  d.PolicyRevision == w.policy.Revision(),
		"catalog_digest":   d.CatalogDigest == w.engine.Snapshot().Digest,
		"view":             len(d.View) == 22,
		"request_id":       d.RequestId == "req-1",
		"client_ip":        d.ClientIp == "192.0.2.7",
		"virtual_server":   d.VirtualServer == "team",
		"issued_at_ms":     d.IssuedAtMs > 0,
		"expires_at":       (d.ExpiresAt > d.IssuedAtMs/1000) == (len(d.TokenPayload) > 0),
	} {
		if !equal {
			t.Errorf("the seal's %s is wrong: %v", field, d)
		}
	}
	m, perr := mcpwire.Parse(wire)
	if perr != nil {
		t.Fatal(perr)
	}
	session := ""
	if v := wire.Header("Mcp-Session-Id"); len(v) > 0 {
		session = v[0]
	}
	if err := decision.Verify(d, decision.Received{VirtualServer: "team", HTTPMethod: wire.Method, SessionID: session, Message: &m, Now: now()}); err != nil {
		t.Errorf("the aggregator refuses the seal: %v", err)
	}
	fmt.Fprintf(b, "sealed %s %s %s %q name %q session %q\n", d.HttpMethod, mcpwire.Era(d.Era), mcpwire.Kind(d.Kind), d.RpcMethod, d.Name, d.SessionId)
	if d.Target != nil {
		fmt.Fprintf(b, "target %s %q\n", d.Target.Backend, d.Target.Name)
	}
	describeHeaders(b, ok.ResponseHeadersToAdd)
}

func callerOf(d *gatewayv1.Decision) string {
	var claims struct{ Sub string }
	json.Unmarshal(d.TokenPayload, &claims) // empty for the anonymous caller
	return claims.Sub
}

func describeHeaders(b *strings.Builder, headers []*corev3.HeaderValueOption) {
	for _, h := range headers {
		fmt.Fprintf(b, "%s: %s\n", h.Header.Key, h.Header.Value)
	}
}

func (w *world) describeAudit(t *testing.T, b *strings.Builder, rec audit.Record, resp *authv3.CheckResponse) {
	t.Helper()
	fmt.Fprintf(b, "audit %s %s", rec.Decision, rec.Reason)
	for _, f := range [...]struct{ name, value string }{
		{"policies", strings.Join(rec.Policies, ",")}, {"caller", rec.Caller}, {"client", rec.Client}, {"token", rec.Token},
		{"era", rec.Era}, {"method", rec.Method}, {"name", rec.Name}, {"backend", rec.Backend}, {"original", rec.Original},
		{"catalog", rec.Catalog}, {"detail", rec.Detail},
	} {
		if f.value != "" {
			fmt.Fprintf(b, " %s=%s", f.name, f.value)
		}
	}
	b.WriteString("\n")
	if rec.Request != "req-1" || rec.ClientIP != "192.0.2.7" || rec.HTTPMethod == "" || rec.Time.IsZero() {
		t.Errorf("audit record lacks the request: %+v", rec)
	}
	fields := resp.DynamicMetadata.GetFields()
	if got := fields["decision"].GetStringValue() + " " + fields["reason"].GetStringValue(); got != rec.Decision+" "+rec.Reason {
		t.Errorf("metadata says %q, audit %q", got, rec.Decision+" "+rec.Reason)
	}
	for name, want := range map[string]string{"caller": rec.Caller, "method": rec.Method, "name": rec.Name, "backend": rec.Backend} {
		if f, there := fields[name]; f.GetStringValue() != want || there != (want != "") {
			t.Errorf("metadata says %s %q, audit %q", name, f.GetStringValue(), want)
		}
	}
}
