// Package bridge translates questions of servers between the two protocol eras. A server of 2026-07-28 asks by the result
// of a call (input_required) and is answered by a second call; a client of 2025-11-25 is asked by a request while its call
// runs. The package is pure: messages in, messages out. Whose turn it is, clocks and connections are the backend package's.
package bridge

import (
	"bytes"
	"errors"
	"fmt"

	"vmcp/internal/mcpwire"
)

const (
	// MaxRounds is how often one call may come back with questions (MR-8).
	MaxRounds = 8
	// MaxState is the length of a server's requestState in bytes (MR-8).
	MaxState = 16 << 10
	// maxQuestions are the inputs that one round may ask for.
	maxQuestions = 16
)

// The three methods by which servers ask clients.
const (
	Elicit = "elicitation/create"
	Sample = "sampling/createMessage"
	Roots  = "roots/list"
)

// Round is what an input_required result asks for (MR-2).
type Round struct {
	Questions []Question
	State     string // requestState
	HasState  bool
}

// Question is one member of inputRequests.
type Question struct {
	Key    string
	Method string
	Params mcpwire.Object // does not exist where the question has none
}

// Read reads an input_required result. What it holds is a view of the result's text.
func Read(result mcpwire.Object) (Round, error) {
	var r Round
	if raw := result.Raw("requestState"); raw != nil && string(raw) != "null" {
		state, ok := mcpwire.Unquote(raw)
		switch {
		case !ok:
			return r, errors.New("requestState is no string")
		case len(state) > MaxState:
			return r, fmt.Errorf("requestState has %d bytes, at most %d", len(state), MaxState)
		}
		r.State, r.HasState = state, true
	}
	at, ok := result.Find("inputRequests")
	if !ok || string(result.Text[at.Start:at.End]) == "null" {
		if !r.HasState {
			return r, errors.New("input_required without inputRequests and requestState")
		}
		return r, nil
	}
	all, err := mcpwire.ParseObject(result.Text, at.Start, at.End)
	switch {
	case err != nil:
		return r, fmt.Errorf("inputRequests: %w", err)
	case len(all.Members) > maxQuestions:
		return r, fmt.Errorf("%d inputRequests, at most %d", len(all.Members), maxQuestions)
	}
	for _, m := range all.Members {
		q := Question{Key: m.Name}
		o, err := mcpwire.ParseObject(result.Text, m.Start, m.End)
		if err != nil {
			return r, fmt.Errorf("inputRequests.%s: %w", m.Name, err)
		}
		q.Method, _ = o.String("method")
		if at, ok := o.Find("params"); ok && string(o.Text[at.Start:at.End]) != "null" {
			if q.Params, err = mcpwire.ParseObject(o.Text, at.Start, at.End); err != nil {
				return r, fmt.Errorf("inputRequests.%s.params: %w", m.Name, err)
			}
		}
		r.Questions = append(r.Questions, q)
	}
	return r, nil
}

// Fits says whether a client with these capabilities, a JSON object, can be asked this (MR-3).
func (q Question) Fits(capabilities []byte) bool {
	all, err := mcpwire.ParseObject(capabilities, 0, len(capabilities))
	if err != nil {
		return false
	}
	part := func(o mcpwire.Object, name string) (mcpwire.Object, bool) {
		at, ok := o.Find(name)
		if !ok {
			return mcpwire.Object{}, false
		}
		sub, err := mcpwire.ParseObject(o.Text, at.Start, at.End)
		return sub, err == nil
	}
	switch q.Method {
	case Elicit:
		modes, ok := part(all, "elicitation")
		if !ok {
			return false
		}
		if q.byURL() {
			return modes.Raw("url") != nil
		}
		return modes.Raw("form") != nil || modes.Raw("url") == nil // an empty object means forms
	case Sample:
		sampling, ok := part(all, "sampling")
		return ok && (q.Params.Raw("tools") == nil || sampling.Raw("tools") != nil)
	case Roots:
		_, ok := part(all, "roots")
		return ok
	}
	return false
}

// byURL says whether the person is to open an address, instead of filling a form.
func (q Question) byURL() bool {
	mode, ok := q.Params.String("mode")
	return ok && mode == "url" || !ok && q.Params.Raw("url") != nil
}

// Named are the edits by which what a person is asked says which server asks: to a host, all questions come from the
// gateway. params are those of a question of either era.
func Named(method string, params mcpwire.Object, server string) []mcpwire.Edit {
	message, ok := params.String("message")
	if method != Elicit || !ok || server == "" {
		return nil
	}
	return params.Change(nil, mcpwire.Field{Name: "message", Value: mcpwire.Quote(server + " asks: " + message)})
}

// Request is the question as a request to a client of 2025, under this id. completes is the id by which such a client
// hears that what it opened is done, where the person is to open an address; a server's own wins.
func (q Question) Request(id mcpwire.RawID, server, completes string) (request []byte, elicitationID string) {
	b := []byte(`{"jsonrpc":"2.0","id":`)
	b = append(append(b, id...), `,"method":`...)
	b = append(b, mcpwire.Quote(q.Method)...)
	if !q.Params.Exists() {
		if q.Method == Roots {
			return append(b, '}'), ""
		}
		return append(b, `,"params":{}}`...), ""
	}
	edits := Named(q.Method, q.Params, server)
	if q.Method == Elicit && q.byURL() {
		var ok bool
		if elicitationID, ok = q.Params.String("elicitationId"); !ok {
			elicitationID = completes
			edits = append(edits, q.Params.Change(nil, mcpwire.Field{Name: "elicitationId", Value: mcpwire.Quote(completes)})...)
		}
	}
	params := mcpwire.Splice(q.Params.Text, edits...)
	// The edits lie within the object, so what the text grew by, the object did.
	end := q.Params.End + len(params) - len(q.Params.Text)
	b = append(append(b, `,"params":`...), params[q.Params.Start:end]...)
	return append(b, '}'), elicitationID
}

// ErrRefused is a client's error in answer to a question that has no form for a refusal.
var ErrRefused = errors.New("the client does not answer what the server asks")

// Answer is the client's response as a member of inputResponses. A client that refuses to ask has cancelled.
func (q Question) Answer(response []byte) ([]byte, error) {
	r, err := mcpwire.ParseReply(response)
	if err == nil {
		if result, ok := r.Result(); ok {
			return bytes.Clone(result.Bytes()), nil
		}
	}
	if q.Method == Elicit {
		return []byte(`{"action":"cancel"}`), nil
	}
	return nil, ErrRefused
}

// Retry are the members of params that the next round has beside those of the first (MR-4). answers are by question.
func (r Round) Retry(answers [][]byte) []mcpwire.Field {
	var fields []mcpwire.Field
	if len(answers) > 0 {
		b := []byte{'{'}
		for i, q := range r.Questions {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, mcpwire.Quote(q.Key)...), ':')
			b = append(b, answers[i]...)
		}
		fields = append(fields, mcpwire.Field{Name: "inputResponses", Value: append(b, '}')})
	}
	if r.HasState {
		fields = append(fields, mcpwire.Field{Name: "requestState", Value: mcpwire.Quote(r.State)})
	}
	return fields
}
