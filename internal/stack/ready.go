package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"vmcp/internal/envoyproc"
)

// wait returns when every part says that it is ready.
func (s *Stack) wait(ctx context.Context) error {
	for _, name := range s.services {
		if err := waitReady(ctx, s.sock(name+"-admin")); err != nil {
			return fmt.Errorf("%s does not become ready: %w (log %s)", name, err, s.file(name+".log"))
		}
	}
	return envoyproc.Ready(ctx, s.sock("envoy-admin"))
}

// report prints what each backend offers, or that it is away.
func (s *Stack) report(ctx context.Context, w io.Writer) {
	client := Client(s.sock("aggregator-admin"))
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://admin/status", nil)
	if err != nil {
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		return // the gateway is ready all the same
	}
	defer resp.Body.Close()
	var status struct {
		Backends []struct {
			Backend, State            string
			Tools, Prompts, Resources int
		}
	}
	if json.NewDecoder(resp.Body).Decode(&status) != nil {
		return
	}
	for _, b := range status.Backends {
		if b.State == "listed" {
			fmt.Fprintf(w, "%s: %d tools, %d prompts, %d resources\n", b.Backend, b.Tools, b.Prompts, b.Resources)
		} else {
			fmt.Fprintf(w, "%s: not available yet, see %s\n", b.Backend, s.file("aggregator.log"))
		}
	}
}

// waitReady asks a service's admin socket until it is ready; the error holds its last reasons.
func waitReady(ctx context.Context, sock string) error {
	client := Client(sock)
	defer client.CloseIdleConnections()
	last := errors.New("no answer")
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://admin/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			last = errors.New(strings.TrimSpace(string(text)))
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Client is an HTTP client whose every request goes to one Unix socket.
func Client(sock string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", sock)
		},
	}}
}
