package oauth

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"vmcp/internal/await"
	"vmcp/internal/entra"
	"vmcp/internal/entrasim"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/keyring"
	"vmcp/internal/keyring/keyringtest"
	"vmcp/internal/secret"
	"vmcp/services/authserver/internal/signing"
	"vmcp/services/authserver/internal/store"
)

const (
	tenantID     = "7e4a0000-0000-4000-8000-00000000000a"
	appID        = "c11e4700-0000-4000-8000-00000000000a"
	clientSecret = "canary-of-the-app-registration"
	audience     = "https://mcp.example.com"
	endpointURL  = "https://mcp.example.com/mcp"
	callbackURI  = "http://127.0.0.1:54321/callback"
	webCallback  = "https://app.example.com/cb"
)

// world is the authorization server on a real listener, with a simulated Entra tenant behind it.
type world struct {
	t      testing.TB
	url    string
	sim    *entrasim.Tenant
	server *Server
	db     *store.DB
	keys   *signing.Keys
	ring   *keyring.Ring
	logs   *observer.ObservedLogs
	file   string // of the database

	mu       sync.Mutex
	canaries []string // must never be in a log or on a page
}

type options struct {
	config func(*Config)
	sim    func(*entrasim.Config)
}

func newWorld(t testing.TB, o options) *world {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	log := zap.New(core)
	w := &world{t: t, logs: logs}
	w.canary(clientSecret)

	s := httptest.NewUnstartedServer(nil)
	w.url = "http://" + s.Listener.Addr().String()
	simConfig := entrasim.Config{Listen: "127.0.0.1:0", Tenant: tenantID, ClientID: appID, ClientSecret: clientSecret,
		RedirectURIs: []string{w.url + pathCallback}}
	if o.sim != nil {
		o.sim(&simConfig)
	}
	var err error
	if w.sim, err = entrasim.Start(simConfig); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.sim.Close)
	upstream, err := entra.New(entra.Config{
		IssuerURL: w.sim.Issuer(), ClientID: appID, Secret: func() secret.Value { return clientSecret }, RedirectURI: w.url + pathCallback,
		Scopes:  []string{"api://" + appID + "/mcp.access", "openid", "profile", "email", "offline_access"},
		Address: w.sim.URL, Log: log, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { upstream.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	await.That(t, "the upstream is ready", func() bool { return upstream.Ready() == nil })

	w.ring, w.file = keyringtest.New(t), filepath.Join(t.TempDir(), "test.db")
	if w.db, err = store.Open(w.file, w.ring); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	if w.keys, err = signing.Open(t.Context(), signing.Config{Store: w.db, Overlap: time.Hour, Log: log}, signing.Documents{}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		AuthServer: gatewayconfig.AuthServer{Issuer: w.url, AuthorizeOrigin: w.url, Upstreams: []gatewayconfig.Upstream{{Name: "entra"}},
			AccessToken: 15 * time.Minute, RefreshToken: 168 * time.Hour, AuthCode: time.Minute, Registration: true},
		Name:     "engineering-tools",
		Endpoint: gatewayconfig.Endpoint{URL: endpointURL, Path: "/mcp", ResourceURL: audience, Audience: audience, Scopes: []string{"openid"}},
		Upstream: upstream, UpstreamOrigin: w.sim.URL, Store: w.db, Keys: w.keys, Secrets: w.ring, Log: log,
		HMACKeys: func() []secret.Value {
			return []secret.Value{"test key of more than 32 bytes, the newest", "an older one of more than 32 bytes"}
		},
	}
	if o.config != nil {
		o.config(&cfg)
	}
	w.server = New(cfg)
	w.server.starting = newLimiter(10_000, 10_000, 10_000, 10_000)
	s.Config.Handler = w.server
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(w.checkLogs)
	return w
}

// sql changes the database behind the server's back: time passes that way.
func (w *world) sql(query string, args ...any) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	r, err := db.Exec(query, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	if n, err := r.RowsAffected(); n == 0 {
		w.t.Fatalf("%s changed nothing: %v", query, err)
	}
}

// age makes the rotation of a refresh token older.
func (w *world) age(token string, by time.Duration) {
	w.t.Helper()
	w.sql("UPDATE refresh_tokens SET rotated_at = rotated_at - ? WHERE hash = ?", by.Microseconds(),
		store.Hash(w.server.provider.tokens.RefreshTokenSignature(w.t.Context(), token)))
}

// canary remembers a secret.
func (w *world) canary(s ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range s {
		if len(c) >= 8 {
			w.canaries = append(w.canaries, c)
		}
	}
}

// checkLogs: no secret is in a log (T39).
func (w *world) checkLogs() {
	enc := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, entry := range w.logs.All() {
		line, err := enc.EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			w.t.Error(err)
			continue
		}
		for _, c := range w.canaries {
			if strings.Contains(line.String(), c) {
				w.t.Errorf("a secret (%.6s…) is in the log: %s", c, line)
			}
		}
	}
}

// logged says whether a request with this reference was logged.
func (w *world) logged(reference string) bool {
	for _, entry := range w.logs.FilterMessage("request").All() {
		if entry.ContextMap()["reference"] == reference {
			return true
		}
	}
	return false
}

// claims opens a token of ours.
func (w *world) claims(token string) map[string]any {
	w.t.Helper()
	payload, err := w.keys.Open(token)
	if err != nil {
		w.t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		w.t.Fatal(err)
	}
	return claims
}

// revoked are the values that authz was told to refuse.
func (w *world) revoked() string {
	list, err := w.db.RevocationsAfter(w.t.Context(), 0, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprint(list)
}
