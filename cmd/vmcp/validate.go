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

// validate loads configuration files as the services would and prints what they amount to, or all that is wrong.
func validate(_ context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("vmcp validate", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: vmcp validate -f FILE|DIR... [-name NAME] [-secrets DIR]\n\n"+
			"Checks the documents of all files and prints the gateway that they describe.\n\n")
		flags.PrintDefaults()
	}
	// What `vmcp up` runs on this machine is valid too; notes say where it is for this machine only.
	src := gatewayconfig.Source{Loopback: true}
	flags.Var((*daemon.List)(&src.Paths), "f", "`FILE|DIR` to read; may be given several times, and further ones may follow")
	flags.StringVar(&src.Name, "name", "", "`NAME` of the VirtualMCPServer, where the files have several")
	flags.StringVar(&src.Secrets, "secrets", "", "`DIR` with secrets as files NAME/KEY; without it, and without Secret documents, secrets are not checked")
	// Names may stand between flags, as in -f a.yaml b.yaml --name x.
	for len(args) > 0 {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil
		} else if err != nil {
			return errUsage
		}
		if args = flags.Args(); len(args) > 0 {
			src.Paths = append(src.Paths, args[0])
			args = args[1:]
		}
	}
	if len(src.Paths) == 0 {
		fmt.Fprintln(stderr, "vmcp validate: no file given")
		flags.Usage()
		return errUsage
	}

	gateway, err := check(src, stdout, stderr)
	if err != nil {
		return err
	}
	describe(stdout, gateway)
	return nil
}

// check loads the documents and compiles the policies as the services would. It prints the problems, and to warnings
// what in the policies cannot do what it seems to say.
func check(src gatewayconfig.Source, warnings, stderr io.Writer) (*gatewayconfig.Gateway, error) {
	gateway, err := gatewayconfig.Load(src)
	var set *policy.Set
	if err == nil {
		set, err = policy.Load(gateway.Name, gateway.Authz.Backends, gateway.Authz.Policies)
	}
	if problems, ok := errors.AsType[gatewayconfig.Problems](err); ok {
		for _, p := range problems {
			fmt.Fprintln(stderr, "error:", p)
		}
		fmt.Fprintln(stderr, count(len(problems), "problem"))
		return nil, errSilent
	} else if err != nil {
		return nil, err
	}
	for _, w := range set.Warnings() {
		fmt.Fprintln(warnings, "warning:", w)
	}
	return gateway, nil
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
