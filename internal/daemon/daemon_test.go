package daemon

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"

	"vmcp/internal/secret"
)

// TestMain lets the test binary be the service that TestExit runs.
func TestMain(m *testing.M) {
	switch os.Getenv("DAEMON_TEST") {
	case "":
		os.Exit(m.Run())
	case "fail":
		Main(func(context.Context, *zap.Logger) error { return errors.New("loading policies: none") })
	case "wait":
		Main(func(ctx context.Context, log *zap.Logger) error {
			log.Debug("too fine")
			log.Info("up", zap.Any("password", secret.Value("hunter2")))
			<-ctx.Done()
			return nil
		})
	}
}

func TestExit(t *testing.T) {
	for _, tt := range []struct {
		mode     string
		args     []string
		signal   os.Signal
		code     int
		contains string
	}{
		{"fail", nil, nil, 1, `"error":"loading policies: none"`},
		{"wait", nil, syscall.SIGTERM, 0, `"password":"redacted"`},
		{"wait", nil, syscall.SIGINT, 0, `"level":"info"`},
		{"wait", []string{"-log-level=loud"}, nil, 2, "-log-level"},
		{"wait", []string{"-nope"}, nil, 2, "nope"},
		{"wait", []string{"file"}, nil, 2, `unexpected argument "file"`},
	} {
		cmd := exec.Command(os.Args[0], tt.args...)
		cmd.Env = append(os.Environ(), "DAEMON_TEST="+tt.mode)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(stderr)
		first, _ := r.ReadString('\n')
		if tt.signal != nil {
			cmd.Process.Signal(tt.signal)
		}
		rest, _ := io.ReadAll(r)
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != tt.code {
			t.Errorf("%s %v: exit %d, want %d", tt.mode, tt.args, got, tt.code)
		}
		if out := first + string(rest); !strings.Contains(out, tt.contains) || strings.Contains(out, "too fine") {
			t.Errorf("%s %v: stderr %q, want %q in it", tt.mode, tt.args, out, tt.contains)
		}
	}
}

func TestTuneGC(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	for _, tt := range []struct {
		env     map[string]string
		file    string
		percent int
		limit   int64
	}{
		{nil, "", 400, math.MaxInt64},
		{nil, "max\n", 400, math.MaxInt64},
		{nil, "1000000000\n", 400, 900000000},
		{nil, "9223372036854771712\n", 400, math.MaxInt64},
		{map[string]string{"GOGC": "50"}, "1000000000", 100, math.MaxInt64},
		{map[string]string{"GOMEMLIMIT": "1GiB"}, "1000000000", 400, math.MaxInt64},
	} {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
		tuneGC(func(k string) string { return tt.env[k] }, func(string) []byte { return []byte(tt.file) })
		if got := debug.SetGCPercent(100); got != tt.percent {
			t.Errorf("%v %q: GC percent %d, want %d", tt.env, tt.file, got, tt.percent)
		}
		if got := debug.SetMemoryLimit(-1); got != tt.limit {
			t.Errorf("%v %q: memory limit %d, want %d", tt.env, tt.file, got, tt.limit)
		}
	}
}

// A stop lets the call in flight finish.
func TestServeHTTPStops(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan bool), make(chan bool)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- ServeHTTP(ctx, l, NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-release
			io.WriteString(w, "done")
		}), zap.NewNop()))
	}()
	answer := make(chan string)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answer <- string(b)
	}()
	<-entered
	cancel()
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("call in flight: got %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestServeErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := ServeHTTP(t.Context(), l, NewHTTPServer(nil, zap.NewNop())); err == nil {
		t.Error("HTTP on a closed listener: no error")
	}
	if err := ServeGRPC(t.Context(), l, grpc.NewServer()); err == nil {
		t.Error("gRPC on a closed listener: no error")
	}
}

func TestServeGRPCStops(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ServeGRPC(ctx, l, grpc.NewServer()); err != nil {
		t.Error(err)
	}
}

// outside pretends that a loopback listener is reachable from elsewhere.
type outside struct{ net.Listener }

func (outside) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 1} }

func TestAdmin(t *testing.T) {
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"loopback": func(l net.Listener) net.Listener { return l },
		"outside":  func(l net.Listener) net.Listener { return outside{l} },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		a := NewAdmin()
		var lost atomic.Bool
		a.AddCheck("policies", func() error { return nil })
		a.AddCheck("keys", func() error {
			if lost.Load() {
				return errors.New("no key of the issuer yet")
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- a.Serve(ctx, wrap(l), zap.NewNop()) }()
		get := func(path string) (int, string) {
			res, err := http.Get("http://" + l.Addr().String() + path)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			return res.StatusCode, string(b)
		}
		if code, body := get("/readyz"); code != 200 || body != "ready\n" {
			t.Errorf("%s: /readyz %d %q", name, code, body)
		}
		lost.Store(true)
		if code, body := get("/readyz"); code != 503 || body != "keys: no key of the issuer yet\n" {
			t.Errorf("%s: /readyz %d %q", name, code, body)
		}
		if code, _ := get("/livez"); code != 200 {
			t.Errorf("%s: /livez %d", name, code)
		}
		if code, body := get("/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") {
			t.Errorf("%s: /metrics %d", name, code)
		}
		want := map[string]int{"loopback": 200, "outside": 404}[name]
		if code, _ := get("/debug/pprof/"); code != want {
			t.Errorf("%s: /debug/pprof/ %d, want %d", name, code, want)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// TestServeHealth: readiness and nothing else, without reasons.
func TestServeHealth(t *testing.T) {
	a := NewAdmin()
	a.AddCheck("keys", func() error { return io.EOF })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	core, logs := observer.New(zap.InfoLevel)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- a.serveHealth(ctx, addr, zap.New(core)) }()
	for c, err := net.Dial("tcp", addr); ; c, err = net.Dial("tcp", addr) {
		if err == nil {
			c.Close()
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for path, want := range map[string]string{"/livez": "200 alive\n", "/readyz": "503 not ready\n", "/metrics": "404 404 page not found\n", "/debug/pprof/": "404 404 page not found\n"} {
			res, err := http.Get("http://" + addr + path)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if got := strings.Fields(res.Status)[0] + " " + string(b); got != want {
				t.Errorf("%s: got %q, want %q", path, got, want)
			}
		}
	}
	if n := logs.FilterField(zap.String("reasons", "keys: EOF")).Len(); n != 1 {
		t.Errorf("the reason is in the log %d times, want once", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := a.serveHealth(t.Context(), "", zap.NewNop()); err != nil {
		t.Errorf("without an address: %v", err)
	}
}
