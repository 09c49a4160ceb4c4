package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"vmcp/internal/version"
)

const versionHelp = `usage: vmcp version [-o json]

Says which build this is. JSON has version and go.

example:
  vmcp version -o json
`

func printVersion(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("vmcp version", flag.ContinueOnError)
	form := formatFlag(fs)
	if names, err := parse(fs, versionHelp, args, stdout, stderr); err != nil {
		return err
	} else if len(names) > 0 {
		return wrongUsage(fs, stderr, "it takes no names")
	}
	if *form == jsonFormat {
		return writeJSON(stdout, map[string]string{"version": version.String(), "go": version.Go()})
	}
	fmt.Fprintf(stdout, "vmcp %s (%s)\n", version.String(), version.Go())
	return nil
}
