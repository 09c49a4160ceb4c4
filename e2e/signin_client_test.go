package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"vmcp/internal/await"
	"vmcp/internal/browser"
)

// TestSignInClients: a 401 is all that the clients people have need to find the sign-in, register, and get in.
func TestSignInClients(t *testing.T) {
	t.Parallel()
	o := openOffice(t, 1)
	p := plan{Calls: []string{allowedTool}, Arguments: map[string]any{"namespace": "shop"}, Denied: forbiddenTool}
	for _, c := range []struct {
		name, version string
		refreshed     int
		run           func(t *testing.T) session
	}{
		{"npm sdk", "2025-11-25", 1, func(t *testing.T) session { return nodeSignIn(t, o, p, "sdk") }},
		{"npm client", "2026-07-28", 1, func(t *testing.T) session { return nodeSignIn(t, o, p, "client") }},
		{"Go SDK", "2026-07-28", 0, func(t *testing.T) session { return goSignIn(t, o, p, nil) }},
		{"Go SDK, legacy", "2025-11-25", 0, func(t *testing.T) session {
			return goSignIn(t, o, p, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(o.calls(t, "kubernetes-backend"))
			s := c.run(t)
			if s.Version != c.version {
				t.Errorf("speaks %s, want %s", s.Version, c.version)
			}
			if len(s.Tools) != 19 || slices.Contains(s.Tools, forbiddenTool) {
				t.Errorf("lists %d tools: %q", len(s.Tools), s.Tools)
			}
			if len(s.Calls) != 1 || s.Calls[0] == "" || strings.HasPrefix(s.Calls[0], "tool error") || s.After != s.Calls[0] {
				t.Errorf("calls gave %q, then %q", s.Calls, s.After)
			}
			if !strings.Contains(s.Denied, "-32602") || !strings.Contains(s.Denied, "unknown tool, or not permitted: "+forbiddenTool) {
				t.Errorf("the forbidden tool: %s", s.Denied)
			}
			if s.Refreshed != c.refreshed {
				t.Errorf("got new tokens %d times, want %d", s.Refreshed, c.refreshed)
			}
			if got := o.calls(t, "kubernetes-backend")[before:]; !slices.Equal(got, []string{"get_pods", "get_pods"}) {
				t.Errorf("the backend saw %q", got)
			}
		})
	}
}

// person goes through the pages for a client and returns the address to which the browser is sent with the answer.
func person(ctx context.Context, authorize, redirect string) (*url.URL, error) {
	b := browser.New()
	b.Leave = func(u *url.URL) bool { return strings.HasPrefix(u.String(), redirect+"?") }
	page, err := b.SignIn(ctx, authorize, account("dev"))
	if err == nil && page.Left == nil {
		err = &browser.ErrPage{Page: page}
	}
	if err != nil {
		return nil, err
	}
	return page.Left, nil
}

// nodeSignIn runs e2e/node/client.mjs without a token.
func nodeSignIn(t *testing.T, o *office, p plan, kind string) session {
	t.Helper()
	dir := npm(t, "node")
	todo, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	const redirect = "http://localhost:8090/callback"
	cmd := exec.CommandContext(ctx, "node", "client.mjs", kind)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "URL="+o.URL, "TOKEN=", "REDIRECT="+redirect, "PLAN="+string(todo))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(bufio.NewReader(out))
	ask := func() (s session, err error) {
		var first struct{ Authorize string }
		if err = lines.Decode(&first); err != nil {
			return s, fmt.Errorf("waiting for the address to authorize at: %w", err)
		}
		back, err := person(ctx, first.Authorize, redirect)
		if err != nil {
			return s, err
		}
		if _, err = io.WriteString(in, back.String()+"\n"); err != nil {
			return s, err
		}
		return s, lines.Decode(&s)
	}
	s, err := ask()
	in.Close()
	if err != nil {
		cancel()
	}
	if ended := cmd.Wait(); err != nil || ended != nil {
		t.Fatalf("%v, %v\n%s", err, ended, complaint.String())
	}
	return s
}

// goSignIn is the Go SDK with its own helpers for OAuth.
func goSignIn(t *testing.T, o *office, p plan, opts *mcp.ClientSessionOptions) session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	const redirect = "http://127.0.0.1:3142/callback"
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "e2e-go", RedirectURIs: []string{redirect}, TokenEndpointAuthMethod: "none", GrantTypes: []string{"authorization_code", "refresh_token"},
		}},
		RequestRefreshToken: true,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			back, err := person(ctx, args.URL, redirect)
			if err != nil {
				return nil, err
			}
			q := back.Query()
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return goSession(t, ctx, &mcp.StreamableClientTransport{Endpoint: o.URL, OAuthHandler: handler}, p, opts)
}
