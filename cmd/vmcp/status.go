package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/progress"
	"vmcp/internal/stack"
)

const statusHelp = `usage: vmcp status [-f FILE|DIR [-name NAME] | -state DIR] [-o json]

Says how a gateway of vmcp up on this machine does. Without -f and -state it is the one that runs. The exit status is 0
when calls succeed, and 1 when they do not or nothing runs. Servers that are away do not count: the others work.

JSON has gateway, url, state_directory, pid, version, ready, and
  parts      each with part, pid, ready, waits_for
  backends   each with backend, state (listed; failing: its last lists, if any, are in use; starting),
             tools, prompts, resources, last_listed, last_failure, next_try,
             era, breaker (off, closed, open, half-open), sessions, children,
             calls, failures, latency_ms, last_error, last_error_at,
             long_names (over 64 characters, where no limit is set),
             changed (tools that are not as they were approved), pin_problem,
             leftOut (items that clients do not see, each with kind, name, reason)
  documents  since (when those in force were read), problem (of later ones, which are not in force)
  warnings   texts

example:
  vmcp status -f gateway.yaml
`

func status(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("vmcp status", flag.ContinueOnError)
	src := gatewayconfig.Source{Loopback: true}
	fs.Var((*daemon.List)(&src.Paths), "f", "YAML `file or directory` of the gateway; may be repeated")
	fs.StringVar(&src.Name, "name", "", "`name` of the VirtualMCPServer, where the documents hold several")
	state := fs.String("state", "", "state `directory`, where vmcp up was given one")
	form := formatFlag(fs)
	names, err := parse(fs, statusHelp, args, stdout, stderr)
	if err != nil {
		return err
	}
	src.Paths = append(src.Paths, names...)
	dir, err := stateOf(src, *state)
	if err != nil {
		return err
	}
	st, err := stack.FetchStatus(ctx, dir)
	if err != nil {
		return err
	}
	if *form == jsonFormat {
		err = writeJSON(stdout, st)
	} else {
		describeStatus(stdout, st)
	}
	if err == nil && !st.Ready {
		return errSilent
	}
	return err
}

// stateOf finds the state directory that is meant.
func stateOf(src gatewayconfig.Source, given string) (string, error) {
	if given != "" {
		return stack.StateDirectory(given, "")
	}
	if len(src.Paths) > 0 {
		gw, err := gatewayconfig.Load(src)
		if err != nil {
			return "", err
		}
		return stack.StateDirectory("", gw.Name)
	}
	dirs, err := stack.Running()
	switch {
	case err != nil:
		return "", err
	case len(dirs) == 0:
		return "", fmt.Errorf("%w; one with a state directory of its own is found by -state DIR", stack.ErrNotRunning)
	case len(dirs) > 1:
		return "", errors.New("several gateways run, name one by -state DIR:\n  " + strings.Join(dirs, "\n  "))
	}
	return dirs[0], nil
}

func describeStatus(w io.Writer, st *stack.Status) {
	ready := map[bool]string{true: "ready", false: "not ready"}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s\t%s\t%s\n", st.Gateway, ready[st.Ready], st.URL)
	for _, p := range st.Parts {
		fmt.Fprintf(t, "%s\t%s\tpid %d\t%s\n", p.Part, ready[p.Ready], p.PID, progress.Clean(p.WaitsFor))
	}
	for _, b := range st.Backends {
		fmt.Fprintf(t, "server %s\t%s\t%s\n", b.Backend, b.Progress(), progress.Clean(b.Summary()))
		if traffic := b.Traffic(time.Now()); traffic != "" {
			fmt.Fprintf(t, "\t\t%s\n", progress.Clean(traffic))
		}
	}
	t.Flush()
	if problem := st.Documents.Problem; problem != "" {
		fmt.Fprintln(w, "the changed documents are not in force:", progress.Clean(problem))
	}
	for _, warning := range st.Warnings {
		fmt.Fprintln(w, "warning:", progress.Clean(warning))
	}
	fmt.Fprintf(w, "process %d, version %s, state in %s\n", st.PID, st.Version, homely(st.State))
}
