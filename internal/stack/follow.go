package stack

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"vmcp/internal/gatewayconfig"
)

// follow tells people what becomes of changes to their documents, which the services take up by themselves.
func follow(ctx context.Context, cfg *Config, started *gatewayconfig.Gateway) error {
	last, well := started, true
	return gatewayconfig.Watch(ctx, cfg.Source, time.Second, func(next *gatewayconfig.Gateway, err error) {
		var all []program
		if err == nil {
			all, err = programs(cfg, next)
		}
		if err != nil {
			well = false
			fmt.Fprintf(cfg.Progress, "the changed documents are not in force, the last good ones stay:\n%v\n", err)
			return
		}
		if well && reflect.DeepEqual(next, last) {
			return
		}
		known, _ := programs(cfg, last) // they were well
		shown := map[string]bool{}
		for _, p := range known {
			shown[p.String()] = true
		}
		for _, p := range all {
			if !shown[p.String()] {
				fmt.Fprintln(cfg.Progress, p)
			}
		}
		last, well = next, true
		fmt.Fprintln(cfg.Progress, "the changed documents are in force"+needsRestart(started, next))
	})
}

// needsRestart names what the running services do not take up.
func needsRestart(started, next *gatewayconfig.Gateway) string {
	for _, part := range []struct {
		name      string
		was, want any
	}{
		{"the name of the VirtualMCPServer", started.Name, next.Name},
		{"resourceUrl, audience, scopes and allowed origins", started.Endpoint, next.Endpoint},
		{"the issuer of tokens", []any{started.Authz.Anonymous, started.Authz.Issuer}, []any{next.Authz.Anonymous, next.Authz.Issuer}},
		{"trusted proxies", started.TrustedProxies, next.TrustedProxies},
	} {
		if !reflect.DeepEqual(part.was, part.want) {
			return ", but for " + part.name + ": that takes a restart of vmcp up"
		}
	}
	return ""
}
