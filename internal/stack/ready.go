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
	"sync"
	"time"

	"vmcp/internal/child"
	"vmcp/internal/envoyproc"
	"vmcp/internal/progress"
)

// wait returns when every part says that it is ready, and shows how they do until then. Its error has all that are not.
func (s *Stack) wait(ctx context.Context, show *progress.Display) error {
	errs := make([]error, len(s.services)+1)
	var waiting sync.WaitGroup
	for i, name := range s.services {
		waiting.Go(func() { errs[i] = s.waitService(ctx, name, show) })
	}
	if s.simulated != "" { // has no admin socket
		waiting.Go(func() { waitOpen(ctx, s.simulated, show) })
	}
	waiting.Go(func() {
		if err := envoyproc.Ready(ctx, s.sock("envoy-admin")); err != nil {
			errs[len(s.services)] = fmt.Errorf("%w\n  log: %s", err, s.file("envoy.log"))
			return
		}
		show.Set("envoy", progress.Ready, "")
	})
	waiting.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	client := Client(s.sock("authz-admin"))
	defer client.CloseIdleConnections()
	for _, w := range policyWarnings(ctx, client) { // last, as authz compares the policies with what the servers listed
		show.Note("warning: " + w)
	}
	return nil
}

// policyWarnings are authz's remarks on the policies in force, one a line.
func policyWarnings(ctx context.Context, client *http.Client) []string {
	status, text, err := get(ctx, client, "/warnings")
	if err != nil || status != http.StatusOK {
		return nil // the gateway works all the same, and its log has them
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

// waitOpen waits until the simulated tenant listens. authserver says so where it never does.
func waitOpen(ctx context.Context, address string, show *progress.Display) {
	for ctx.Err() == nil {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			show.Set("entrasim", progress.Ready, "")
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Stack) waitService(ctx context.Context, name string, show *progress.Display) error {
	client := Client(s.sock(name + "-admin"))
	defer client.CloseIdleConnections()
	last, warned := "no answer", false
	for {
		reasons, err := notReady(ctx, client, "/readyz")
		if name == "aggregator" { // afterwards, so that what made it ready is shown
			warned = showServers(ctx, client, show, warned)
		}
		switch {
		case err == nil && reasons == "":
			show.Set(name, progress.Ready, "")
			return nil
		case err == nil:
			last = reasons
			show.Set(name, progress.Waiting, reasons)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not become ready: %s\n  log: %s", name, last, s.file(name+".log"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// notReady asks an admin socket what its process waits for; empty: it is ready.
func notReady(ctx context.Context, client *http.Client, page string) (reasons string, err error) {
	status, text, err := get(ctx, client, page)
	if err != nil || status == http.StatusOK {
		return "", err
	}
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "; "), nil
}

// Backend is what the aggregator says of one MCP server.
type Backend struct {
	Backend     string    `json:"backend"`
	State       string    `json:"state"` // listed, failing (the last good lists, if any, are in use), starting (not tried yet)
	Tools       int       `json:"tools"`
	Prompts     int       `json:"prompts"`
	Resources   int       `json:"resources"`
	LastFailure string    `json:"last_failure,omitempty"`
	NextTry     time.Time `json:"next_try,omitzero"` // after a failure
	LastListed  time.Time `json:"last_listed,omitzero"`
	Era         string    `json:"era,omitempty"`
	Breaker     string    `json:"breaker,omitempty"`
	Sessions    int       `json:"sessions"`
	Children    int       `json:"children"`
	Calls       uint64    `json:"calls"`
	Failures    uint64    `json:"failures"`
	Latency     float64   `json:"latency_ms,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	LongNames   []string  `json:"long_names,omitempty"`  // over 64 characters, where no limit is set
	Changed     []string  `json:"changed,omitempty"`     // tools that are not as they were approved
	PinProblem  string    `json:"pin_problem,omitempty"` // why that is not known
	LeftOut     []struct {
		Kind   string `json:"kind"`
		Name   string `json:"name"`
		Reason string `json:"reason"`
	} `json:"leftOut,omitempty"` // what it lists and clients do not see
}

// servers is the aggregator's /status.
type servers struct {
	Backends  []Backend
	Warnings  []string // what it cannot have on this machine
	Documents Documents
}

// Documents says which documents are in force.
type Documents struct {
	Since   time.Time `json:"since"`
	Problem string    `json:"problem,omitempty"` // of later documents, which are not in force
}

func fetchServers(ctx context.Context, client *http.Client) (s servers, err error) {
	_, text, err := get(ctx, client, "/status")
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// showServers shows how the servers do, and with the first answer the warnings; warned says that they were shown.
func showServers(ctx context.Context, client *http.Client, show *progress.Display, warned bool) bool {
	s, err := fetchServers(ctx, client)
	if err != nil {
		return warned // it does not listen yet
	}
	for _, w := range s.Warnings {
		if !warned {
			show.Note("warning: " + w)
		}
	}
	for _, b := range s.Backends {
		show.Set("server "+b.Backend, b.Progress(), b.Summary())
	}
	return true
}

// Progress is the state in the words that people are shown.
func (b *Backend) Progress() progress.State {
	switch {
	case b.State == "listed":
		return progress.Ready
	case b.LastFailure != "":
		return progress.Away
	}
	return progress.Waiting
}

// Summary says in a line what a server offers, or why it does not.
func (b *Backend) Summary() string {
	offers := fmt.Sprintf("%s, %s, %s", count(b.Tools, "tool"), count(b.Prompts, "prompt"), count(b.Resources, "resource"))
	if n := len(b.LeftOut); n > 0 {
		offers += fmt.Sprintf("; left out %s, such as %s %s: %s", count(n, "item"), b.LeftOut[0].Kind, b.LeftOut[0].Name, b.LeftOut[0].Reason)
	}
	if n := len(b.LongNames); n > 0 {
		offers += fmt.Sprintf("; longer than the 64 characters that many model APIs take: %s, such as %s (vmcp/name-limit)", count(n, "name"), b.LongNames[0])
	}
	if n := len(b.Changed); n > 0 {
		offers += fmt.Sprintf("; not as approved: %s (vmcp tools diff)", count(n, "tool"))
	}
	if b.PinProblem != "" {
		offers += "; what was approved is not known: " + b.PinProblem
	}
	switch {
	case b.State == "listed" && b.LastFailure != "":
		return offers + "; " + b.Reason()
	case b.State == "listed":
		return offers
	case b.State == "failing" && b.LastFailure != "" && b.Tools+b.Prompts+b.Resources > 0:
		return b.Reason() + " (in use are its last lists: " + offers + ")"
	case b.LastFailure != "":
		return b.Reason()
	}
	return "not listed yet"
}

// Traffic says in a line how calls of a server go; empty before the first.
func (b *Backend) Traffic(now time.Time) string {
	var parts []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(b.Era != "", "protocol %s", b.Era)
	add(b.Breaker == "open" || b.Breaker == "half-open", "breaker %s", b.Breaker)
	add(b.Sessions > 0, "%s", count(b.Sessions, "session"))
	add(b.Children == 1, "1 process")
	add(b.Children > 1, "%d processes", b.Children)
	add(b.Calls > 0, "%s", count(int(b.Calls), "call"))
	add(b.Latency > 0, "%.3g ms each", b.Latency)
	add(b.Failures > 0, "%d failed, the last %s ago: %s", b.Failures, now.Sub(b.LastErrorAt).Round(time.Second),
		strings.TrimPrefix(b.LastError, "backend "+b.Backend+": "))
	return strings.Join(parts, ", ")
}

// Reason is the last failure in few words: of what a program wrote before its end, what says why.
func (b *Backend) Reason() string {
	what := strings.ReplaceAll(b.LastFailure, "backend "+b.Backend+": ", "") // at its head, and where it was wrapped again
	what = strings.ReplaceAll(what, "backend unavailable: ", "")
	what, wrote, ok := strings.Cut(what, "; it last wrote: ")
	if !ok {
		return what
	}
	lines, _ := child.Telling([]byte(strings.ReplaceAll(wrote, " | ", "\n")))
	return what + ": " + strings.Join(lines, " | ")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

func get(ctx context.Context, client *http.Client, path string) (status int, text []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://admin"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, text, err
}

// Client is an HTTP client whose every request goes to one Unix socket.
func Client(sock string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", sock)
		},
	}}
}
