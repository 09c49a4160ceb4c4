package entrasim

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"vmcp/internal/secret"
)

// Faults is how the tenant misbehaves. The zero value is Entra as it should be.
type Faults struct {
	Delay      time.Duration // before every answer
	Status     int           // of every answer, without a body; 0: as it should be
	RetryAfter time.Duration // with Status
	Truncate   bool          // answers end in the middle

	TokenError     int // AADSTS number of every answer of the token endpoint
	AuthorizeError int // AADSTS number that the authorize endpoint sends to the application

	OmitRoles     bool   // tokens say no roles
	WrongTenant   bool   // tokens are of another tenant
	WrongAudience bool   // access tokens are for another application
	AppOnly       bool   // access tokens are the application's own, with a role
	OtherPerson   string // user principal name: whose tokens refreshes give
	SelfToken     SelfToken

	Mutate    func(*Token)                          // changes a token before it is signed; must not call the tenant
	Response  func(response map[string]any)         // changes an answer of the token endpoint
	Discovery func(version int, doc map[string]any) // changes a discovery document
}

// SelfToken says which refreshes give AADSTS90009, "requesting a token for itself".
type SelfToken int

const (
	SelfTokenScopeMissing SelfToken = iota // those without scope
	SelfTokenURIForm                       // also those with api://<client id>/<scope>; <client id>/<scope> works
	SelfTokenNever
)

// SetFaults makes the tenant misbehave from the next request on.
func (t *Tenant) SetFaults(f Faults) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = f
}

// Advance moves the tenant's clock.
func (t *Tenant) Advance(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.offset += d
}

// SetTokenVersion changes requestedAccessTokenVersion: 0 (null), 1 or 2.
func (t *Tenant) SetTokenVersion(version int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.version = version
}

// SetAssignmentRequired changes "Assignment required?".
func (t *Tenant) SetAssignmentRequired(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dir.AssignmentRequired = on
}

// AddSecret adds a client secret; those before it stay valid.
func (t *Tenant) AddSecret(value secret.Value) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secrets = append(t.secrets, credential{value: value})
}

// ExpireSecrets ends the validity of all client secrets so far.
func (t *Tenant) ExpireSecrets() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.secrets {
		t.secrets[i].expired = true
	}
}

// SetRoles replaces the roles of an account, and assigns it. Tokens have them from the next sign-in or refresh on.
func (t *Tenant) SetRoles(upn string, roles ...string) {
	t.edit(upn, func(p *Person) { p.Roles, p.Unassigned = slices.Clone(roles), false })
}

// SetAssigned assigns an account to the application with no role, or takes all its assignments away.
func (t *Tenant) SetAssigned(upn string, assigned bool) {
	t.edit(upn, func(p *Person) { p.Roles, p.Unassigned = nil, !assigned })
}

// SetDisabled blocks or unblocks an account (AADSTS50057).
func (t *Tenant) SetDisabled(upn string, disabled bool) {
	t.edit(upn, func(p *Person) { p.Disabled = disabled })
}

// Revoke ends all grants of an account so far, as "Revoke sessions" does (AADSTS50173).
func (t *Tenant) Revoke(upn string) {
	t.edit(upn, func(p *Person) { p.grantsAfter++ })
}

// edit changes an account. One that does not exist is the caller's mistake.
func (t *Tenant) edit(upn string, change func(*Person)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.dir.person(upn)
	if p == nil {
		panic(fmt.Sprintf("nobody is called %s in this tenant", upn))
	}
	change(p)
}

// Count returns how many requests came for a path behind the tenant, such as "/discovery/v2.0/keys".
func (t *Tenant) Count(path string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts["/"+t.cfg.Tenant+path]
}

// TokenRequests returns the forms that the token endpoint got, oldest first, at most the last 1000.
func (t *Tenant) TokenRequests() []url.Values {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.requests)
}

func (t *Tenant) record(form url.Values) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.requests) >= 1000 {
		t.requests = slices.Delete(t.requests, 0, 500)
	}
	t.requests = append(t.requests, maps.Clone(form))
}

func (t *Tenant) misbehave(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		if len(t.counts) < 1000 {
			t.counts[r.URL.Path]++
		}
		f := t.faults
		t.mu.Unlock()
		if f.Delay > 0 {
			select {
			case <-time.After(f.Delay):
			case <-r.Context().Done():
				return
			}
		}
		if f.Status != 0 {
			if f.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
			}
			w.WriteHeader(f.Status)
			return
		}
		if f.Truncate {
			w = &truncated{w}
		}
		next.ServeHTTP(w, r)
	})
}

// truncated ends an answer in the middle of its body and cuts the connection.
type truncated struct{ http.ResponseWriter }

func (w *truncated) Write(b []byte) (int, error) {
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.ResponseWriter.Write(b[:len(b)/2])
	panic(http.ErrAbortHandler)
}
