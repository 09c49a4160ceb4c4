package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
)

const migrateHelp = `usage: vmcp migrate -f FILE|DIR [flags]

Says what becomes of documents that ToolHive runs, field by field: what means something else here and why, what nothing
acts on, and what has to be changed first. It changes nothing; docs/from-toolhive.md says how to move, and back.

The exit status is 0 where the documents can be run as they are, else 1.

example:
  vmcp migrate -f toolhive.yaml
`

// migrate prints what becomes of documents.
func migrate(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("vmcp migrate", flag.ContinueOnError)
	src := gatewayconfig.Source{Loopback: true}
	fs.Var((*daemon.List)(&src.Paths), "f", "`file or directory` to read; may be given several times, and further ones may follow")
	fs.StringVar(&src.Name, "name", "", "`name` of the VirtualMCPServer, where the files have several")
	form := formatFlag(fs)
	names, err := parse(fs, migrateHelp, args, stdout, stderr)
	if err != nil {
		return err
	}
	if src.Paths = append(src.Paths, names...); len(src.Paths) == 0 {
		return wrongUsage(fs, stderr, "no file given")
	}
	m := gatewayconfig.Migrate(src)
	if *form == jsonFormat {
		return migrateJSON(stdout, m)
	}
	fmt.Fprintf(stdout, "%s as they are\n", count(m.Same, "field"))
	for _, d := range m.Differences {
		fmt.Fprintln(stdout, "differs:", d.Note)
		if d.Reason != "" {
			fmt.Fprintln(stdout, "    because:", d.Reason)
		}
	}
	for _, n := range m.Unused {
		fmt.Fprintln(stdout, "not used:", n)
	}
	if len(m.Problems) > 0 {
		return printProblems(stderr, m.Problems)
	}
	return nil
}

// migrateJSON prints the same for programs. The names in it stay.
func migrateJSON(w io.Writer, m *gatewayconfig.Migration) error {
	type difference struct {
		remark
		Reason string `json:"reason,omitempty"`
	}
	out := struct {
		Same        int          `json:"same"`
		Differences []difference `json:"differences"`
		Unused      []remark     `json:"not_used"`
		Problems    []remark     `json:"problems"`
	}{Same: m.Same, Differences: []difference{}, Unused: []remark{}, Problems: []remark{}}
	for _, d := range m.Differences {
		out.Differences = append(out.Differences, difference{remark(d.Note), d.Reason})
	}
	for _, n := range m.Unused {
		out.Unused = append(out.Unused, remark(n))
	}
	for _, p := range m.Problems {
		out.Problems = append(out.Problems, remark(p))
	}
	if err := writeJSON(w, out); err != nil {
		return err
	}
	if len(m.Problems) > 0 {
		return errSilent
	}
	return nil
}
