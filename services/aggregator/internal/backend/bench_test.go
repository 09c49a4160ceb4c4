package backend

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vmcp/internal/mcpwire"
)

// BenchmarkDo is one warm call over loopback against a server that does nothing: its cost is ours and net/http's.
// "direct" is the same exchange by net/http alone.
func BenchmarkDo(b *testing.B) {
	const result = `{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[{"type":"text","text":"`
	text := result + strings.Repeat("x", 400) + `"}]}}`
	server := func(era mcpwire.Era) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, after, _ := strings.Cut(string(body), `"id":`)
			id, _, _ := strings.Cut(after, ",")
			w.Header().Set("Content-Type", "application/json")
			switch {
			case strings.Contains(string(body), "server/discover") && era == mcpwire.EraLegacy:
				http.Error(w, "no session", http.StatusBadRequest)
			case strings.Contains(string(body), "server/discover"):
				io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}}`)
			case strings.Contains(string(body), `"initialize"`):
				w.Header().Set("Mcp-Session-Id", "s")
				io.WriteString(w, `{"jsonrpc":"2.0","id":`+id+`,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}`)
			default:
				io.WriteString(w, strings.Replace(text, `"id":7`, `"id":`+id, 1))
			}
		}))
	}
	for _, era := range eras {
		b.Run(era.String(), func(b *testing.B) {
			s := server(era)
			defer s.Close()
			session := session(b, startHTTP(b, s.URL), era)
			r := tool(b, era, "1", "echo", `{"text":"hi"}`, "")
			b.ReportAllocs()
			for b.Loop() {
				if err := session.Do(b.Context(), r, func(Message) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("direct", func(b *testing.B) {
		s := server(mcpwire.EraModern)
		defer s.Close()
		body := string(tool(b, mcpwire.EraModern, "1", "echo", `{"text":"hi"}`, "").Message.Body)
		b.ReportAllocs()
		for b.Loop() {
			resp, err := http.Post(s.URL, "application/json", strings.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
