package browser

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Application is an MCP client that knows nothing but an endpoint's URL: it finds the authorization server from the
// 401 (RFC 9728, RFC 8414), registers (RFC 7591), and asks for tokens with PKCE (RFC 7636) and resource (RFC 8707).
type Application struct {
	Endpoint    string // of the MCP server
	RedirectURI string
	ClientID    string
	Resource    string // from the protected resource metadata

	Issuer                             string
	authorize, token, register, revoke string
	client                             *http.Client
}

// Tokens are what a sign-in brought.
type Tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Type    string `json:"token_type"`
	Expires int    `json:"expires_in"` // seconds
	Scope   string `json:"scope"`
}

// Refused is an OAuth error, of the token endpoint or in a redirect.
type Refused struct {
	Status            int // HTTP, 0 for a redirect
	Code, Description string
	RetryAfter        string
}

func (e *Refused) Error() string { return fmt.Sprintf("%s (%s)", e.Code, e.Description) }

// ErrPage is a sign-in that ended on a page of the authorization server or of Entra; Page is that page.
type ErrPage struct{ Page *Page }

func (e *ErrPage) Error() string {
	return fmt.Sprintf("the sign-in ended on a page: %d %q %.200q", e.Page.Status, e.Page.Title, e.Page.Text)
}

// NewApplication discovers and registers.
func NewApplication(ctx context.Context, endpoint, name string) (*Application, error) {
	a := &Application{Endpoint: endpoint, RedirectURI: "http://127.0.0.1:33418/callback", client: &http.Client{Timeout: 30 * time.Second}}
	resp, err := a.post(ctx, endpoint, "application/json", []byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"sign-in","version":"1"}}}`))
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	m := regexp.MustCompile(`resource_metadata="([^"]+)"`).FindStringSubmatch(resp.Header.Get("Www-Authenticate"))
	if resp.StatusCode != http.StatusUnauthorized || m == nil {
		return nil, fmt.Errorf("%s answers %d without a challenge that names its metadata", endpoint, resp.StatusCode)
	}
	var resource struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
	}
	if err := a.get(ctx, m[1], &resource); err != nil {
		return nil, fmt.Errorf("protected resource metadata: %w", err)
	}
	if resource.Resource != endpoint || len(resource.Servers) == 0 {
		return nil, fmt.Errorf("the metadata is for %q with the servers %q, not for %s", resource.Resource, resource.Servers, endpoint)
	}
	a.Resource = resource.Resource
	var server struct {
		Issuer    string   `json:"issuer"`
		Authorize string   `json:"authorization_endpoint"`
		Token     string   `json:"token_endpoint"`
		Register  string   `json:"registration_endpoint"`
		Revoke    string   `json:"revocation_endpoint"`
		Methods   []string `json:"code_challenge_methods_supported"`
	}
	if err := a.get(ctx, strings.TrimSuffix(resource.Servers[0], "/")+"/.well-known/oauth-authorization-server", &server); err != nil {
		return nil, fmt.Errorf("authorization server metadata: %w", err)
	}
	if server.Issuer != resource.Servers[0] {
		return nil, fmt.Errorf("issuer is %q, want %q", server.Issuer, resource.Servers[0])
	}
	a.Issuer, a.authorize, a.token, a.register, a.revoke = server.Issuer, server.Authorize, server.Token, server.Register, server.Revoke

	body, err := json.Marshal(map[string]any{
		"client_name": name, "redirect_uris": []string{a.RedirectURI}, "application_type": "native",
		"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
	})
	if err != nil {
		return nil, err
	}
	if resp, err = a.post(ctx, a.register, "application/json", body); err != nil {
		return nil, err
	}
	var registered struct {
		ClientID string `json:"client_id"`
	}
	if err := decode(resp, http.StatusCreated, &registered); err != nil {
		return nil, fmt.Errorf("registering: %w", err)
	}
	a.ClientID = registered.ClientID
	return a, nil
}

// SignIn goes through the pages as the person with this account, and redeems the code.
func (a *Application) SignIn(ctx context.Context, b *Browser, account string) (Tokens, error) {
	code, verifier, err := a.Authorize(ctx, b, account)
	if err != nil {
		return Tokens{}, err
	}
	return a.Redeem(ctx, code, verifier)
}

// Authorize goes through the pages and returns the code with the verifier that redeems it.
func (a *Application) Authorize(ctx context.Context, b *Browser, account string) (code, verifier string, err error) {
	verifier, state := secret(), secret()
	b.Leave = a.Answered
	page, err := b.SignIn(ctx, a.AuthorizeURL(verifier, state), account)
	if err != nil {
		return "", "", err
	}
	if page.Left == nil {
		return "", "", &ErrPage{page}
	}
	q := page.Left.Query()
	switch {
	case q.Get("state") != state:
		return "", "", errors.New("the redirect has another state")
	case q.Get("iss") != a.Issuer: // RFC 9207
		return "", "", fmt.Errorf("the redirect has iss %q, want %q", q.Get("iss"), a.Issuer)
	case q.Get("error") != "":
		return "", "", &Refused{Code: q.Get("error"), Description: q.Get("error_description")}
	}
	return q.Get("code"), verifier, nil
}

// AuthorizeURL is the authorization request.
func (a *Application) AuthorizeURL(verifier, state string) string {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {a.ClientID}, "redirect_uri": {a.RedirectURI}, "state": {state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"resource": {a.Resource}, "scope": {"openid offline_access"},
	}
	return a.authorize + "?" + q.Encode()
}

// Answered says whether an address is the application's redirect URI.
func (a *Application) Answered(u *url.URL) bool {
	return strings.HasPrefix(u.String(), a.RedirectURI+"?")
}

// Redeem exchanges a code for tokens.
func (a *Application) Redeem(ctx context.Context, code, verifier string) (Tokens, error) {
	return a.grant(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {a.RedirectURI},
		"code_verifier": {verifier}, "resource": {a.Resource}})
}

// RefreshTokens exchanges a refresh token for new tokens.
func (a *Application) RefreshTokens(ctx context.Context, refresh string) (Tokens, error) {
	return a.grant(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "resource": {a.Resource}})
}

// Revoke revokes a token (RFC 7009).
func (a *Application) Revoke(ctx context.Context, token string) error {
	form := url.Values{"token": {token}, "client_id": {a.ClientID}}
	resp, err := a.post(ctx, a.revoke, "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err != nil {
		return err
	}
	return decode(resp, http.StatusOK, nil)
}

func (a *Application) grant(ctx context.Context, form url.Values) (Tokens, error) {
	form.Set("client_id", a.ClientID)
	resp, err := a.post(ctx, a.token, "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err != nil {
		return Tokens{}, err
	}
	var t Tokens
	err = decode(resp, http.StatusOK, &t)
	return t, err
}

func (a *Application) post(ctx context.Context, address, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json, text/event-stream")
	return a.client.Do(req)
}

func (a *Application) get(ctx context.Context, address string, to any) error {
	req, err := http.NewRequestWithContext(ctx, "GET", address, nil)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	return decode(resp, http.StatusOK, to)
}

// decode reads a JSON answer of the wanted status; another one is a *Refused.
func decode(resp *http.Response, want int, to any) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		var e struct {
			Code        string `json:"error"`
			Description string `json:"error_description"`
		}
		if json.Unmarshal(body, &e) != nil || e.Code == "" {
			return fmt.Errorf("status %d: %.200s", resp.StatusCode, body)
		}
		return &Refused{resp.StatusCode, e.Code, e.Description, resp.Header.Get("Retry-After")}
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(body, to)
}

func secret() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}
