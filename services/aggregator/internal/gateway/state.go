package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	statePurpose = "mcp-request-state-v1"
	// stateAge is for the person who thinks before the client asks again.
	stateAge = time.Hour
)

// stateSeal makes a backend's requestState one of this request: who got it can bring it back for an hour, in the same call
// with the same arguments (MR-5, MR-6). A backend that has one credential for all could not tell people apart by it.
type stateSeal struct{ x *exchange }

// bound is all that the request is about.
func (s stateSeal) bound() []byte {
	x := s.x
	arguments := sha256.Sum256(ordered(x.msg.Params.Raw("arguments")))
	text, _ := json.Marshal([]any{ // strings and bytes
		x.g.cfg.VirtualServer, x.d.Principal, x.d.Target.Backend, x.msg.Method, x.d.Target.Name, arguments[:]})
	return text
}

// ordered is JSON without what may differ when a client writes the same arguments once more: blanks, the order of members
// and escapes. Numbers stay as they were written.
func ordered(raw []byte) []byte {
	v := jsontext.Value(raw).Clone()
	if v.Format(jsontext.ReorderRawObjects(true), jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)) != nil {
		return raw
	}
	return v
}

func (s stateSeal) Seal(state string) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(stateAge).Unix()))
	return s.x.g.cfg.SessionKeys.Seal(statePurpose, append(plain, state...), s.bound())
}

func (s stateSeal) Open(sealed string) (string, bool) {
	plain, ok := s.x.g.cfg.SessionKeys.Open(statePurpose, sealed, s.bound())
	if !ok || len(plain) < 8 || time.Now().Unix() > int64(binary.BigEndian.Uint64(plain)) {
		return "", false
	}
	return string(plain[8:]), true
}

// mayAgain asks authz whether the caller may still use the item of this call, by the same policies: the decision was about
// arguments too, which stay, and about what else those policies read.
func (x *exchange) mayAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, decisionTime)
	defer cancel()
	resp, err := x.permitted(ctx, x.g.cfg.Inventory.Catalog(), x.msg.Item, x.msg.Name)
	switch {
	case err != nil:
		return err
	case len(resp.Indexes) != 1 || resp.PolicyRevision != x.d.PolicyRevision:
		return errors.New("other policies, or not permitted any more")
	}
	return nil
}
