package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/stdio"
	"vmcp/services/aggregator/internal/fleet"
)

// lookAtDocuments is how often the documents are looked at; a change is in force after two looks.
const lookAtDocuments = 500 * time.Millisecond

// inForce says since when the documents in force are that, and what is wrong with later ones.
type inForce struct {
	mu      sync.Mutex
	since   time.Time
	problem string
}

type documentStatus struct {
	Since   time.Time `json:"since"`
	Problem string    `json:"problem,omitempty"` // of later documents, which are not in force
}

func (d *inForce) status() documentStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return documentStatus{d.since, d.problem}
}

// set notes what came of reading the documents: they are in force, or there is a problem and the last good ones are.
func (d *inForce) set(changed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.problem = ""
	switch {
	case err != nil:
		d.problem = err.Error()
	case changed:
		d.since = time.Now()
	}
}

// follow puts changed documents in force.
func (d *inForce) follow(ctx context.Context, gw *gatewayconfig.Gateway, backends *fleet.Fleet, log *zap.Logger) error {
	return gatewayconfig.Watch(ctx, cfg.source, lookAtDocuments, func(next *gatewayconfig.Gateway, err error) {
		var spec fleet.Spec
		if err == nil {
			spec, err = cfg.spec(next)
		}
		if err == nil && next.Name != gw.Name {
			err = fmt.Errorf("the VirtualMCPServer is %s and was %s: another gateway needs a start of its own", next.Name, gw.Name)
		}
		changed := err == nil && !reflect.DeepEqual(next.Aggregator, gw.Aggregator)
		d.set(changed, err)
		switch {
		case err != nil:
			log.Error("documents not in force, the last good ones stay", zap.Error(err))
		case changed:
			gw = next
			backends.Apply(spec)
			log.Info("documents in force", zap.Int("backends", len(gw.Aggregator.Backends)))
		}
	})
}

// spec is what the documents want of the fleet. An error says why that cannot be had.
func (c *config) spec(gw *gatewayconfig.Gateway) (fleet.Spec, error) {
	spec := fleet.Spec{Aggregator: &gw.Aggregator, Commands: map[string][]string{}}
	var err error
	if spec.Hide, err = c.hidden(gw); err != nil {
		return spec, err
	}
	var errs []error
	for _, b := range gw.Aggregator.Backends {
		command, err := c.command(b)
		errs = append(errs, err)
		if command != nil {
			spec.Commands[b.Name] = command
		}
	}
	return spec, errors.Join(errs...)
}

// command is the program that stands for a stdio backend's image: by -run, else by the annotation vmcp/command, which
// gatewayconfig takes on this machine only.
func (c *config) command(b gatewayconfig.Backend) ([]string, error) {
	if b.Kind != "MCPServer" || b.URL != "" {
		return nil, nil
	}
	command := c.commands[b.Image]
	if command == nil && b.Command != "" {
		var err error
		if command, err = stdio.Words(b.Command); err != nil {
			return nil, fmt.Errorf("MCPServer %s: vmcp/command: %w", b.Name, err)
		}
	}
	switch {
	case command == nil:
		return nil, fmt.Errorf("MCPServer %s: no program stands for its image here: give -run '%s=COMMAND ARGS…'", b.Name, b.Image)
	case b.Transport != gatewayconfig.TransportStdio:
		return nil, errors.New("MCPServer " + b.Name + ": transport " + string(b.Transport) + ": only stdio servers are started here; name a running one by an MCPServerEntry")
	}
	return command, nil
}

// starts says whether any backend is a child of this process.
func starts(gw *gatewayconfig.Gateway) bool {
	return slices.ContainsFunc(gw.Aggregator.Backends, func(b gatewayconfig.Backend) bool {
		return b.Transport == gatewayconfig.TransportStdio
	})
}
