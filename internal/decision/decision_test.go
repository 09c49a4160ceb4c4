package decision

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/mcpwire"
	gatewayv1 "vmcp/proto/gateway/v1"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func testRequest(t testing.TB, body string) (*gatewayv1.Decision, Received) {
	t.Helper()
	m, perr := mcpwire.Parse(mcpwire.Request{Method: "POST", Body: []byte(body),
		Header: http.Header{"Mcp-Protocol-Version": {mcpwire.Version20251125}}.Values})
	if perr != nil {
		t.Fatal(perr)
	}
	sum := sha256.Sum256(m.Body)
	d := &gatewayv1.Decision{
		IssuedAtMs: now.UnixMilli(), VirtualServer: "tools", HttpMethod: "POST", Era: uint32(m.Era), Kind: uint32(m.Kind),
		RpcMethod: m.Method, Name: m.Name, BodySha256: sum[:], SessionId: "s", TokenPayload: []byte(`{"sub":"x"}`),
	}
	if m.Item != mcpwire.ItemNone {
		d.Target = &gatewayv1.Target{Backend: "k8s", Name: "get_pods"}
	}
	return d, Received{VirtualServer: "tools", HTTPMethod: "POST", SessionID: "s", Message: &m, Now: now}
}

const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"k8s_get_pods"}}`

func TestSealOpen(t *testing.T) {
	keys := keyringtest.New(t)
	d, r := testRequest(t, call)
	header, err := Seal(keys, d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(keys, header)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(d, got) {
		t.Errorf("Open(Seal(d)) = %v, want %v", got, d)
	}
	if err := Verify(got, r); err != nil {
		t.Errorf("Verify = %v", err)
	}
	// Any changed character of the header is refused. The last character of each base64 part carries unused bits,
	// which must not make two spellings of one seal either.
	for i := range header {
		for _, c := range "Ab0.-" {
			if byte(c) == header[i] {
				continue
			}
			bad := header[:i] + string(c) + header[i+1:]
			if got, err := Open(keys, bad); err == nil && !proto.Equal(got, d) {
				t.Fatalf("a changed seal (offset %d) opens as %v", i, got)
			} else if err != nil && !errors.Is(err, ErrForged) {
				t.Fatalf("Open = %v, want ErrForged", err)
			}
		}
	}
	if _, err := Open(keyringtest.New(t), header); !errors.Is(err, ErrForged) {
		t.Errorf("by another gateway's key: %v, want ErrForged", err)
	}
}

// TestVerify changes one thing at a time, in the decision or in the request.
func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*gatewayv1.Decision, *Received)
		want   error
	}{
		"other virtual server": {func(d *gatewayv1.Decision, r *Received) { r.VirtualServer = "x" }, ErrMismatch},
		"other HTTP method":    {func(d *gatewayv1.Decision, r *Received) { r.HTTPMethod = "GET" }, ErrMismatch},
		"other session":        {func(d *gatewayv1.Decision, r *Received) { r.SessionID = "t" }, ErrMismatch},
		"no session":           {func(d *gatewayv1.Decision, r *Received) { r.SessionID = "" }, ErrMismatch},
		"other body":           {func(d *gatewayv1.Decision, r *Received) { _, *r = testRequest(t, strings.Replace(call, "1", "2", 1)) }, ErrMismatch},
		"other era":            {func(d *gatewayv1.Decision, r *Received) { d.Era = 2 }, ErrMismatch},
		"other kind":           {func(d *gatewayv1.Decision, r *Received) { d.Kind = 2 }, ErrMismatch},
		"other method":         {func(d *gatewayv1.Decision, r *Received) { d.RpcMethod = "ping" }, ErrMismatch},
		"other name":           {func(d *gatewayv1.Decision, r *Received) { d.Name = "k8s_delete_namespace" }, ErrMismatch},
		"no target":            {func(d *gatewayv1.Decision, r *Received) { d.Target = nil }, ErrMismatch},
		"old":                  {func(d *gatewayv1.Decision, r *Received) { r.Now = now.Add(MaxAge + time.Millisecond) }, ErrStale},
		"from the future":      {func(d *gatewayv1.Decision, r *Received) { r.Now = now.Add(-maxSkew - time.Millisecond) }, ErrStale},
		"just not":             {func(d *gatewayv1.Decision, r *Received) { r.Now = now.Add(-maxSkew) }, nil},
		"just young enough":    {func(d *gatewayv1.Decision, r *Received) { r.Now = now.Add(MaxAge) }, nil},
		"another revision":     {func(d *gatewayv1.Decision, r *Received) { d.PolicyRevision, d.CatalogDigest = "r", "c" }, nil},
	} {
		d, r := testRequest(t, call)
		c.change(d, &r)
		if err := Verify(d, r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	d, r := testRequest(t, call)
	for off, want := range map[time.Duration]string{MaxAge + time.Second: "issued 31s ago", -maxSkew - time.Second: "issued 6s ahead"} {
		r.Now = now.Add(off)
		if err := Verify(d, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s later: %v, want %q in it", off, err, want)
		}
	}
	d, r = testRequest(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
	d.Target = &gatewayv1.Target{Backend: "k8s"}
	if err := Verify(d, r); !errors.Is(err, ErrMismatch) {
		t.Errorf("a list with a target: %v, want ErrMismatch", err)
	}
}

// TestLongest: a seal of the greatest length opens, a longer one does not, however good.
func TestLongest(t *testing.T) {
	keys := keyringtest.New(t)
	last := 0
	for n := MaxHeader * 3 / 4 * 95 / 100; last <= MaxHeader; n++ {
		header, err := Seal(keys, &gatewayv1.Decision{TokenPayload: make([]byte, n)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(keys, header); (err == nil) != (len(header) <= MaxHeader) {
			t.Errorf("%d bytes: %v", len(header), err)
		}
		if len(header) > MaxHeader && last != MaxHeader {
			t.Errorf("no seal has %d bytes", MaxHeader)
		}
		last = len(header)
	}
}

func FuzzOpen(f *testing.F) {
	keys := keyringtest.New(f)
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, header string) {
		if d, err := Open(keys, header); err == nil {
			t.Errorf("%q opens as %v", header, d)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	keys := keyringtest.New(b)
	d, r := testRequest(b, call)
	d.TokenPayload = []byte(strings.Repeat("x", 600))
	b.ReportAllocs()
	for b.Loop() {
		h, err := Seal(keys, d)
		if err != nil {
			b.Fatal(err)
		}
		got, err := Open(keys, h)
		if err != nil {
			b.Fatal(err)
		}
		if err := Verify(got, r); err != nil {
			b.Fatal(err)
		}
	}
}
