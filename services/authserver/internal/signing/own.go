package signing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"vmcp/services/authserver/internal/store"
)

// own are the keys of our own at now, the newest first. Beside keys of the documents no new one is made, and the old ones
// go when nothing that they signed is left.
func (ks *Keys) own(ctx context.Context, now time.Time, configured, gone []key) ([]key, error) {
	stored, err := ks.cfg.Store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading signing keys: %w", err)
	}
	var ends time.Time // nothing is signed with any of them from then on; zero: that is not known
	for _, k := range configured {
		if ends.IsZero() || k.active.Before(ends) {
			ends = k.active
		}
	}
	if active, due := next(stored, now); due && len(configured) == 0 {
		if len(stored) == 0 && len(gone) > 0 { // those who verify know other keys
			active = now.Add(lead)
		}
		added, err := ks.add(ctx, active, newest(stored))
		if err != nil {
			return nil, fmt.Errorf("making a signing key: %w", err)
		}
		if added != nil {
			stored = append(stored, *added)
		} else if stored, err = ks.cfg.Store.SigningKeys(ctx); err != nil {
			return nil, fmt.Errorf("reading signing keys: %w", err)
		}
	}
	var keys []key
	for i, s := range stored {
		end := ends
		if i+1 < len(stored) {
			end = stored[i+1].Active
		}
		if !end.IsZero() && now.After(end.Add(ks.cfg.Overlap)) {
			if err := ks.cfg.Store.DeleteSigningKey(ctx, s.KID); err != nil {
				return nil, fmt.Errorf("deleting a signing key: %w", err)
			}
			continue
		}
		private, err := x509.ParsePKCS8PrivateKey(s.Private)
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w", s.KID, err)
		}
		k, err := newKey(private)
		if err != nil {
			return nil, fmt.Errorf("signing key %s: %w", s.KID, err)
		}
		k.active = s.Active
		keys = append(keys, k)
	}
	slices.Reverse(keys)
	return keys, nil
}

// next says whether a key is missing at now, and from when on it would sign.
func next(stored []store.SigningKey, now time.Time) (active time.Time, due bool) {
	if len(stored) == 0 {
		return now, true
	}
	change := stored[len(stored)-1].Active.Add(period)
	if now.Before(change.Add(-lead)) {
		return time.Time{}, false
	}
	if soonest := now.Add(lead); change.Before(soonest) { // we slept over it
		change = soonest
	}
	return change, true
}

func newest(stored []store.SigningKey) string {
	if len(stored) == 0 {
		return ""
	}
	return stored[len(stored)-1].KID
}

// add makes a key; nil if another replica was faster.
func (ks *Keys) add(ctx context.Context, active time.Time, newest string) (*store.SigningKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	k, err := newKey(private)
	if err != nil {
		return nil, err
	}
	s := &store.SigningKey{KID: k.kid, Active: active.Truncate(time.Microsecond)}
	if s.Private, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return nil, err
	}
	err = ks.cfg.Store.AddSigningKey(ctx, s, newest)
	if errors.Is(err, store.ErrTaken) {
		return nil, nil
	}
	if err == nil {
		ks.cfg.Log.Info("new signing key", zap.String("kid", s.KID), zap.Time("signs from", s.Active))
	}
	return s, err
}
