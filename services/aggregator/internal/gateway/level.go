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
			b.SetLevel(ctx, level) // best effort
			done <- struct{}{}
		}()
	}
	for range open {
		<-done
	}
	x.result([]byte("{}"))
}

func (s *session) levelSet() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level
}
