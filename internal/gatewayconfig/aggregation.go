package gatewayconfig

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"vmcp/api/v1beta1"
)

func indexed(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// aggregation resolves spec.config.aggregation and spec.config.operational.
func (r *resolver) aggregation() {
	const at = "spec.config.aggregation"
	a := &r.gateway.Aggregator
	a.ConflictResolution, a.PrefixFormat = "prefix", "{workload}_"
	a.Tools = map[string]WorkloadTools{}
	if cfg := r.spec.Config.Aggregation; cfg != nil {
		a.ConflictResolution = oneOf(r.server, at+".conflictResolution", cfg.ConflictResolution, "prefix", "prefix", "priority", "manual")
		r.conflicts(at+".conflictResolutionConfig", cfg.ConflictResolutionConfig)
		a.ExcludeAllTools = cfg.ExcludeAllTools
		a.HideByDefault = oneOf(r.server, at+".defaultToolVisibility", cfg.DefaultToolVisibility, "allow", "allow", "deny") == "deny"
		for i := range cfg.Tools {
			r.tools(indexed(at+".tools", i), &cfg.Tools[i])
		}
	}
	r.conflictsNeeded(at)
	r.ownToolConfigs()
	r.nameLimit()
	r.operational()
}

var prefixFormat = regexp.MustCompile(`^[A-Za-z0-9_./-]*\{workload\}[A-Za-z0-9_./-]*$`) // characters of MCP tool names

func (r *resolver) conflicts(at string, cfg *v1beta1.ConflictResolutionConfig) {
	a := &r.gateway.Aggregator
	if cfg == nil {
		return
	}
	if cfg.PrefixFormat != "" {
		if a.PrefixFormat = cfg.PrefixFormat; !prefixFormat.MatchString(cfg.PrefixFormat) {
			r.server.bad(at+".prefixFormat", "want {workload} once, and else letters, digits and _ - . /")
		}
	}
	for i, name := range cfg.PriorityOrder {
		if at := indexed(at+".priorityOrder", i); r.workload(at, name) {
			if slices.Contains(a.PriorityOrder, name) {
				r.server.bad(at, "backend %s is named twice", name)
			}
			a.PriorityOrder = append(a.PriorityOrder, name)
		}
	}
	if len(cfg.PriorityOrder) > 0 && a.ConflictResolution != "priority" {
		r.note(r.server, at+".priorityOrder", "no effect: conflictResolution is %s", a.ConflictResolution)
	}
}

func (r *resolver) conflictsNeeded(at string) {
	cfg := r.spec.Config.Aggregation
	if r.gateway.Aggregator.ConflictResolution == "priority" &&
		(cfg.ConflictResolutionConfig == nil || len(cfg.ConflictResolutionConfig.PriorityOrder) == 0) {
		r.server.bad(at+".conflictResolutionConfig.priorityOrder", "required with conflictResolution priority: backend names, the first wins")
	}
}

// tools resolves one entry of aggregation.tools. What it says itself comes before its toolConfigRef.
func (r *resolver) tools(at string, cfg *v1beta1.WorkloadToolConfig) {
	if !r.workload(at+".workload", cfg.Workload) {
		return
	}
	if _, twice := r.gateway.Aggregator.Tools[cfg.Workload]; twice {
		r.server.bad(at+".workload", "a second entry for backend %s", cfg.Workload)
		return
	}
	t := WorkloadTools{Overrides: map[string]ToolOverride{}}
	if cfg.ToolConfigRef != nil {
		t = r.toolConfig(r.server, at+".toolConfigRef.name", cfg.ToolConfigRef.Name)
	}
	if len(cfg.Filter) > 0 {
		t.Filter = cfg.Filter
	}
	t.ExcludeAll = cfg.ExcludeAll
	overrides(r.server, at+".overrides", cfg.Overrides, t.Overrides)
	r.renamedInFilter(r.server, at+".filter", t)
	r.gateway.Aggregator.Tools[cfg.Workload] = t
}

// ownToolConfigs applies the toolConfigRef of backends themselves. Two layers of renaming have no place in the result.
func (r *resolver) ownToolConfigs() {
	for _, d := range r.docs {
		var ref *v1beta1.ToolConfigRef
		switch o := d.object.(type) {
		case *v1beta1.MCPServer:
			ref = o.Spec.ToolConfigRef
		case *v1beta1.MCPRemoteProxy:
			ref = o.Spec.ToolConfigRef
		}
		if ref == nil || !d.reached {
			continue
		}
		t := r.toolConfig(d, "spec.toolConfigRef.name", ref.Name)
		if _, twice := r.gateway.Aggregator.Tools[d.name]; twice {
			d.bad("spec.toolConfigRef", "the VirtualMCPServer's aggregation.tools is about this backend too; keep one of the two")
			continue
		}
		r.renamedInFilter(d, "spec.toolConfigRef", t)
		r.gateway.Aggregator.Tools[d.name] = t
	}
}

// renamedInFilter notes names in a filter that are not those by which clients know the tools.
func (r *resolver) renamedInFilter(d *document, at string, t WorkloadTools) {
	for _, name := range t.Filter {
		over := t.Overrides[name].Name
		taken := false
		for _, o := range t.Overrides {
			taken = taken || o.Name == name
		}
		if over != "" && over != name && !taken {
			r.note(d, at, "filters by %s, but an override calls that tool %s: the name that clients see counts, so it is not advertised", name, over)
		}
	}
}

// nameLimit reads how long advertised names may be.
func (r *resolver) nameLimit() {
	text, given := metaOf(r.server.object).Annotations[limitAnnotation]
	if !given {
		return
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 32 || n > 128 {
		r.server.bad(join("metadata.annotations", limitAnnotation), "want a number from 32 to 128, such as 64")
	}
	r.gateway.Aggregator.NameLimit = n
}

func (r *resolver) toolConfig(from *document, at, name string) WorkloadTools {
	t := WorkloadTools{Overrides: map[string]ToolOverride{}}
	doc := r.refer(from, at, "MCPToolConfig", name)
	if doc == nil {
		return t
	}
	spec := doc.object.(*v1beta1.MCPToolConfig).Spec
	t.Filter = spec.ToolsFilter
	overrides(doc, "spec.toolsOverride", spec.ToolsOverride, t.Overrides)
	return t
}

// overrides adds to all what from says, and checks that no two tools get one name.
func overrides(d *document, at string, from map[string]v1beta1.ToolOverride, all map[string]ToolOverride) {
	for _, tool := range slices.Sorted(maps.Keys(from)) {
		o, at := from[tool], join(at, tool)
		notes := annotationsOf(o.Annotations)
		if o.Name == "" && o.Description == "" && len(notes) == 0 {
			d.bad(at, "changes nothing: want name, description or annotations")
		}
		all[tool] = ToolOverride{Name: o.Name, Description: o.Description, Annotations: notes}
	}
	byName := map[string]string{}
	for _, tool := range slices.Sorted(maps.Keys(all)) {
		name := all[tool].Name
		if other := byName[name]; name != "" && other != "" {
			d.bad(join(at, tool)+".name", "tools %s and %s would have the same name %s", other, tool, name)
		}
		byName[name] = tool
	}
}

// annotationsOf lists the annotations given, under their MCP names.
func annotationsOf(a *v1beta1.ToolAnnotationsOverride) map[string]any {
	if a == nil {
		return nil
	}
	given := map[string]any{}
	if a.Title != nil {
		given["title"] = *a.Title
	}
	for name, hint := range map[string]*bool{
		"readOnlyHint": a.ReadOnlyHint, "destructiveHint": a.DestructiveHint,
		"idempotentHint": a.IdempotentHint, "openWorldHint": a.OpenWorldHint,
	} {
		if hint != nil {
			given[name] = *hint
		}
	}
	return given
}

func (r *resolver) operational() {
	const at = "spec.config.operational"
	a := &r.gateway.Aggregator
	a.HealthInterval = 30 * time.Second
	timeout, workloads := 30*time.Second, map[string]time.Duration{}
	cfg := cmp.Or(r.spec.Config.Operational, &v1beta1.OperationalConfig{})
	if t := cfg.Timeouts; t != nil {
		r.duration(at+".timeouts.default", t.Default, &timeout)
		for _, name := range slices.Sorted(maps.Keys(t.PerWorkload)) {
			d, at := t.PerWorkload[name], join(at+".timeouts.perWorkload", name)
			if r.workload(at, name) {
				var limit time.Duration
				r.duration(at, &d, &limit)
				workloads[name] = limit
			}
		}
	}
	a.UnhealthyThreshold = 3
	var healthTimeout time.Duration
	var breaker Breaker
	if f := cfg.FailureHandling; f != nil {
		at := at + ".failureHandling"
		r.duration(at+".healthCheckInterval", f.HealthCheckInterval, &a.HealthInterval)
		r.duration(at+".healthCheckTimeout", f.HealthCheckTimeout, &healthTimeout)
		r.count(at+".unhealthyThreshold", f.UnhealthyThreshold, &a.UnhealthyThreshold)
		oneOf(r.server, at+".partialFailureMode", f.PartialFailureMode, "best_effort", "fail", "best_effort")
		a.NeedsAll = f.PartialFailureMode == "fail"
		breaker = r.breaker(at+".circuitBreaker", f.CircuitBreaker)
	}
	for i := range a.Backends {
		b := &a.Backends[i]
		b.Timeout = cmp.Or(workloads[b.Name], timeout)
		b.HealthTimeout, b.Breaker = cmp.Or(healthTimeout, b.Timeout), breaker
	}
}

// breaker reads the circuit breaker of all backends; zero where it is not enabled.
func (r *resolver) breaker(at string, cfg *v1beta1.CircuitBreakerConfig) Breaker {
	if cfg == nil {
		return Breaker{}
	}
	b := Breaker{Failures: 5, Timeout: time.Minute}
	r.count(at+".failureThreshold", cfg.FailureThreshold, &b.Failures)
	if cfg.Timeout != nil {
		if b.Timeout = time.Duration(*cfg.Timeout); b.Timeout < time.Second {
			r.server.bad(at+".timeout", "want at least 1s")
		}
	}
	if !cfg.Enabled {
		return Breaker{}
	}
	return b
}

func (r *resolver) duration(at string, d *v1beta1.Duration, to *time.Duration) {
	if d == nil {
		return
	}
	if *to = time.Duration(*d); *to <= 0 {
		r.server.bad(at, "want more than 0s")
	}
}

func (r *resolver) count(at string, n *int32, to *int) {
	if n == nil {
		return
	}
	if *to = int(*n); *to < 1 {
		r.server.bad(at, "want at least 1")
	}
}
