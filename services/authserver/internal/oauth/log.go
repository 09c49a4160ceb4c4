package oauth

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// record is what one line of the log says about a request. No parameter of a request is in it.
type record struct {
	reference string // also on the page that a person sees
	client    string
	caller    string
	outcome   string
	err       error
	status    int
}

type recordKey struct{}

func recordOf(r *http.Request) *record {
	if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
		return rec
	}
	return &record{}
}

func noteError(r *http.Request, e *Error) {
	rec := recordOf(r)
	rec.outcome, rec.err = e.Code, e
}

type statusWriter struct {
	http.ResponseWriter
	rec *record
}

func (w *statusWriter) WriteHeader(status int) {
	w.rec.status = status
	w.ResponseWriter.WriteHeader(status)
}

// logged writes one line per request, with the path but not the query.
func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &record{reference: rand.Text()[:8], status: http.StatusOK}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(&statusWriter{w, rec}, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
		level := zap.InfoLevel
		if rec.status >= 500 {
			level = zap.ErrorLevel
		}
		if c := s.cfg.Log.Check(level, "request"); c != nil {
			c.Write(zap.String("request", r.Header.Get("X-Request-Id")), zap.String("reference", rec.reference), zap.String("method", r.Method),
				zap.String("path", r.URL.Path), zap.Int("code", rec.status), zap.Duration("took", time.Since(start)), zap.String("ip", clientIP(r)),
				zap.String("client", rec.client), zap.String("caller", rec.caller), zap.String("outcome", rec.outcome), zap.Error(rec.err))
		}
	})
}
