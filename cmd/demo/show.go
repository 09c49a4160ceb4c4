package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"vmcp/internal/stack"
)

// show lets everybody try everything, prints the table, and returns what differs from the guide.
func (d *demo) show(ctx context.Context, s *stack.Stack) error {
	seen := map[person]map[string]cell{}
	for _, p := range people {
		cells, err := visit(ctx, s.URL, p)
		if err != nil {
			return err
		}
		seen[p] = cells
	}
	fmt.Fprintf(d.out, "\nWho sees which tool in the list, and what a call of it gives:\n\n")
	d.table(seen)

	wrong := compare(seen)
	status, err := post(ctx, &http.Client{Transport: &bearer{}}, s.URL, tools[0])
	if err != nil {
		return fmt.Errorf("calling without a token: %w", err)
	}
	if status != http.StatusUnauthorized {
		wrong = append(wrong, fmt.Sprintf("without a token: HTTP status %d, want 401", status))
	}
	// What the server itself wrote down: nothing but the calls of those who may.
	deletions, err := d.recorded("kubernetes", "delete_namespace")
	if err != nil {
		return err
	}
	if deletions != 2 {
		wrong = append(wrong, fmt.Sprintf("the server was asked %d times for delete_namespace, want 2: by platform and admin",
			deletions))
	}
	if len(wrong) > 0 {
		return errors.New("not as the guide says:\n  " + strings.Join(wrong, "\n  "))
	}
	fmt.Fprintf(d.out, `
All %d cells are as the guide says. The person without a role was told so at sign-in and got no token.
The Kubernetes server ran delete_namespace twice, for platform and admin: dev's call never reached it.
`, len(people)*len(tools))
	return nil
}

func (d *demo) table(seen map[person]map[string]cell) {
	t := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	row := func(first string, text func(person) string) {
		fmt.Fprint(t, first)
		for _, p := range people {
			fmt.Fprint(t, "\t", text(p))
		}
		fmt.Fprintln(t)
	}
	row("", func(p person) string { return p.name })
	row("", person.title)
	row("TOOL", func(person) string { return "LIST CALL" })
	for _, tool := range tools {
		row(tool.name, func(p person) string { return fmt.Sprintf("%.40s", seen[p][tool.name]) })
	}
	t.Flush()
}

// compare names each cell that is not as the guide says, and each listed tool that the demo does not know.
func compare(seen map[person]map[string]cell) []string {
	var wrong []string
	for _, p := range people {
		known := map[string]bool{}
		for _, t := range tools {
			known[t.name] = true
			if got, want := seen[p][t.name], guideSays(p, t.name); got != want {
				wrong = append(wrong, fmt.Sprintf("%s (%s), %s: %s; the guide says %s",
					p.name, p.title(), t.name, got.words(), want.words()))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(seen[p])) {
			if !known[name] {
				wrong = append(wrong, fmt.Sprintf("%s (%s), %s: nobody should see such a tool", p.name, p.title(), name))
			}
		}
	}
	return wrong
}

// recorded counts the calls of a tool in a server's own record.
func (d *demo) recorded(server, tool string) (int, error) {
	text, err := os.ReadFile(d.record(server))
	if err != nil {
		return 0, fmt.Errorf("reading what the server recorded: %w", err)
	}
	n := 0
	for _, name := range strings.Fields(string(text)) {
		if name == tool {
			n++
		}
	}
	return n, nil
}
