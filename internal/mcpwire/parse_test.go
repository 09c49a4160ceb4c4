package mcpwire

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the want parts of testdata")

// TestParse runs testdata/*.txtar: a file NAME holds a request (method, headers, blank line, body), NAME.want what
// Parse says of it.
func TestParse(t *testing.T) {
	const path = "testdata/parse.txtar"
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(ar.Files); i += 2 {
		in, want := ar.Files[i], &ar.Files[i+1]
		if want.Name != in.Name+".want" {
			t.Fatalf("%s is followed by %s, want %s.want", in.Name, want.Name, in.Name)
		}
		t.Run(in.Name, func(t *testing.T) {
			got := describe(Parse(readRequest(t, in.Data)))
			if *update {
				want.Data = []byte(got)
				return
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readRequest(t *testing.T, data []byte) Request {
	t.Helper()
	head, body, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(strings.TrimSpace(string(head)), "\n")
	h := http.Header{}
	for _, l := range lines[1:] {
		k, v, _ := strings.Cut(l, ":")
		h.Add(textproto.CanonicalMIMEHeaderKey(k), strings.TrimPrefix(v, " "))
	}
	body = bytes.TrimSuffix(body, []byte("\n"))
	for from, to := range map[string]string{`«bad»`: "\xff", `«bom»`: "\xef\xbb\xbf", `«nul»`: "\x00"} {
		body = bytes.ReplaceAll(body, []byte(from), []byte(to))
	}
	return Request{Method: lines[0], Header: h.Values, Body: body}
}

func describe(m Message, err *Error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "refused %d %d %s\n", err.Status, err.Code, err.Text)
		if m.ID != nil {
			fmt.Fprintf(&b, "id %s\n", m.ID)
		}
		return b.String()
	}
	fmt.Fprintf(&b, "%s %s %s\n", m.Era, m.Kind, m.Method)
	if m.ID != nil {
		fmt.Fprintf(&b, "id %s\n", m.ID)
	}
	switch {
	case m.VersionUnsupported:
		b.WriteString("version unsupported\n")
	case m.Rule == nil:
		b.WriteString("unknown method\n")
	default:
		fmt.Fprintf(&b, "action %s\n", m.Rule.Action)
	}
	if m.Item != ItemNone {
		fmt.Fprintf(&b, "%s %q\n", m.Item, m.Name)
	}
	if len(m.ArgumentNames) > 0 {
		fmt.Fprintf(&b, "arguments %q\n", m.ArgumentNames)
	}
	return b.String()
}

// TestEdit checks that an edited message differs from the original in the named places only.
func TestEdit(t *testing.T) {
	body := []byte(`{ "id":"a\"b", "jsonrpc" : "2.0","method":"tools/call","params":{"x":1e400 ,"name" : "k8s_get" , "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28", "io.modelcontextprotocol/clientCapabilities":{},"v/k": 12345678901234567890}}}`)
	m, perr := Parse(Request{Method: "POST", Body: body, Header: http.Header{
		"Mcp-Protocol-Version": {Version20260728}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"k8s_get"}}.Values})
	if perr != nil {
		t.Fatal(perr)
	}
	edits := append(m.Meta.Change(func(n string) bool { return strings.HasPrefix(n, MetaPrefix) }, Field{"new", []byte(`true`)}),
		m.NameEdit("get"), m.IDEdit(RawID("7")))
	got := string(Splice(body, edits...))
	want := `{ "id":7, "jsonrpc" : "2.0","method":"tools/call","params":{"x":1e400 ,"name" : "get" , "_meta":{"new":true,"v/k": 12345678901234567890}}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestChange compares Change with a decoded map for all small objects.
func TestChange(t *testing.T) {
	names := []string{"a", "b", "c"}
	for mask := range 8 {
		for drop := range 8 {
			for set := range 16 {
				var parts []string
				want := map[string]int{}
				for i, n := range names {
					if mask>>i&1 == 1 {
						parts = append(parts, fmt.Sprintf(" %q : %d ", n, i))
						if drop>>i&1 == 0 {
							want[n] = i
						}
					}
				}
				var fields []Field
				for i, n := range append(names, "d") {
					if set>>i&1 == 1 {
						fields = append(fields, Field{n, []byte("9")})
						want[n] = 9
					}
				}
				text := []byte(`{"o":{` + strings.Join(parts, ",") + `}}`)
				top, err := ParseObject(text, 0, len(text))
				if err != nil {
					t.Fatal(err)
				}
				m, _ := top.Find("o")
				o, err := ParseObject(text, m.Start, m.End)
				if err != nil {
					t.Fatal(err)
				}
				out := Splice(text, o.Change(func(n string) bool {
					return drop>>int(n[0]-'a')&1 == 1
				}, fields...)...)
				var got struct{ O map[string]int }
				if err := json.Unmarshal(out, &got); err != nil {
					t.Fatalf("%s became %s: %v", text, out, err)
				}
				if diff := cmp.Diff(want, got.O); diff != "" && len(want)+len(got.O) > 0 {
					t.Fatalf("%s became %s (-want +got):\n%s", text, out, diff)
				}
			}
		}
	}
}

// TestTwice: no two members have one name, however many there are.
func TestTwice(t *testing.T) {
	for _, n := range []int{2, 64, 65, 1000} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"m%d":1,`, i)
		}
		text := "{" + b.String() + `"last":1}`
		if _, err := ParseObject([]byte(text), 0, len(text)); err != nil {
			t.Errorf("%d members: %v", n, err)
		}
		text = "{" + b.String() + fmt.Sprintf(`"m%d":2}`, n-1)
		if _, err := ParseObject([]byte(text), 0, len(text)); err == nil {
			t.Errorf("%d members and the last one again: accepted", n)
		}
	}
}

func TestHeaderCodec(t *testing.T) {
	for _, s := range []string{"plain", "", " lead", "tab\t", "ünï", "=?base64?YQ==?=", "=?BASE64?x?=", "a\nb", "=?x?="} {
		enc := EncodeHeader(s)
		if got, ok := DecodeHeader(enc); !ok || got != s {
			t.Errorf("DecodeHeader(EncodeHeader(%q) = %q) = %q, %v", s, enc, got, ok)
		}
	}
	for _, bad := range []string{"=?base64?YQ?=", "=?base64?YR==?=", "=?base64?!?=", "=?base64?/w==?="} {
		if got, ok := DecodeHeader(bad); ok {
			t.Errorf("DecodeHeader(%q) = %q, want refusal", bad, got)
		}
	}
}

// FuzzParse: what is accepted means the same to every reader. Go's lenient decoder, which ignores case and takes the
// last of two members, must find the same method, id and name.
func FuzzParse(f *testing.F) {
	ar, err := txtar.ParseFile("testdata/parse.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(ar.Files); i += 2 {
		_, body, _ := bytes.Cut(ar.Files[i].Data, []byte("\n\n"))
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, perr := Parse(Request{Method: "POST", Body: body, Header: func(string) []string { return nil }})
		if perr != nil {
			return
		}
		var lenient struct {
			Method string
			ID     json.RawMessage
			Params struct {
				Name, URI string
				Arguments json.RawMessage
			}
		}
		if err := json.Unmarshal(body, &lenient); err != nil {
			if strings.Contains(err.Error(), "cannot unmarshal") {
				return // another type where no rule demands one
			}
			t.Fatalf("accepted, but encoding/json says %v", err)
		}
		if lenient.Method != m.Method {
			t.Errorf("method %q, encoding/json reads %q", m.Method, lenient.Method)
		}
		if string(lenient.ID) != string(m.ID) {
			t.Errorf("id %s, encoding/json reads %s", m.ID, lenient.ID)
		}
		if m.Method == "tools/call" && m.Kind == KindRequest && lenient.Params.Name != m.Name {
			t.Errorf("name %q, encoding/json reads %q", m.Name, lenient.Params.Name)
		}
		if m.Arguments != nil && !bytes.Equal(bytes.TrimSpace(m.Arguments), bytes.TrimSpace(lenient.Params.Arguments)) {
			t.Errorf("arguments %s, encoding/json reads %s", m.Arguments, lenient.Params.Arguments)
		}
		if m.Name != "" && m.Rule != nil {
			again, perr := Parse(Request{Method: "POST", Body: Splice(body, m.NameEdit("other")), Header: func(string) []string { return nil }})
			if perr != nil || again.Name != "other" {
				t.Errorf("after NameEdit: %q, %v", again.Name, perr)
			}
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":"x","error":{"code":-1,"message":""}}`))
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, err := ParseReply(msg)
		if err != nil {
			return
		}
		if r.Kind == KindResponse && r.IDSpan.Exists() {
			out := Splice(msg, Edit{r.IDSpan.Start, r.IDSpan.End, []byte("77")})
			if again, err := ParseReply(out); err != nil || string(again.ID) != "77" {
				t.Errorf("after replacing the id: %s, %v", again.ID, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []int{100, 8 << 10, 64 << 10} {
		body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{"name":"backend_tool","arguments":{"text":%q},"_meta":{"progressToken":1}}}`, strings.Repeat("x", size))
		r := Request{Method: "POST", Body: body, Header: http.Header{}.Values}
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
