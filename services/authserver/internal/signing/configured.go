package signing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/secret"
	"vmcp/services/authserver/internal/store"
)

// Documents are what the user's documents say about signing keys.
type Documents struct {
	PEM  []secret.Value // signingKeySecretRefs: the first is to sign, all are published; empty: keys of our own
	Drop bool           // a key that is removed is not believed from that moment on, instead of when its tokens have expired
}

// Configure puts the keys of the documents in force. A bad one changes nothing.
func (ks *Keys) Configure(ctx context.Context, d Documents) error {
	return ks.configure(ctx, d, time.Now())
}

func (ks *Keys) configure(ctx context.Context, d Documents, now time.Time) error {
	var keys []key
	for i, text := range d.PEM {
		private, err := parsePEM(text)
		if err != nil {
			return fmt.Errorf("signing key %d: %w", i+1, err)
		}
		k, err := newKey(private)
		if err != nil {
			return fmt.Errorf("signing key %d: %w", i+1, err)
		}
		if !has(keys, k.kid) {
			keys = append(keys, k)
		}
	}
	ks.updating.Lock()
	defer ks.updating.Unlock()
	before, removed, drop := ks.configured, ks.removed, ks.drop
	ks.configured, ks.removed, ks.drop = keys, slices.Concat(before, removed), d.Drop
	err := ks.update(ctx, now)
	if err != nil {
		ks.configured, ks.removed, ks.drop = before, removed, drop
	}
	return err
}

func has(keys []key, kid string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return k.kid == kid })
}

// documents are the keys of the documents at now and those that were, until their last token has expired.
func (ks *Keys) documents(ctx context.Context, now time.Time) (configured, gone []key, err error) {
	err = ks.cfg.Store.Tx(ctx, func(ctx context.Context) error {
		known, err := ks.cfg.Store.ConfiguredKeys(ctx)
		if err != nil {
			return err
		}
		own, err := ks.cfg.Store.SigningKeys(ctx)
		if err != nil {
			return err
		}
		seen := now
		if len(known) == 0 && len(own) == 0 { // nobody knows another key of ours: it may sign at once
			seen = now.Add(-lead)
		}
		for _, k := range ks.configured {
			if configured, err = ks.seen(ctx, configured, k, known, seen); err != nil {
				return err
			}
		}
		gone, err = ks.gone(ctx, known, now)
		return err
	})
	if err == nil {
		ks.removed = slices.DeleteFunc(slices.Clone(gone), func(k key) bool { return k.signer == nil })
	}
	return configured, gone, err
}

// seen adds a key of the documents to list, with the time from which it may sign.
func (ks *Keys) seen(ctx context.Context, list []key, k key, known []store.ConfiguredKey, since time.Time) ([]key, error) {
	row := store.ConfiguredKey{KID: k.kid, Seen: since}
	i := slices.IndexFunc(known, func(o store.ConfiguredKey) bool { return o.KID == k.kid })
	if i >= 0 {
		row = known[i]
	}
	if i < 0 || !row.Gone.IsZero() {
		jwk, err := k.public.MarshalJSON()
		if err != nil {
			return nil, err
		}
		row.JWK, row.Gone = string(jwk), time.Time{}
		if err := ks.cfg.Store.SetConfiguredKey(ctx, &row); err != nil {
			return nil, err
		}
		ks.cfg.Log.Info("signing key of the documents", zap.String("kid", k.kid), zap.Time("signs from", row.Seen.Add(lead)))
	}
	k.active = row.Seen.Add(lead)
	return append(list, k), nil
}

// gone are the keys that the documents had and have no longer.
func (ks *Keys) gone(ctx context.Context, known []store.ConfiguredKey, now time.Time) ([]key, error) {
	var list []key
	for _, row := range known {
		if has(ks.configured, row.KID) {
			continue
		}
		if row.Gone.IsZero() {
			row.Gone = now
			if err := ks.cfg.Store.SetConfiguredKey(ctx, &row); err != nil {
				return nil, err
			}
		}
		if ks.drop || now.After(row.Gone.Add(lead+ks.cfg.Overlap)) { // it may sign for the lead of the next one
			if err := ks.cfg.Store.DeleteConfiguredKey(ctx, row.KID); err != nil {
				return nil, err
			}
			ks.cfg.Log.Info("signing key is no longer published", zap.String("kid", row.KID))
			continue
		}
		k := key{kid: row.KID, active: row.Seen.Add(lead)}
		if err := k.public.UnmarshalJSON([]byte(row.JWK)); err != nil {
			return nil, fmt.Errorf("key %s: %w", row.KID, err)
		}
		if i := slices.IndexFunc(ks.removed, func(o key) bool { return o.kid == row.KID }); i >= 0 && now.Before(row.Gone.Add(lead)) {
			k.signer = ks.removed[i].signer
		}
		list = append(list, k)
	}
	return list, nil
}
