// Package revocation knows which access tokens were ended before their time. It owns the list and the watching of
// authserver's feed; who is refused for it, and how, is extauthz's and permit's.
//
// The last list stays on disk, with the time when authserver was last heard: a restart while authserver is away forgets
// nothing, and does not make the silence shorter. Who has never heard a whole list lets nobody in.
package revocation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"vmcp/internal/durable"
	gatewayv1 "vmcp/proto/gateway/v1"
	"vmcp/services/authz/internal/follow"
)

// Config says where the list is kept and how long it may go without news.
type Config struct {
	File    string        // where the last list is kept; empty: nowhere
	Silence time.Duration // how long the feed may be silent before nobody is let in; 0: for ever
	Log     *zap.Logger
}

// Token is what revocations are about.
type Token struct {
	TSID, JTI, Subject, ClientID string
	IssuedAt                     time.Time
}

// List is what is revoked. It is safe for concurrent use.
type List struct {
	cfg Config

	mu      sync.RWMutex
	entries map[entry]times
	started time.Time
	heard   time.Time // the last message of the feed since a whole list, by this process or one before; zero: never
	saved   time.Time // heard, when the list was last saved
	quiet   bool      // the silence was logged
}

// entry is what a revocation names.
type entry struct{ Kind, Value string }

// times are those of a revocation, in milliseconds since the Unix epoch.
type times struct{ Revoked, Forget int64 }

// Kinds of entries: the names of the claims.
const (
	session = "tsid"
	one     = "jti"
	person  = "sub"
	client  = "client_id"
)

// saveEvery is how much of a silence a restart may add: it must be far below any limit of it.
const saveEvery = 5 * time.Second

// warnAfter is the silence that an operator should know of.
const warnAfter = 5 * time.Second

// New returns the list as it was kept.
func New(cfg Config) *List {
	l := &List{cfg: cfg, entries: map[entry]times{}, started: time.Now()}
	if err := l.load(); err != nil {
		cfg.Log.Warn("reading the kept revocations", zap.String("file", cfg.File), zap.Error(err))
	}
	return l
}

// Revoked says whether a token was ended.
func (l *List) Revoked(t Token) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, e := range [...]entry{{session, t.TSID}, {one, t.JTI}, {person, t.Subject}, {client, t.ClientID}} {
		if e.Value == "" {
			continue
		}
		at, ok := l.entries[e]
		// A person or a client may come back: tokens that were issued later are good. iat has whole seconds.
		if ok && (e.Kind == session || e.Kind == one || t.IssuedAt.UnixMilli() <= at.Revoked) {
			return true
		}
	}
	return false
}

// RevokedPayload is Revoked for the payload of a token that was verified before.
func (l *List) RevokedPayload(payload []byte) bool {
	var p struct {
		TSID     string  `json:"tsid"`
		JTI      string  `json:"jti"`
		Subject  string  `json:"sub"`
		ClientID string  `json:"client_id"`
		IssuedAt float64 `json:"iat"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return true // it was JSON when it was verified
	}
	return l.Revoked(Token{p.TSID, p.JTI, p.Subject, p.ClientID, time.Unix(int64(p.IssuedAt), 0)})
}

// Silence is how long the feed has said nothing.
func (l *List) Silence() time.Duration {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.silence()
}

// silence needs mu.
func (l *List) silence() time.Duration {
	if l.heard.IsZero() {
		return time.Since(l.started)
	}
	return time.Since(l.heard)
}

// Ready says why nobody can be let in: there is no list yet, or the feed is silent, so a token may have been ended without
// our knowing.
func (l *List) Ready() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.heard.IsZero() {
		return errors.New("authserver has not told its revocations yet")
	}
	if s := l.silence(); l.cfg.Silence > 0 && s > l.cfg.Silence {
		return fmt.Errorf("authserver says nothing about revocations for %v", s.Round(time.Second))
	}
	return nil
}

// Watch follows the feed until ctx ends.
func (l *List) Watch(ctx context.Context, conn grpc.ClientConnInterface) error {
	client := gatewayv1.NewRevocationsClient(conn)
	open := func(ctx context.Context) (grpc.ServerStreamingClient[gatewayv1.RevocationsUpdate], error) {
		return client.Watch(ctx, &gatewayv1.WatchRevocationsRequest{})
	}
	return follow.Stream(ctx, warnAfter, open, l.take, func(err error, _ bool) { l.warn(err) })
}

// warn logs a silence once.
func (l *List) warn(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.silence(); !l.quiet && s > warnAfter {
		l.quiet = true
		l.cfg.Log.Warn("authserver says nothing about revocations", zap.Duration("silence", s), zap.Error(err))
	}
}

// take returns what takes the updates of one stream: a snapshot, which counts when complete, then news.
func (l *List) take() func(*gatewayv1.RevocationsUpdate) (complete bool, err error) {
	snapshot, complete := map[entry]times{}, false
	return func(up *gatewayv1.RevocationsUpdate) (bool, error) {
		if complete {
			snapshot = map[entry]times{}
		}
		add(snapshot, up.Revocations)
		if complete = complete || up.SnapshotComplete; complete {
			l.merge(snapshot)
		}
		return complete, nil
	}
}

func add(to map[entry]times, list []*gatewayv1.Revocation) {
	for _, r := range list {
		var e entry
		switch what := r.What.(type) {
		case *gatewayv1.Revocation_Tsid:
			e = entry{session, what.Tsid}
		case *gatewayv1.Revocation_Jti:
			e = entry{one, what.Jti}
		case *gatewayv1.Revocation_Sub:
			e = entry{person, what.Sub}
		case *gatewayv1.Revocation_ClientId:
			e = entry{client, what.ClientId}
		default: // of a newer authserver
			continue
		}
		to[e] = later(to[e], times{r.RevokedAtMs, r.ForgetAtMs})
	}
}

func later(a, b times) times { return times{max(a.Revoked, b.Revoked), max(a.Forget, b.Forget)} }

// merge adds news. What we have stays until its time, also if a restored authserver does not know it any more.
// Only Watch calls it.
func (l *List) merge(news map[entry]times) {
	if !l.add(news) {
		return
	}
	if err := l.save(); err != nil {
		l.cfg.Log.Warn("keeping the revocations for a restart", zap.Error(err))
	}
}

// add puts news in force and says whether the list is to be saved.
func (l *List) add(news map[entry]times) (save bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.quiet {
		l.cfg.Log.Info("authserver speaks about revocations again", zap.Duration("silence", l.silence()))
	}
	l.heard, l.quiet = now, false
	changed := false
	for e, at := range news {
		if next := later(l.entries[e], at); next != l.entries[e] {
			l.entries[e], changed = next, true
		}
	}
	for e, at := range l.entries {
		if at.Forget <= now.UnixMilli() {
			delete(l.entries, e)
			changed = true
		}
	}
	return changed || now.Sub(l.saved) > saveEvery
}

// file is what lies on disk.
type file struct {
	Heard int64  `json:"heard_at_ms"`
	List  []kept `json:"revocations"`
}

// kept is one entry in the file.
type kept struct {
	Kind    string `json:"kind"`
	Value   string `json:"value"`
	Revoked int64  `json:"revoked_at_ms"`
	Forget  int64  `json:"forget_at_ms"`
}

func (l *List) load() error {
	if l.cfg.File == "" {
		return nil
	}
	raw, err := os.ReadFile(l.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f file
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		return err
	}
	for _, k := range f.List {
		l.entries[entry{k.Kind, k.Value}] = times{k.Revoked, k.Forget}
	}
	if heard := time.UnixMilli(f.Heard); f.Heard > 0 && !heard.After(time.Now()) { // else the clock was turned back
		l.heard, l.saved = heard, heard
	}
	return nil
}

// save writes the list. Decisions do not wait for the disk.
func (l *List) save() error {
	if l.cfg.File == "" {
		return nil
	}
	l.mu.Lock()
	l.saved = l.heard // also where it fails: then it is tried again in a while
	f := file{Heard: l.heard.UnixMilli(), List: make([]kept, 0, len(l.entries))}
	for e, at := range l.entries {
		f.List = append(f.List, kept{e.Kind, e.Value, at.Revoked, at.Forget})
	}
	l.mu.Unlock()
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return durable.Write(l.cfg.File, raw)
}
