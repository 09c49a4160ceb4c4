package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"vmcp/internal/daemon"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/policy"
)

const validateHelp = `usage: vmcp validate -f FILE|DIR [flags]

Checks the documents of all files as the services would, and prints the gateway that they describe, or every problem at
once with file, line and field. The exit status is 0 without problems, else 1.

JSON has valid, and as lists problems and notes (file, line, field, text) and warnings (texts about policies), and where
it is valid, gateway: name, endpoint (a URL, or the path where the host is open), anonymous, audience, issuer, own_issuer,
sign_in (URLs), policies (how many texts), tool_names, backends (name, kind, transport, url, image, command).

example:
  vmcp validate -f gateway.yaml -secrets secrets
`

// validate loads configuration files as the services would and prints what they amount to, or all that is wrong.
func validate(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("vmcp validate", flag.ContinueOnError)
	// What `vmcp up` runs on this machine is valid too; notes say where it is for this machine only.
	src := gatewayconfig.Source{Loopback: true}
	fs.Var((*daemon.List)(&src.Paths), "f", "`file or directory` to read; may be given several times, and further ones may follow")
	fs.StringVar(&src.Name, "name", "", "`name` of the VirtualMCPServer, where the files have several")
	fs.StringVar(&src.Secrets, "secrets", "", "`directory` with secrets as files NAME/KEY; without it, and without Secret documents, secrets are not checked")
	form := formatFlag(fs)
	names, err := parse(fs, validateHelp, args, stdout, stderr)
	if err != nil {
		return err
	}
	if src.Paths = append(src.Paths, names...); len(src.Paths) == 0 {
		return wrongUsage(fs, stderr, "no file given")
	}

	gateway, warnings, err := check(src)
	if *form == jsonFormat {
		return validateJSON(stdout, gateway, warnings, err)
	}
	if err != nil {
		return printProblems(stderr, err)
	}
	for _, w := range warnings {
		fmt.Fprintln(stdout, "warning:", w)
	}
	describe(stdout, gateway)
	return nil
}

// check loads the documents and compiles the policies as the services would. The warnings say what in the policies
// cannot do what it seems to say.
func check(src gatewayconfig.Source) (gateway *gatewayconfig.Gateway, warnings []string, err error) {
	if gateway, err = gatewayconfig.Load(src); err != nil {
		return nil, nil, err
	}
	set, err := policy.Load(gateway.Name, gateway.Authz.Backends, gateway.Authz.Policies)
	if err != nil {
		return nil, nil, err
	}
	return gateway, set.Warnings(), nil
}

// printProblems prints what is wrong with documents, one a line; another error is returned as it is.
func printProblems(stderr io.Writer, err error) error {
	problems, ok := errors.AsType[gatewayconfig.Problems](err)
	if !ok {
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(stderr, "error:", p)
	}
	fmt.Fprintln(stderr, count(len(problems), "problem"))
	return errSilent
}

// describe prints a gateway for people. No secret is in it, as none was asked for.
func describe(w io.Writer, g *gatewayconfig.Gateway) {
	for _, n := range g.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "gateway\t%s\n", g.Name)
	endpoint := g.Endpoint.URL
	if endpoint == "" {
		endpoint = "(any host)" + g.Endpoint.Path
	}
	fmt.Fprintf(t, "endpoint\t%s\n", endpoint)
	if g.Authz.Anonymous {
		fmt.Fprintf(t, "sign-in\tnone (anonymous)\n")
	} else {
		fmt.Fprintf(t, "audience\t%s\n", g.Endpoint.Audience)
		whose := "elsewhere"
		if g.Authz.Issuer.Own {
			whose = "this gateway"
		}
		fmt.Fprintf(t, "issuer\t%s (%s)\n", g.Authz.Issuer.URL, whose)
	}
	if g.AuthServer != nil {
		for _, up := range g.AuthServer.Upstreams {
			fmt.Fprintf(t, "sign-in\t%s: %s\n", up.Name, up.IssuerURL)
		}
	}
	fmt.Fprintf(t, "policies\t%s\n", count(len(g.Authz.Policies.Texts), "text"))
	fmt.Fprintf(t, "tool names\t%s\n", names(g.Aggregator))
	fmt.Fprintf(t, "backends\t%d\n", len(g.Aggregator.Backends))
	for _, b := range g.Aggregator.Backends {
		where := b.URL
		if where == "" {
			where = b.Image
		}
		if b.Command != "" {
			where += "  (runs: " + b.Command + ")"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", b.Name, b.Kind, b.Transport, where)
	}
	t.Flush()
}

func names(a gatewayconfig.Aggregator) string {
	switch a.ConflictResolution {
	case "prefix":
		return "prefix " + a.PrefixFormat
	case "priority":
		return "priority " + strings.Join(a.PriorityOrder, ", ")
	}
	return a.ConflictResolution
}

func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
