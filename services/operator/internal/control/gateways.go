package control

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/api/v1beta1"
	"vmcp/deploy/k8s"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/policy"
	"vmcp/services/operator/internal/credentials"
	"vmcp/services/operator/internal/render"
)

// errorWait is when the operator looks again at what it could not find out.
const errorWait = 15 * time.Second

// gateway makes the pods of one VirtualMCPServer. Where its documents are wrong, what was made stays as it is.
func (l *look) gateway(ctx context.Context, o *render.Object, addresses map[string]string, authority credentials.Data) error {
	s := l.status(o)
	name := o.GetName()
	s.set("url", render.URL(name, l.namespace))
	config, docs, faults, err := l.resolve(ctx, l.asked, name, addresses)
	var problems gatewayconfig.Problems
	switch {
	case errors.As(err, &problems):
		l.refuse(o, s, problems)
		return nil
	case err != nil:
		return err
	}
	if config.Authz.Anonymous && o.GetAnnotations()[gatewayconfig.AnonymousAnnotation] != "true" {
		l.refuse(o, s, gatewayconfig.Problems{{File: title("VirtualMCPServer", name), Field: "spec.incomingAuth.type",
			Text: "anonymous lets whoever reaches the Service call what the policies permit: if that is meant, kubectl annotate virtualmcpserver " + name + " " + gatewayconfig.AnonymousAnnotation + "=true"}})
		return nil
	}
	if _, err := policy.Load(config.Name, config.Authz.Backends, config.Authz.Policies); err != nil {
		l.refuse(o, s, gatewayconfig.Problems{{File: title("VirtualMCPServer", name), Field: "spec.incomingAuth.authzConfig", Text: err.Error()}})
		return nil
	}
	decoded, err := typed(o)
	if err != nil {
		return err // it was read before
	}
	spec := &decoded.(*v1beta1.VirtualMCPServer).Spec
	out := &render.Gateway{Namespace: l.namespace, Images: l.Images, Config: config, Spec: spec,
		TLSSecret: o.GetAnnotations()[gatewayconfig.TLSSecretAnnotation], Storage: o.GetAnnotations()[gatewayconfig.StorageAnnotation],
		Class: o.GetAnnotations()[gatewayconfig.StorageClassAnnotation], Replicas: map[string]int64{}}
	for _, b := range config.Aggregator.Backends {
		out.Servers = out.Servers || addresses[b.Name] != "" && b.Kind == "MCPServer"
	}
	for _, d := range render.Deployments(name) {
		out.Replicas[d] = l.replicas(d, spec.Replicas)
	}
	objects, err := out.Objects()
	if err != nil {
		l.refuse(o, s, gatewayconfig.Problems{{File: title("VirtualMCPServer", name), Field: "spec.podTemplateSpec", Text: err.Error()}})
		return nil
	}
	for _, c := range conditions {
		s.condition(c.name, true, "Valid", "")
	}
	if err := l.gatewaySecrets(ctx, l.asked, o, authority, config.AuthServer != nil); err != nil {
		return l.unmade(s, err)
	}
	values, err := l.secretDocuments(ctx, l.asked, o, config)
	if err != nil {
		return l.unmade(s, err)
	}
	data, err := files(config, docs)
	if err != nil {
		l.refuse(o, s, gatewayconfig.Problems{{File: title("VirtualMCPServer", name), Text: err.Error()}})
		return nil
	}
	documents := newData("ConfigMap", l.namespace, render.Documents(name), map[string]string{render.GatewayLabel: name}, o)
	documents.Object["data"] = data
	if err := l.configMapIs(ctx, documents); err != nil {
		return l.unmade(s, err)
	}
	if done, err := l.make(ctx, objects, o, s, render.GatewayLabel, name); !done || err != nil {
		return err
	}
	pods, err := l.pods(ctx, render.GatewayLabel, name)
	if err != nil {
		return err
	}
	inForce := l.digest(fmt.Sprint(data, values))
	for i := range pods {
		if err := l.mark(ctx, &pods[i], inForce); err != nil {
			return err
		}
	}
	workloads := []*render.Object{}
	for _, d := range render.Deployments(name) {
		workloads = append(workloads, l.have[reference{"Deployment", d}])
	}
	if config.AuthServer != nil {
		workloads = append(workloads, l.have[reference{"StatefulSet", render.AuthServerSet(name)}])
	}
	s.running(workloads, pods)
	l.discovered(config, s)
	for _, p := range faults {
		s.note("left out: " + text(p))
		if kind, other, _ := strings.Cut(p.File, "/"); l.find(kind, other) != nil {
			l.fault(l.find(kind, other), p)
		}
	}
	for _, n := range config.Notes {
		s.note(n.String())
	}
	return nil
}

// unmade says in the status why something could not be made, and passes on what may go better the next time.
func (l *look) unmade(s *status, err error) error {
	reason := "ApplyFailed"
	var other foreign
	if errors.As(err, &other) {
		reason = "Conflict"
	}
	s.phase("Failed", err.Error())
	s.condition("Ready", false, reason, err.Error())
	if reason == "Conflict" {
		l.in(errorWait)
		return nil
	}
	return err
}

// replicas is how many pods: what the spec says, else two at first, and then what an autoscaler or a person made of it.
func (l *look) replicas(deployment string, want *int32) int64 {
	if want != nil {
		return int64(*want)
	}
	if live := l.have[reference{"Deployment", deployment}]; live != nil {
		if n, ok := k8s.At(live.Object, "spec", "replicas").(int64); ok {
			return n
		}
	}
	return 2
}

// Annotations by which a pod is told that its files changed: a change of a pod makes the kubelet write them at once. Told
// a second time soon after, it has them even if its own news of the ConfigMap came late.
const (
	toldAnnotation  = "vmcp/told"
	againAnnotation = "vmcp/told-again"
	toldAgain       = 2 * time.Second
)

func (l *look) mark(ctx context.Context, pod client.Object, inForce string) error {
	annotations := pod.GetAnnotations()
	since, isOf := strings.CutPrefix(annotations[toldAnnotation], inForce+"@")
	at, _ := strconv.ParseInt(since, 10, 64)
	now := l.Now()
	set := map[string]any{}
	switch passed := now.Sub(time.UnixMilli(at)); {
	case !isOf:
		set[toldAnnotation] = inForce + "@" + strconv.FormatInt(now.UnixMilli(), 10)
		l.in(toldAgain)
	case annotations[againAnnotation] == inForce:
		return nil
	case passed < toldAgain:
		l.in(toldAgain - passed)
		return nil
	default:
		set[againAnnotation] = inForce
	}
	change, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": set}})
	if err != nil {
		return err
	}
	return client.IgnoreNotFound(l.Client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, change)))
}

// digest tells one text from another, and is of no use to somebody who guesses what a secret in it is.
func (l *look) digest(text string) string {
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil)[:8])
}
