package extauthz

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"vmcp/services/authz/internal/revocation"
)

// kept is a list with one entry, as authz finds it after a restart.
func kept(t *testing.T, kind, value string, silence time.Duration) *revocation.List {
	t.Helper()
	file := filepath.Join(t.TempDir(), "revocations.json")
	at := time.Now()
	text := fmt.Sprintf(`{"heard_at_ms":%d,"revocations":[{"kind":%q,"value":%q,"revoked_at_ms":%d,"forget_at_ms":%d}]}`, at.UnixMilli(), kind, value, at.UnixMilli(), at.Add(time.Hour).UnixMilli())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return revocation.New(revocation.Config{File: file, Silence: silence, Log: zap.NewNop()})
}

// TestRevoked: a good token that was ended gets the challenge of a bad one, also while it is in the verifier's cache.
func TestRevoked(t *testing.T) {
	w := newWorld(t, startIssuer(t))
	initialize := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	if _, d := w.ask(t, "dev", initialize); d == nil {
		t.Fatal("dev is not let in")
	}
	caller, err := w.server.cfg.Verifier.Verify(w.tokens["dev"])
	if err != nil {
		t.Fatal(err)
	}
	for kind, value := range map[string]string{"sub": caller.Claims.Subject, "jti": caller.Claims.JTI} {
		w.server.cfg.Revoked = kept(t, kind, value, time.Minute)
		resp, d := w.ask(t, "dev", initialize)
		if d != nil || resp.GetDeniedResponse().GetStatus().GetCode() != 401 || !strings.Contains(resp.String(), "invalid_token") {
			t.Errorf("%s %s: %v", kind, value, resp)
		}
	}
	w.server.cfg.Revoked = kept(t, "sub", "somebody else", time.Minute)
	if _, d := w.ask(t, "dev", initialize); d == nil {
		t.Error("another's revocation counts")
	}
	w.server.cfg.Revoked = kept(t, "sub", "somebody else", time.Nanosecond)
	if resp, d := w.ask(t, "dev", initialize); d != nil || resp.GetDeniedResponse().GetStatus().GetCode() != 503 || w.server.Ready() == nil {
		t.Errorf("a silent feed: %v", resp)
	}
}
