// Command drain lets Envoy finish what it has begun before its pod ends: a preStop hook. Load balancers get time to send
// nobody here any more, then Envoy takes no new connection and tells clients to open their next one elsewhere, and when
// no request is open any more, or their time is up, the program ends and the kubelet stops Envoy.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"vmcp/internal/daemon"
)

var (
	admin   = flag.String("admin", "/run/vmcp/envoy-admin.sock", "Envoy's admin `socket`")
	before  = flag.Duration("before", 10*time.Second, "time until nobody sends new connections")
	atMost  = flag.Duration("at-most", 60*time.Second, "time for open requests, streams among them, after that")
	install = flag.String("install", "", "copy this program to `path` and end")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if *install != "" {
		return daemon.Install(*install)
	}
	e := envoy{&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", *admin)
	}}}}
	if _, err := e.ask(ctx, http.MethodPost, "/healthcheck/fail"); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(*before):
	}
	// skip_exit: what ends is the listeners, at the end of Envoy's drain time; the process is the kubelet's to end.
	if _, err := e.ask(ctx, http.MethodPost, "/drain_listeners?graceful&skip_exit"); err != nil {
		return err
	}
	end := time.After(*atMost)
	for {
		open, err := e.open(ctx)
		if err != nil || open == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-end:
			fmt.Fprintf(os.Stderr, "drain: %d requests are still open, and cut\n", open)
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// envoy is the admin interface (Envoy: operations/admin).
type envoy struct{ client *http.Client }

func (e envoy) ask(ctx context.Context, method, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, resp.StatusCode, body)
	}
	return body, err
}

// open counts the requests that clients wait for (http.mcp.downstream_rq_active).
func (e envoy) open(ctx context.Context) (int, error) {
	body, err := e.ask(ctx, http.MethodGet, "/stats?filter=^http%5C.mcp%5C.downstream_rq_active$")
	if err != nil {
		return 0, err
	}
	_, number, ok := bytes.Cut(bytes.TrimSpace(body), []byte(": "))
	if !ok {
		return 0, errors.New("the requests of Envoy are not counted: is its statistics prefix mcp?")
	}
	return strconv.Atoi(string(number))
}
