package entra

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	maxDocument = 1 << 20   // bytes of discovery documents and key sets
	maxResponse = 256 << 10 // bytes of the token endpoint's answers
)

func newHTTP(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment, // never used for loopback
			DialContext:           (&net.Dialer{Timeout: min(5*time.Second, timeout)}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: timeout,
			IdleConnTimeout:       30 * time.Second,
			MaxIdleConnsPerHost:   8,
			ForceAttemptHTTP2:     true,
		},
		// Entra answers these requests itself. A redirect would take the secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// reach returns where an address of Entra is connected to: the same, or at Config.Address.
func (c *Client) reach(text string) string {
	if c.cfg.Address == "" {
		return text
	}
	return c.cfg.Address + strings.TrimPrefix(text, "https://"+c.host)
}

// do sends a request and reads at most limit bytes of the answer. Errors say where, never what was sent.
func (c *Client) do(req *http.Request, limit int64) (*http.Response, []byte, error) {
	req.Header.Set("Accept", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Redacted(), err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the answer is larger than %d bytes", limit)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Redacted(), err)
	}
	return res, body, nil
}

// fetch returns a JSON document of Entra.
func (c *Client) fetch(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", c.reach(address), nil)
	if err != nil {
		return nil, err
	}
	res, body, err := c.do(req, maxDocument)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", address, res.Status)
	}
	return body, nil
}

// fetchKeys returns the key set that an issuer's discovery document points to. What the document says must be what the
// configuration makes it: our secret goes to the token endpoint that follows from the issuer, and if Entra names
// another, somebody should look.
func (c *Client) fetchKeys(ctx context.Context, issuer, discovery string) ([]byte, error) {
	body, err := c.fetch(ctx, c.url(discovery))
	if err != nil {
		return nil, err
	}
	var doc struct {
		Issuer    string `json:"issuer"`
		Keys      string `json:"jwks_uri"`
		Authorize string `json:"authorization_endpoint"`
		Token     string `json:"token_endpoint"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("discovery: %s: not the document we know", c.url(discovery))
	}
	if doc.Issuer != issuer {
		return nil, fmt.Errorf("discovery: %s is of issuer %.200q, want %s", c.url(discovery), doc.Issuer, issuer)
	}
	for _, text := range []string{doc.Keys, doc.Authorize, doc.Token} {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host != c.host {
			return nil, fmt.Errorf("discovery: %s names %.200q, want https at %s", c.url(discovery), text, c.host)
		}
	}
	if issuer == c.cfg.IssuerURL && (doc.Token != c.url("/oauth2/v2.0/token") || doc.Authorize != c.url("/oauth2/v2.0/authorize")) {
		return nil, fmt.Errorf("discovery: %s names other endpoints than Entra's", c.url(discovery))
	}
	return c.fetch(ctx, doc.Keys)
}

// response is an answer of the token endpoint ("Authorization code flow", successful and error response).
type response struct {
	TokenType    string `json:"token_type"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`

	errorResponse
}

// post asks the token endpoint, with the secret in the body.
func (c *Client) post(ctx context.Context, form url.Values) (response, error) {
	value := c.cfg.Secret()
	if value == "" {
		return response{}, &Error{Kind: ClientAuth, Hint: "the client secret is empty"}
	}
	form.Set("client_id", c.cfg.ClientID)
	form.Set("client_secret", string(value))
	req, err := http.NewRequestWithContext(ctx, "POST", c.reach(c.url("/oauth2/v2.0/token")), strings.NewReader(form.Encode()))
	if err != nil {
		return response{}, &Error{Kind: Failed, cause: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, body, err := c.do(req, maxResponse)
	if err != nil {
		return response{}, &Error{Kind: Unavailable, Hint: "Entra cannot be reached", cause: err}
	}
	var r response
	parsed := json.Unmarshal(body, &r) == nil
	switch status := res.StatusCode; {
	case status == http.StatusOK && parsed && r.Code == "":
		return r, nil
	case parsed && r.Code != "":
		e := r.toError(status)
		e.RetryAfter = retryAfter(res.Header)
		return response{}, e
	case status == http.StatusTooManyRequests || status >= 500:
		return response{}, &Error{Kind: Busy, Hint: "Entra answers " + res.Status, RetryAfter: retryAfter(res.Header)}
	default: // a proxy's page, a redirect
		return response{}, &Error{Kind: Unavailable, Hint: fmt.Sprintf("the token endpoint answers %s, and not as Entra does: is a proxy in between?", res.Status)}
	}
}

// retryAfter reads seconds (RFC 9110 section 10.2.3), at most an hour.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}
