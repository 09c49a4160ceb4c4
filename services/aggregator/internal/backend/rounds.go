package backend

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/bridge"
)

// rounds is the state of a legacy client's call to a modern backend, which asks by a result and is answered by another
// request (docs/rules.md#questions-between-eras).
type rounds struct {
	asks      *bridge.Round // what the last result asked for; nil: nothing
	n         int           // rounds so far
	completes []string      // elicitations by address that the client waits to hear the end of
	progress  float64       // the last that the client was told
	told      bool          // it was told one
}

// errAnswered ends a call that was answered in the backend's place.
var errAnswered = errors.New("answered by the gateway")

// questions takes an input_required result for a legacy client. Its text is gone when receive returns, so it is copied.
func (c *call) questions(r mcpwire.Reply) (asks bool, err error) {
	if c.client != mcpwire.EraLegacy || c.wire != mcpwire.EraModern {
		return false, nil
	}
	result, ok := r.Result()
	if kind, _ := result.String("resultType"); !ok || kind != "input_required" {
		return false, nil
	}
	if err := c.mayAskBack(); err != nil {
		return false, err
	}
	text := bytes.Clone(result.Bytes())
	if result, err = mcpwire.ParseObject(text, 0, len(text)); err != nil {
		return false, c.b.errorf(ErrInvalidReply, true, "input_required: %w", err)
	}
	round, err := c.readRound(result, c.declared)
	c.asks = &round
	return true, err
}

// mayAskBack: only some requests may be answered by questions (MR-1).
func (h *hop) mayAskBack() error {
	switch h.req.Message.Method {
	case "tools/call", "prompts/get", "resources/read":
		return nil
	}
	return h.b.errorf(ErrInvalidReply, true, "input_required in reply to %s", h.req.Message.Method)
}

// readRound reads what is asked, and refuses what a client of these capabilities may not be asked (MR-3).
func (h *hop) readRound(result mcpwire.Object, declared []byte) (bridge.Round, error) {
	round, err := bridge.Read(result)
	if err != nil {
		return round, h.b.errorf(ErrInvalidReply, true, "input_required: %w", err)
	}
	for _, q := range round.Questions {
		if !h.b.mayAsk(q.Method) {
			return round, h.b.errorf(ErrInvalidReply, true, "input_required asks for %q, which no client is asked for this backend", q.Method)
		}
		if !q.Fits(declared) {
			return round, h.b.errorf(ErrNeedsInput, true, "input_required asks for %q, which the client did not declare", q.Method)
		}
	}
	return round, nil
}

// nextRound asks the client, and makes the request one with its answers. errAnswered: the call is over.
func (c *call) nextRound(ctx context.Context) error {
	if c.n++; c.n > bridge.MaxRounds {
		return c.b.errorf(ErrNeedsInput, true, "it asks for the %dth time", c.n)
	}
	round := c.asks
	var answers [][]byte
	for i, q := range round.Questions {
		answer, err := c.askClient(ctx, q, i)
		if errors.Is(err, bridge.ErrRefused) {
			return c.end(c.answer(mcpwire.AppendError(nil, c.req.Message.ID, mcpwire.CodeInternal, bridge.ErrRefused.Error(), nil)))
		}
		if err != nil {
			return err
		}
		answers = append(answers, answer)
	}
	if c.req.Again != nil {
		if err := c.req.Again(ctx); err != nil {
			return c.end(c.answer(mcpwire.AppendError(nil, c.req.Message.ID, mcpwire.CodeInternal, "what you may do has changed meanwhile, or cannot be told: make the request again", nil)))
		}
	}
	c.params, c.asks = round.Retry(answers), nil
	c.at(c.link)
	return nil
}

func (c *call) end(err error) error {
	if err == nil {
		err = errAnswered
	}
	return err
}

// askClient has the client asked on the call's stream, and waits for its answer while the clock stands still.
func (c *call) askClient(ctx context.Context, q bridge.Question, i int) ([]byte, error) {
	id := mcpwire.RawID(`"` + string(c.id) + "-" + strconv.Itoa(i) + `"`)
	request, elicitation := q.Request(id, c.b.cfg.Name, rand.Text())
	if elicitation != "" {
		c.completes = append(c.completes, elicitation)
	}
	answer := make(chan []byte, 1)
	c.clock.ask(string(id))
	defer c.clock.answered(string(id))
	err := c.deliver(Message{Kind: mcpwire.KindRequest, Method: q.Method, ID: id, Raw: request, Status: http.StatusOK, From: Origin{answer: answer}})
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case response := <-answer:
		return q.Answer(response)
	}
}

// tellCompleted tells the client that what it opened has served its purpose.
func (c *call) tellCompleted() {
	for _, id := range c.completes {
		raw := append([]byte(`{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":`), mcpwire.Quote(id)...)
		c.deliver(Message{Kind: mcpwire.KindNotification, Method: "notifications/elicitation/complete", Raw: append(raw, "}}"...), Status: http.StatusOK})
	}
	c.completes = nil
}

// rises says whether a progress is more than the last: each round of a backend may begin anew, and a client's call is one
// (PC-2).
func (c *call) rises(r mcpwire.Reply) bool {
	params, _ := r.Params()
	now, err := strconv.ParseFloat(string(params.Raw("progress")), 64)
	if err != nil {
		return true // not ours to judge
	}
	if c.n > 0 && c.told && now <= c.progress {
		return false
	}
	c.progress, c.told = now, true
	return true
}

// opensState puts a modern backend's own requestState in the place of the sealed one. False: that is not of this request.
func (h *hop) opensState() bool {
	if h.client != mcpwire.EraModern || h.wire != mcpwire.EraModern || h.req.State == nil {
		return true
	}
	raw := h.req.Message.Params.Raw("requestState")
	if raw == nil {
		return true
	}
	sealed, ok := mcpwire.Unquote(raw)
	if ok {
		sealed, ok = h.req.State.Open(sealed)
	}
	h.params = []mcpwire.Field{{Name: "requestState", Value: mcpwire.Quote(sealed)}}
	return ok
}

// named is a question of a legacy backend that says who asks.
func (b *Backend) named(r mcpwire.Reply) []byte {
	params, ok := r.Params()
	if !ok {
		return r.Body.Text
	}
	return mcpwire.Splice(r.Body.Text, bridge.Named(r.Method, params, b.cfg.Name)...)
}

// askEdits make an input_required result the modern client's: its state is sealed, and each question names the backend.
func (h *hop) askEdits(result mcpwire.Object) ([]mcpwire.Field, []mcpwire.Edit, error) {
	if err := h.mayAskBack(); err != nil {
		return nil, nil, err
	}
	round, err := h.readRound(result, h.b.offered(h.req.Message.Meta.Raw(mcpwire.MetaClientCapabilities)))
	if err != nil {
		return nil, nil, err
	}
	var edits []mcpwire.Edit
	for _, q := range round.Questions {
		edits = append(edits, bridge.Named(q.Method, q.Params, h.b.cfg.Name)...)
	}
	if !round.HasState || h.req.State == nil {
		return nil, edits, nil
	}
	return []mcpwire.Field{{Name: "requestState", Value: mcpwire.Quote(h.req.State.Seal(round.State))}}, edits, nil
}
