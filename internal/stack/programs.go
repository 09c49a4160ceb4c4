package stack

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stdio"
)

// program stands for the container image of one MCPServer.
type program struct {
	server  string
	command string   // a command line, for stdio.Words
	args    []string // the document's, behind those of the command
}

// String shows what will run, before it does. The environment, where secrets are, is not in it.
func (p program) String() string {
	line := "MCPServer " + p.server + " runs: " + p.command
	for _, a := range p.args {
		if a == "" || strings.ContainsAny(a, " \t\n'\"") {
			a = fmt.Sprintf("%q", a)
		}
		line += " " + a
	}
	return line
}

// programs finds the program of each MCPServer, and refuses images that none stands for and programs that are not there.
func programs(cfg *Config, gw *gatewayconfig.Gateway) ([]program, error) {
	given := map[string]string{}
	for _, r := range cfg.Run {
		image, command, ok := strings.Cut(r, "=")
		if words, err := stdio.Words(command); !ok || err != nil || len(words) == 0 {
			return nil, fmt.Errorf("--run %q: want IMAGE='COMMAND ARGS…'", r)
		}
		given[image] = command
	}
	var all []program
	var errs []error
	for _, b := range gw.Aggregator.Backends {
		if b.Kind != "MCPServer" {
			continue
		}
		from, command := "--run", given[b.Image]
		if command == "" {
			from, command = "vmcp/command", b.Command
		}
		words, err := stdio.Words(command)
		switch {
		case err != nil: // checked: --run above, the annotation in gatewayconfig
			errs = append(errs, err)
			continue
		case len(words) == 0:
			errs = append(errs, fmt.Errorf("MCPServer %s has the image %s, and no container engine is used here: give "+
				"--run '%s=COMMAND ARGS…' with a program that is the same server, or write it into the annotation vmcp/command",
				b.Name, b.Image, b.Image))
			continue
		}
		if _, err := exec.LookPath(words[0]); err != nil {
			if strings.Contains(words[0], "/") {
				err = fmt.Errorf("%w (a relative path begins at the directory where you are)", err)
			}
			errs = append(errs, fmt.Errorf("MCPServer %s: %s: %w", b.Name, from, err))
		}
		all = append(all, program{b.Name, command, b.Args})
	}
	return all, errors.Join(errs...)
}
