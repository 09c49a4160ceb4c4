package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/api/v1beta1"
	"vmcp/deploy/k8s"
	"vmcp/internal/gatewayconfig"
	"vmcp/services/operator/internal/render"
)

// A status is what an object will say of itself.
type status struct {
	object     *render.Object
	fields     map[string]any
	conditions []map[string]any
	notes      []string
}

// status is that of an object in this look.
func (l *look) status(o *render.Object) *status {
	at := title(o.GetKind(), o.GetName())
	if l.statuses[at] == nil {
		l.statuses[at] = &status{object: o, fields: map[string]any{"observedGeneration": o.GetGeneration()}}
	}
	return l.statuses[at]
}

func (s *status) set(field string, value any) { s.fields[field] = value }

func (s *status) phase(phase, message string) {
	s.set("phase", phase)
	delete(s.fields, "message")
	if message != "" {
		s.set("message", message)
	}
}

// note is something that a person should know and no error.
func (s *status) note(text string) { s.notes = append(s.notes, text) }

// condition sets one; what is given last counts.
func (s *status) condition(name string, ok bool, reason, message string) {
	value := map[bool]string{true: "True", false: "False"}[ok]
	c := map[string]any{"type": name, "status": value, "reason": reason, "message": message, "observedGeneration": s.object.GetGeneration()}
	for i, have := range s.conditions {
		if have["type"] == name {
			s.conditions[i] = c
			return
		}
	}
	s.conditions = append(s.conditions, c)
}

// conditions are those of a VirtualMCPServer, and where the problems are that they speak of.
var conditions = []struct {
	name, reason string
	places       []string // of the VirtualMCPServer, or kinds
}{
	{"GroupRefValidated", "GroupRefNotFound", []string{"spec.groupRef", "spec.config.groupRef", "MCPGroup"}},
	{"OIDCConfigRefValidated", "OIDCConfigInvalid", []string{"spec.incomingAuth.oidcConfigRef", "MCPOIDCConfig"}},
	{"AuthzConfigRefValidated", "AuthzConfigInvalid", []string{"spec.incomingAuth.authzConfig", "MCPAuthzConfig", "ConfigMap"}},
	{"AuthServerConfigValidated", "AuthServerConfigInvalid", []string{"spec.authServerConfig"}},
	{"AuthConfigured", "AuthInvalid", []string{"spec.incomingAuth", "spec.outgoingAuth", "MCPExternalAuthConfig"}},
	{"BackendsDiscovered", "BackendInvalid", []string{"MCPServer", "MCPServerEntry", "MCPRemoteProxy", "MCPToolConfig", "spec.config.aggregation"}},
	{"PodTemplateSpecValid", "PodTemplateSpecInvalid", []string{"spec.podTemplateSpec"}},
	{"Valid", "Invalid", nil}, // everything else
}

// conditionOf is the condition that a problem belongs to: the last entry where nothing else fits.
func conditionOf(p gatewayconfig.Problem) string {
	kind, _, _ := strings.Cut(p.File, "/")
	for _, c := range conditions {
		for _, place := range c.places {
			if kind == place || kind == "VirtualMCPServer" && strings.HasPrefix(p.Field, place) {
				return c.name
			}
		}
	}
	return conditions[len(conditions)-1].name
}

// text is a problem without a line, which means nothing in a cluster.
func text(p gatewayconfig.Problem) string {
	p.Line = 0
	return p.String()
}

// refuse says what is wrong with a gateway's documents, there and at the objects that are meant.
func (l *look) refuse(o *render.Object, s *status, problems gatewayconfig.Problems) {
	failed := map[string][]string{}
	for _, p := range problems {
		name := conditionOf(p)
		failed[name] = append(failed[name], text(p))
		if kind, other, ok := strings.Cut(p.File, "/"); ok && kind != "VirtualMCPServer" {
			if object := l.find(kind, other); object != nil {
				l.fault(object, p)
			}
		}
	}
	message := text(problems[0])
	if n := len(problems) - 1; n > 0 {
		message += fmt.Sprintf(" (and %d more, see the conditions)", n)
	}
	reason := ""
	for _, c := range conditions {
		texts, bad := failed[c.name]
		if bad && reason == "" {
			reason = c.reason
		}
		why := "Valid"
		if bad {
			why = c.reason
		}
		s.condition(c.name, !bad, why, strings.Join(texts, "\n"))
	}
	if l.have[reference{"Deployment", o.GetName()}] != nil {
		s.phase("Degraded", "the last good documents stay in force: "+message)
	} else {
		s.phase("Failed", message)
	}
	s.condition("Ready", false, reason, message)
}

// fault says at an object what is wrong with it.
func (l *look) fault(o *render.Object, problems ...gatewayconfig.Problem) {
	s := l.status(o)
	var texts []string
	for _, p := range problems {
		p.File = ""
		texts = append(texts, text(p))
	}
	message := strings.Join(texts, "\n")
	s.phase("Failed", message)
	s.condition("Valid", false, "Invalid", message)
	s.condition("Ready", false, "Invalid", message)
}

// running says whether the pods are there that should be.
func (s *status) running(workloads []*render.Object, pods []corev1.Pod) {
	none, fewer := false, false
	for _, w := range workloads {
		if w == nil { // the cache does not know it yet
			none = true
			continue
		}
		want, _ := k8s.At(w.Object, "spec", "replicas").(int64)
		ready, _ := k8s.At(w.Object, "status", "readyReplicas").(int64)
		updated, _ := k8s.At(w.Object, "status", "updatedReplicas").(int64)
		none = none || ready == 0 && want > 0
		fewer = fewer || ready < want || updated < want
	}
	why := waiting(pods)
	switch {
	case none:
		if why == "" {
			why = "its pods start"
		}
		s.phase("Pending", why)
		s.condition("Ready", false, "PodsNotReady", why)
	case fewer:
		if why == "" {
			why = "some of its pods are not ready"
		}
		s.phase("Degraded", why)
		s.condition("Ready", true, "SomePodsNotReady", why)
	default:
		s.phase("Ready", "")
		s.condition("Ready", true, "Running", "")
	}
}

// waiting is why a pod does not run, in the words of whoever knows.
func waiting(pods []corev1.Pod) string {
	for _, p := range pods {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Message != "" {
				return fmt.Sprintf("pod %s: %s: %s", p.Name, c.Reason, c.Message)
			}
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if w := c.State.Waiting; w != nil && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
				text := fmt.Sprintf("pod %s, container %s: %s", p.Name, c.Name, w.Reason)
				if w.Message != "" {
					text += ": " + w.Message
				}
				if t := c.LastTerminationState.Terminated; t != nil && w.Reason == "CrashLoopBackOff" {
					text += fmt.Sprintf(" (it ended with status %d: kubectl logs %s -c %s --previous)", t.ExitCode, p.Name, c.Name)
				}
				return text
			}
		}
	}
	return ""
}

// discovered lists the backends of a gateway.
func (l *look) discovered(config *gatewayconfig.Gateway, s *status) {
	list, ready := []any{}, int64(0)
	known := l.backends.of(l.namespace, config.Name)
	var away []string
	for _, b := range config.Aggregator.Backends {
		entry := map[string]any{"name": b.Name, "url": b.URL, "status": "unknown"}
		if state, ok := known[b.Name]; ok {
			entry["circuitBreakerState"] = map[float64]string{0: "closed", 0.5: "half-open", 1: "open"}[state.breaker]
			if entry["status"] = "ready"; !state.up {
				entry["status"] = "unavailable"
				away = append(away, b.Name)
				if o := l.find(b.Kind, b.Name); o != nil {
					if m, ok := l.status(o).fields["message"]; ok {
						entry["message"] = m
					}
				}
			}
		}
		if entry["status"] != "unavailable" {
			ready++
		}
		list = append(list, entry)
	}
	if len(away) > 0 && s.fields["phase"] == "Ready" {
		s.phase("Degraded", "servers that cannot be listed now: "+strings.Join(away, ", "))
	}
	s.set("discoveredBackends", list)
	s.set("backendCount", ready)
}

// others are the statuses of the kinds that no pod follows from.
func (l *look) others() error {
	for _, o := range l.documents.all {
		switch o.GetKind() {
		case "VirtualMCPServer", "MCPServer":
			continue
		}
		s := l.status(o)
		if _, failed := s.fields["phase"]; failed {
			continue
		}
		_, err := typed(o)
		var problems gatewayconfig.Problems
		if errors.As(err, &problems) {
			l.fault(o, problems...)
			continue
		} else if err != nil {
			return err
		}
		s.phase("Ready", "")
		s.condition("Valid", true, "Valid", "")
		if o.GetKind() == "MCPGroup" {
			servers := []any{}
			for _, kind := range backendKinds {
				for _, member := range l.of(kind) {
					ref := k8s.At(member.Object, "spec", "groupRef")
					if ref == o.GetName() || k8s.At(ref, "name") == o.GetName() {
						servers = append(servers, member.GetName())
					}
				}
			}
			s.set("servers", servers)
			s.set("serverCount", int64(len(servers)))
		}
	}
	return nil
}

// writeStatuses writes those that differ from what is there, with events for what a person should see.
func (l *look) writeStatuses(ctx context.Context) error {
	var errs []error
	for _, at := range slices.Sorted(maps.Keys(l.statuses)) {
		s := l.statuses[at]
		before, _ := s.object.Object["status"].(map[string]any)
		list := []any{}
		for _, c := range s.conditions {
			old := k8s.List(before, "conditions")
			i := slices.IndexFunc(old, func(o any) bool { return k8s.At(o, "type") == c["type"] })
			if i >= 0 && k8s.At(old[i], "status") == c["status"] {
				c["lastTransitionTime"] = k8s.At(old[i], "lastTransitionTime")
			} else {
				c["lastTransitionTime"] = l.Now().UTC().Format(time.RFC3339)
			}
			if c["type"] == "Ready" && (i < 0 || k8s.At(old[i], "status") != c["status"] || k8s.At(old[i], "reason") != c["reason"] || k8s.At(old[i], "message") != c["message"]) {
				l.tell(s.object, c)
			}
			list = append(list, c)
		}
		s.fields["conditions"] = list
		if len(s.notes) > 0 {
			notes := []any{}
			for _, n := range s.notes {
				notes = append(notes, n)
			}
			s.fields["notes"] = notes
		}
		if reflect.DeepEqual(before, s.fields) {
			continue
		}
		change := maps.Clone(s.fields)
		for field := range before {
			if _, ok := change[field]; !ok {
				change[field] = nil // of a merge patch: gone
			}
		}
		text, err := json.Marshal(map[string]any{"status": change})
		if err != nil {
			return err
		}
		// By the older version: what is stored may name what it refers to as only that one may.
		o := &unstructured.Unstructured{}
		o.SetAPIVersion(v1beta1.Group + "/v1alpha1")
		o.SetKind(s.object.GetKind())
		o.SetNamespace(s.object.GetNamespace())
		o.SetName(s.object.GetName())
		if err := l.Client.Status().Patch(ctx, o, client.RawPatch(types.MergePatchType, text), fieldManager); client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("status of %s: %w", at, err))
		}
	}
	return errors.Join(errs...)
}

// tell makes an event of what became of an object.
func (l *look) tell(o *render.Object, ready map[string]any) {
	kind, note := corev1.EventTypeNormal, fmt.Sprint(ready["message"])
	if ready["status"] != "True" && ready["reason"] != "PodsNotReady" && ready["reason"] != "Asking" {
		kind = corev1.EventTypeWarning
	}
	if note == "" {
		note = fmt.Sprint(ready["reason"])
	}
	if len(note) > 1000 { // of an event's note
		note = note[:1000]
	}
	l.Events.Eventf(o, nil, kind, fmt.Sprint(ready["reason"]), "Reconcile", "%s", note)
}
