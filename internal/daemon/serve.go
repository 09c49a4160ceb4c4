package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

// stopTime bounds a graceful stop: calls in flight get this long, then their connections are cut. The flag -stop-time.
var stopTime = 10 * time.Second

// NewHTTPServer returns a server with limits for h. Its idle time-out is longer than the 60 s of deploy/envoy/envoy.yaml:
// the side that sends requests must be the one that closes idle connections. Bodies and answers have no deadline here,
// streams are long.
func NewHTTPServer(h http.Handler, log *zap.Logger) *http.Server {
	errorLog, err := zap.NewStdLogAt(log, zapcore.WarnLevel)
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          errorLog,
	}
}

// ServeHTTP serves on l until ctx ends, then parts and stops, all within -stop-time. It returns nil after a stop that was asked for,
// also when it had to cut connections. Handlers of long streams should end when the server shuts down: see
// http.Server.RegisterOnShutdown.
func ServeHTTP(ctx context.Context, l net.Listener, s *http.Server) error {
	failed := make(chan error, 1)
	p := newParting(s)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving HTTP on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	p.part(stop)
	if err := s.Shutdown(stop); err != nil {
		s.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving HTTP on %s: %w", l.Addr(), err)
	}
	return nil
}

// ServeGRPC serves on l until ctx ends, then stops within -stop-time. It returns nil after a stop that was asked for.
func ServeGRPC(ctx context.Context, l net.Listener, s *grpc.Server) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving gRPC on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	cut := time.AfterFunc(stopTime, s.Stop)
	defer cut.Stop()
	s.GracefulStop()
	if err := <-failed; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}
