package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"unicode"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/progress"
	"vmcp/internal/stack"
)

const toolsHelp = `usage: vmcp tools diff [SERVER] [-f FILE|DIR [-name NAME] | -state DIR] [-o json]
       vmcp tools approve SERVER [TOOL…] [-f FILE|DIR [-name NAME] | -state DIR]

Servers with the annotation vmcp/pin have the definitions of their tools remembered when they are first seen: title,
description, schemas, hints. diff shows the tools that are not as they were approved, under the server's own names; its
exit status is 1 where there are any. approve takes them as they are now, all where none is named; with vmcp/pin: hide
they are listed again at once. Without -f and -state it is the gateway of vmcp up that runs.

example:
  vmcp tools diff
  vmcp tools approve github-backend create_issue
`

// tools shows and approves changed tools.
func tools(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("vmcp tools", flag.ContinueOnError)
	src := gatewayconfig.Source{Loopback: true}
	fs.Var((*daemon.List)(&src.Paths), "f", "YAML `file or directory` of the gateway; may be repeated")
	fs.StringVar(&src.Name, "name", "", "`name` of the VirtualMCPServer, where the documents hold several")
	state := fs.String("state", "", "state `directory`, where vmcp up was given one")
	form := formatFlag(fs)
	names, err := parse(fs, toolsHelp, args, stdout, stderr)
	if err != nil {
		return err
	}
	switch {
	case len(names) == 0:
		return wrongUsage(fs, stderr, "want diff or approve")
	case names[0] == "diff" && len(names) > 2:
		return wrongUsage(fs, stderr, "diff takes the name of one server, or none")
	case names[0] == "approve" && len(names) < 2:
		return wrongUsage(fs, stderr, "approve whose tools? Name a server")
	case names[0] != "diff" && names[0] != "approve":
		return wrongUsage(fs, stderr, fmt.Sprintf("%q: want diff or approve", names[0]))
	}
	dir, err := stateOf(src, *state)
	if err != nil {
		return err
	}
	if names[0] == "approve" {
		return approve(ctx, dir, names[1], names[2:], stdout)
	}
	server := strings.Join(names[1:], "")
	changes, err := stack.ChangedTools(ctx, dir, server)
	if err != nil {
		return err
	}
	if *form == jsonFormat {
		err = writeJSON(stdout, changes)
	} else {
		describeChanges(stdout, changes)
	}
	if err == nil && len(changes) > 0 {
		return errSilent
	}
	return err
}

func approve(ctx context.Context, dir, server string, names []string, stdout io.Writer) error {
	approved, err := stack.ApproveTools(ctx, dir, server, names)
	if err != nil {
		return err
	}
	if len(approved) == 0 {
		fmt.Fprintf(stdout, "no tool of %s is other than approved\n", server)
	}
	for _, name := range approved {
		fmt.Fprintln(stdout, "approved", server, visible(name))
	}
	return nil
}

func describeChanges(w io.Writer, changes []stack.ChangedTool) {
	if len(changes) == 0 {
		fmt.Fprintln(w, "all tools are as they were approved")
	}
	for _, c := range changes {
		fmt.Fprintf(w, "server %s, tool %s\n", progress.Clean(c.Backend), visible(c.Tool))
		for _, line := range diff(lines(c.Approved), lines(c.Offered)) {
			fmt.Fprintln(w, line)
		}
	}
}

// lines is JSON for people, a member a line.
func lines(raw []byte) []string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return []string{visible(string(raw))}
	}
	all := strings.Split(b.String(), "\n")
	for i, line := range all {
		all[i] = visible(line)
	}
	return all
}

// visible shows what a terminal would obey, or nobody would see: steering, and marks that hide or turn text.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == ' ' || unicode.IsPrint(r) && !unicode.In(r, unicode.Cf, unicode.Zs, unicode.M) && r != '\u2800' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u{%04x}", r)
		}
	}
	return b.String()
}

// diff gives the lines of both, - for those of was only and + for those of is only, in a longest common subsequence.
func diff(was, is []string) []string {
	const most = 4 << 20 // fields of the table below; beyond that nobody reads it anyway
	if len(was)*len(is) > most {
		was, is = was[:min(len(was), 1000)], is[:min(len(is), 1000)]
	}
	longest := make([][]int, len(was)+1) // of was[i:] and is[j:]
	for i := range longest {
		longest[i] = make([]int, len(is)+1)
	}
	for i := len(was) - 1; i >= 0; i-- {
		for j := len(is) - 1; j >= 0; j-- {
			if was[i] == is[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(was) || j < len(is) {
		switch {
		case i < len(was) && j < len(is) && was[i] == is[j]:
			out = append(out, "  "+was[i])
			i, j = i+1, j+1
		case j == len(is) || i < len(was) && longest[i+1][j] >= longest[i][j+1]:
			out = append(out, "- "+was[i])
			i++
		default:
			out = append(out, "+ "+is[j])
			j++
		}
	}
	return out
}
