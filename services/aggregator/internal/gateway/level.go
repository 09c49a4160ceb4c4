package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"vmcp/internal/mcpwire"
	"vmcp/services/aggregator/internal/backend"
)

// setLevel keeps the level for this session and tells the backends that it has open.
func (x *exchange) setLevel(s *session) {
	level, ok := x.msg.Params.String("level")
	if !ok || !slices.Contains(mcpwire.LogLevels, level) {
		x.error(http.StatusOK, mcpwire.CodeInvalidParams, "params.level must be one of "+strings.Join(mcpwire.LogLevels, ", "), nil)
		return
	}
	s.mu.Lock()
	s.level = level
	open := make([]*backend.Session, 0, len(s.backends))
	for _, b := range s.backends {
		open = append(open, b)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(x.r.Context(), 2*time.Second) // a hanging backend does not hold this up for long
	defer cancel()
	done := make(chan struct{}, len(open))
	for _, b := range open {
		go func() {
			b.Do(ctx, backend.Request{Message: x.msg}, func(backend.Message) error { return nil }) // best effort
			done <- struct{}{}
		}()
	}
	for range open {
		<-done
	}
	x.result([]byte("{}"))
}

// setLevelTo is logging/setLevel in words of our own: the client's may be megabytes.
func setLevelTo(level string) *mcpwire.Message {
	m, err := mcpwire.Parse(mcpwire.Request{Method: http.MethodPost, Header: func(string) []string { return nil },
		Body: []byte(`{"jsonrpc":"2.0","id":"vmcp-level","method":"logging/setLevel","params":{"level":"` + level + `"}}`)})
	if err != nil {
		panic(err) // the levels are constants
	}
	return &m
}

func (s *session) levelSet() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level
}
