package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/url"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/handler/pkce"
	"github.com/ory/fosite/token/hmac"

	"vmcp/internal/secret"
	"vmcp/services/authserver/internal/store"
)

// fosite does the grammar of the protocol, PKCE and the order of checks at the token endpoint. Its defaults are looser
// than we may be; provider_test.go holds a test for each line of this file.

// provider is fosite with our settings.
type provider struct {
	*fosite.Fosite
	tokens *oauth2.HMACSHAStrategyUnPrefixed
}

// settings are fosite's with secrets that may change while it runs.
type settings struct {
	*fosite.Config
	secrets func() []secret.Value
}

// GetGlobalSecret gives the key of new codes and refresh tokens. fosite uses 32 bytes of it, so all go into those.
func (s *settings) GetGlobalSecret(context.Context) ([]byte, error) {
	keys := s.secrets()
	if len(keys) == 0 {
		return nil, errors.New("no HMAC key")
	}
	return digest(keys[0]), nil
}

// GetRotatedGlobalSecrets gives the keys that older ones were made with.
func (s *settings) GetRotatedGlobalSecrets(context.Context) ([][]byte, error) {
	var older [][]byte
	for _, k := range s.secrets()[1:] {
		older = append(older, digest(k))
	}
	return older, nil
}

func digest(key secret.Value) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

func newProvider(s *Server) *provider {
	cfg := &settings{secrets: s.cfg.HMACKeys, Config: &fosite.Config{
		AccessTokenLifespan:            s.cfg.AccessToken,
		RefreshTokenLifespan:           s.cfg.RefreshToken,
		AuthorizeCodeLifespan:          s.cfg.AuthCode,
		EnforcePKCE:                    true, // else a wrong verifier followed by none redeems a code
		EnablePKCEPlainChallengeMethod: false,
		ScopeStrategy:                  fosite.ExactScopeStrategy,
		AudienceMatchingStrategy:       fosite.ExactAudienceMatchingStrategy, // the default matches path prefixes
		RedirectSecureChecker: func(_ context.Context, u *url.URL) bool { // the default allows every scheme
			return checkRedirect(u.String(), "native") == nil
		},
		RefreshTokenScopes:         []string{}, // nil would demand a scope offline; grant_types decides
		MinParameterEntropy:        1,          // state is the client's own, and PKCE binds the code; absent ones get a placeholder
		SendDebugMessagesToClients: false,
		ClientSecretsHasher:        secretHasher{},
		TokenURL:                   s.cfg.Issuer + pathToken,
		OmitRedirectScopeParam:     true,
		SanitationWhiteList:        []string{"redirect_uri"},
	}}
	tokens := oauth2.NewHMACSHAStrategyUnPrefixed(&hmac.HMACStrategy{Config: cfg}, cfg)
	storage := &storage{s.cfg.Store, s.cfg.Endpoint.Audience, s.end}
	access := &accessTokens{s.cfg.Issuer, s.cfg.Endpoint.Audience, s.cfg.Keys}
	// The order matters: PKCE binds the code that the first one made. No implicit, no password, no OpenID Connect.
	code := &oauth2.AuthorizeExplicitGrantHandler{AccessTokenStrategy: access, RefreshTokenStrategy: tokens,
		AuthorizeCodeStrategy: tokens, CoreStorage: storage, TokenRevocationStorage: storage, Config: cfg}
	proof := &pkce.Handler{AuthorizeCodeStrategy: tokens, Storage: storage, Config: cfg}
	refresh := &oauth2.RefreshTokenGrantHandler{AccessTokenStrategy: access, RefreshTokenStrategy: tokens,
		TokenRevocationStorage: storage, Config: cfg}
	cfg.AuthorizeEndpointHandlers = fosite.AuthorizeEndpointHandlers{code, proof}
	cfg.TokenEndpointHandlers = fosite.TokenEndpointHandlers{code, proof, refresh}
	return &provider{&fosite.Fosite{Store: storage, Config: cfg}, tokens}
}

// secretHasher compares secrets that we made: 256 random bits need no slow hash.
type secretHasher struct{}

func (secretHasher) Compare(_ context.Context, hash, secret []byte) error {
	if subtle.ConstantTimeCompare(hash, store.Hash(string(secret))) != 1 {
		return errors.New("the client secret is wrong")
	}
	return nil
}

func (secretHasher) Hash(_ context.Context, secret []byte) ([]byte, error) {
	return store.Hash(string(secret)), nil
}

// client is a store.Client as fosite sees it. redirects are what the request may use: we compare, fosite gets the result.
// It is no fosite.OpenIDConnectClient: those may send request objects, which fosite takes unsigned.
type client struct {
	*store.Client
	redirects []string
	audience  string
}

func (c *client) GetID() string                      { return c.ID }
func (c *client) GetHashedSecret() []byte            { return c.SecretHash }
func (c *client) GetRedirectURIs() []string          { return c.redirects }
func (c *client) GetResponseTypes() fosite.Arguments { return fosite.Arguments{"code"} }
func (c *client) GetScopes() fosite.Arguments        { return c.Scopes }
func (c *client) IsPublic() bool                     { return c.AuthMethod == authNone }
func (c *client) GetAudience() fosite.Arguments      { return fosite.Arguments{c.audience} }
func (c *client) GetGrantTypes() fosite.Arguments {
	if c.Refresh {
		return fosite.Arguments{"authorization_code", "refresh_token"}
	}
	return fosite.Arguments{"authorization_code"}
}
