// Command vmcp is the tool people type: it checks and runs a gateway from the user's own configuration files.
//
// This file owns the list of commands and nothing of what they do. Each command is a function in a file of its name.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"vmcp/internal/gatewayconfig"
)

// A command is one word after vmcp. run gets the arguments behind it; its error is printed and means exit status 1,
// errUsage status 2, errSilent status 1 without a word, errHelp status 0.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"up", "run the gateway of your files on this machine", up},
	{"validate", "check configuration files and print what they amount to", validate},
	{"migrate", "say what becomes of documents that ToolHive runs", migrate},
	{"status", "say how a gateway on this machine does", status},
	{"tools", "show tools that changed since they were approved, and approve them", tools},
	{"keys", "print new keys and certificates as Kubernetes Secrets", keys},
	{"version", "say which build this is", printVersion},
}

var (
	errUsage  = errors.New("wrong usage")         // the command has said what is wrong
	errHelp   = errors.New("help was asked for")  // and given
	errSilent = errors.New("failed, said enough") // the command has said why it failed
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// dispatch runs the command that args name and returns the exit status.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) < 2 {
			usage(stdout)
			return 0
		}
		args = []string{args[1], "-h"}
	case "-version", "--version":
		args = []string{"version"}
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:], stdout, stderr)
		switch {
		case err == nil, errors.Is(err, errHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		case !errors.Is(err, errSilent):
			fmt.Fprintf(stderr, "vmcp %s: %v\n", c.name, err)
		}
		return 1
	}
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	meant := ""
	if near := gatewayconfig.Nearest(args[0], names); near != "" {
		meant = fmt.Sprintf(", did you mean %q?", near)
	}
	fmt.Fprintf(stderr, "vmcp: unknown command %q%s\n\n", args[0], meant)
	usage(stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "usage: vmcp COMMAND [ARGUMENTS]\n\ncommands:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprintf(w, "\nvmcp help COMMAND says more about one, with an example.\n")
}
