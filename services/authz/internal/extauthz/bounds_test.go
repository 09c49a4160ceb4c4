package extauthz

import (
	"strings"
	"testing"

	"vmcp/internal/decision"
	"vmcp/internal/gatewayconfig"
)

// TestSealFits: a seal may be as long as the aggregator takes, to the byte.
func TestSealFits(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	longest := 0
	for n := decision.MaxHeader * 3 / 4 * 95 / 100; ; n++ {
		resp, d := w.ask(t, "dev", `{"jsonrpc":"2.0","method":"notifications/`+strings.Repeat("a", n)+`"}`)
		if d == nil {
			break
		}
		for _, h := range resp.GetOkResponse().GetHeaders() {
			if h.Header.Key == "x-vmcp-decision" {
				longest = max(longest, len(h.Header.Value))
			}
		}
	}
	if longest != decision.MaxHeader {
		t.Errorf("the longest seal has %d bytes, want %d", longest, decision.MaxHeader)
	}
}

func TestClip(t *testing.T) {
	most := strings.Repeat("a", 1<<10)
	for _, tt := range []struct{ text, want string }{{most, most}, {most + "a", most + "…"}, {most[1:] + "é", most[1:] + "…"}} {
		if got := clip(tt.text); got != tt.want {
			t.Errorf("%d bytes become %d, want %d", len(tt.text), len(got), len(tt.want))
		}
	}
}

// TestChallengeWithoutScopes: RFC 6750 section 3 knows no empty scope.
func TestChallengeWithoutScopes(t *testing.T) {
	_, challenge := metadata(gatewayconfig.Endpoint{URL: "https://gateway.example/mcp", Path: "/mcp"}, "https://login.example")
	if want := `Bearer resource_metadata="https://gateway.example/.well-known/oauth-protected-resource/mcp"`; challenge != want {
		t.Errorf("got %s, want %s", challenge, want)
	}
}
