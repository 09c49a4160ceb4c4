package permit

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/revocation"
)

// TestRevoked: the seal of a request that was let in proves nothing once the token was ended.
func TestRevoked(t *testing.T) {
	s := newServer(t, tools("1", "a_x"))
	sealed := seal(t, s.Keys, &gatewayv1.Decision{VirtualServer: "team", ExpiresAt: time.Now().Unix() + 60, TokenPayload: claims("dev")})
	ask := func() codes.Code {
		_, err := s.Permitted(t.Context(), &gatewayv1.PermittedRequest{Seal: sealed, Kind: gatewayv1.ItemKind_ITEM_KIND_TOOL, CatalogDigest: "1"})
		_, ofToken := s.Permitted(t.Context(), &gatewayv1.PermittedRequest{Seal: sealed, Kind: gatewayv1.ItemKind_ITEM_KIND_TOKEN})
		if status.Code(err) != status.Code(ofToken) {
			t.Errorf("a list: %v; the token: %v", err, ofToken)
		}
		return status.Code(err)
	}
	for sub, want := range map[string]codes.Code{"ann": codes.Unauthenticated, "bob": codes.OK} {
		file := filepath.Join(t.TempDir(), "revocations.json")
		text := fmt.Sprintf(`{"heard_at_ms":%d,"revocations":[{"kind":"sub","value":%q,"revoked_at_ms":%d,"forget_at_ms":%d}]}`, time.Now().UnixMilli(), sub, time.Now().UnixMilli(), time.Now().Add(time.Hour).UnixMilli())
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Revoked = revocation.New(revocation.Config{File: file, Silence: time.Minute, Log: zap.NewNop()})
		if got := ask(); got != want {
			t.Errorf("%s is revoked: %v, want %v", sub, got, want)
		}
	}
	s.Revoked = revocation.New(revocation.Config{Silence: time.Nanosecond, Log: zap.NewNop()})
	if got := ask(); got != codes.Unavailable {
		t.Errorf("a silent feed: %v", got)
	}
}
