package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"vmcp/api/v1beta1"
	"vmcp/deploy/k8s"
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mtls"
	"vmcp/internal/stdio"
	"vmcp/services/operator/internal/credentials"
	"vmcp/services/operator/internal/images"
	"vmcp/services/operator/internal/render"
)

// A podServer is an MCPServer that runs in pods of ours.
type podServer struct {
	object *render.Object
	spec   *v1beta1.MCPServerSpec
}

// servers are the MCPServers that belong to a group and do not say that they run elsewhere.
func (l *look) servers() ([]podServer, error) {
	var list []podServer
	for _, o := range l.of("MCPServer") {
		decoded, err := typed(o)
		var problems gatewayconfig.Problems
		if errors.As(err, &problems) {
			l.fault(o, problems...)
			continue
		} else if err != nil {
			return nil, err
		}
		spec := &decoded.(*v1beta1.MCPServer).Spec
		s := l.status(o)
		switch _, elsewhere := o.GetAnnotations()[gatewayconfig.AddressAnnotation]; {
		case elsewhere:
			s.phase("Ready", "it runs where its annotation "+gatewayconfig.AddressAnnotation+" says")
			s.condition("Ready", true, "Elsewhere", "the operator does not run it")
		case spec.GroupRef == nil || l.find("MCPGroup", spec.GroupRef.Name) == nil:
			text := "it is in no group, so no gateway leads to it: set spec.groupRef.name"
			if spec.GroupRef != nil {
				text = fmt.Sprintf("spec.groupRef.name: there is no MCPGroup %q", spec.GroupRef.Name)
			}
			s.phase("Pending", text)
			s.condition("Ready", false, "GroupRefNotFound", text)
		default:
			list = append(list, podServer{o, spec})
		}
	}
	return list, nil
}

// server makes the pods of one.
func (l *look) server(ctx context.Context, p podServer, authority credentials.Data) error {
	name, s := p.object.GetName(), l.status(p.object)
	labels := map[string]string{render.ServerLabel: name}
	fail := func(condition, reason, text string) {
		s.phase("Failed", text)
		s.condition(condition, false, reason, text)
		s.condition("Ready", false, reason, text)
	}
	out := &render.Server{Name: name, Namespace: l.namespace, Spec: p.spec, Images: l.Images, Image: p.spec.Image}
	if p.spec.Image == "" {
		fail("Valid", "Invalid", "spec.image: required")
		return nil
	}
	if reason, text := l.image(ctx, p, out, s); text != "" {
		if fail("ImageResolved", reason, text); reason == "Asking" {
			s.phase("Pending", text)
		}
		return nil
	}
	outbound, text, err := l.outbound(ctx, p.spec.PermissionProfile)
	if err != nil {
		return err
	}
	if text != "" {
		fail("PermissionProfileValid", "PermissionProfileInvalid", text)
		return nil
	}
	out.Outbound = outbound
	if out.Restart, text, err = l.serverSecrets(ctx, p.spec); err != nil {
		return err
	} else if text != "" {
		fail("SecretsFound", "SecretNotFound", text)
		return nil
	}
	if render.Stdio(p.spec) {
		if err := l.certificate(ctx, l.asked, render.ServerTLS(name), labels, authority, mtls.RoleBridge(name), p.object); err != nil {
			return err
		}
	}
	objects, err := out.Objects()
	if err != nil {
		fail("PodTemplateSpecValid", "PodTemplateSpecInvalid", err.Error())
		return nil
	}
	if done, err := l.make(ctx, objects, p.object, s, render.ServerLabel, name); !done {
		return err
	}
	s.set("url", render.Address(name, l.namespace, p.spec))
	pods, err := l.pods(ctx, render.ServerLabel, name)
	if err != nil {
		return err
	}
	s.running([]*render.Object{l.have[reference{"Deployment", name}]}, pods)
	return nil
}

// make applies objects and removes what is left of earlier ones; done is false where one of them is somebody else's, which
// the status says.
func (l *look) make(ctx context.Context, objects []*render.Object, owner *render.Object, s *status, label, name string) (done bool, err error) {
	wanted := map[reference]bool{}
	for _, o := range objects {
		own(o, owner)
		ref := reference{o.GetKind(), o.GetName()}
		wanted[ref] = true
		if o.GetKind() == "ConfigMap" {
			err = l.configMapIs(ctx, o)
		} else {
			err = l.apply(ctx, o, l.have[ref])
		}
		var other foreign
		if errors.As(err, &other) {
			s.phase("Failed", other.Error())
			s.condition("Ready", false, "Conflict", other.Error())
			return false, nil
		} else if err != nil {
			s.phase("Pending", err.Error())
			s.condition("Ready", false, "ApplyFailed", err.Error())
			return false, err
		}
	}
	return true, l.remove(ctx, label, name, wanted)
}

func (l *look) configMapIs(ctx context.Context, o *render.Object) error {
	live, err := l.configMap(ctx, o.GetName())
	if err != nil {
		return err
	}
	want := o.Object["data"].(map[string]any)
	return l.data(ctx, l.asked, o, func() bool {
		return live != nil && live.Labels[render.ManagedBy] == render.Manager &&
			maps.EqualFunc(live.Data, want, func(have string, text any) bool { return any(have) == text })
	})
}

// image finds what a stdio server's image starts: once for each spec, so that a tag that moves does not move the pods. The
// status keeps it.
func (l *look) image(ctx context.Context, p podServer, out *render.Server, s *status) (reason, text string) {
	if !render.Stdio(p.spec) {
		return "", ""
	}
	if line, given := p.object.GetAnnotations()[gatewayconfig.CommandAnnotation]; given {
		words, err := stdio.Words(line)
		if err != nil || len(words) == 0 {
			return "CommandInvalid", "metadata.annotations[" + gatewayconfig.CommandAnnotation + "]: want a command line: a program and its arguments"
		}
		out.Command = words
		s.condition("ImageResolved", true, "Command", "the annotation "+gatewayconfig.CommandAnnotation+" says what it starts")
		return "", ""
	}
	kept := k8s.At(p.object.Object, "status", "image")
	if k8s.At(kept, "generation") == p.object.GetGeneration() {
		out.Image = fmt.Sprint(k8s.At(kept, "reference"))
		for _, w := range k8s.List(kept, "command") {
			out.Command = append(out.Command, fmt.Sprint(w))
		}
		s.set("image", kept)
	} else {
		image, err := l.Registry.Soon(ctx, p.spec.Image, l.pullSecrets(ctx, p.spec), func() { l.references.tell(l.namespace) })
		if errors.Is(err, images.ErrAsking) {
			return "Asking", err.Error()
		} else if err != nil {
			l.in(errorWait)
			return "ImageNotResolved", fmt.Sprintf("what the image starts is not known: %v; the operator asks again, or name the command in the annotation %s", err, gatewayconfig.CommandAnnotation)
		}
		out.Image, out.Command = image.Reference, image.Start(p.spec.Args)
		command := []any{}
		for _, w := range out.Command {
			command = append(command, w)
		}
		s.set("image", map[string]any{"reference": out.Image, "command": command, "generation": p.object.GetGeneration()})
	}
	s.condition("ImageResolved", true, "Resolved", out.Image+" starts "+strings.Join(out.Command, " "))
	return "", ""
}

// pullSecrets are those that its pods use, of the spec and of their service account.
func (l *look) pullSecrets(ctx context.Context, spec *v1beta1.MCPServerSpec) (all [][]byte) {
	var names []string
	if over := spec.ResourceOverrides; over != nil && over.ProxyDeployment != nil {
		for _, p := range over.ProxyDeployment.ImagePullSecrets {
			names = append(names, p.Name)
		}
	}
	for _, p := range k8s.List(spec.PodTemplateSpec, "spec", "imagePullSecrets") {
		names = append(names, fmt.Sprint(k8s.At(p, "name")))
	}
	account := &corev1.ServiceAccount{}
	if l.Live.Get(ctx, client.ObjectKey{Namespace: l.namespace, Name: cmp.Or(spec.ServiceAccount, "default")}, account) == nil {
		for _, p := range account.ImagePullSecrets {
			names = append(names, p.Name)
		}
	}
	for _, name := range names {
		if secret, err := l.secret(ctx, name); err == nil && secret != nil {
			all = append(all, secret.Data[corev1.DockerConfigJsonKey])
		}
	}
	return all
}

// serverSecrets looks whether the Secrets of the environment are there, and gives a text that changes with them: a process
// keeps the environment that it began with.
func (l *look) serverSecrets(ctx context.Context, spec *v1beta1.MCPServerSpec) (restart, wrong string, err error) {
	var seen []string
	for i, ref := range spec.Secrets {
		secret, err := l.secret(ctx, ref.Name)
		if err != nil {
			return "", "", err
		}
		if secret == nil {
			return "", fmt.Sprintf("spec.secrets[%d]: no Secret %s in the namespace: kubectl create secret generic %s --from-file=%s=/dev/stdin", i, ref.Name, ref.Name, ref.Key), nil
		}
		value, ok := secret.Data[ref.Key]
		if !ok {
			return "", fmt.Sprintf("spec.secrets[%d]: Secret %s has no key %s, but %s", i, ref.Name, ref.Key, strings.Join(slices.Sorted(maps.Keys(secret.Data)), ", ")), nil
		}
		seen = append(seen, l.digest(string(value)))
	}
	return strings.Join(seen, "-"), "", nil
}

// outbound reads a permission profile: what of it a NetworkPolicy can say.
func (l *look) outbound(ctx context.Context, ref *v1beta1.PermissionProfileRef) (out render.Outbound, wrong string, err error) {
	if ref == nil {
		return out, "", nil
	}
	switch ref.Type {
	case "", "builtin":
		switch ref.Name {
		case "none":
			out.Nothing = true
		case "network":
		default:
			wrong = fmt.Sprintf("spec.permissionProfile.name: there is no profile %q: want none or network", ref.Name)
		}
		return out, wrong, nil
	case "configmap":
	default:
		return out, "spec.permissionProfile.type: want builtin or configmap", nil
	}
	live, err := l.configMap(ctx, ref.Name)
	if err != nil {
		return out, "", err
	}
	if live == nil {
		return out, fmt.Sprintf("spec.permissionProfile.name: no ConfigMap %s in the namespace", ref.Name), nil
	}
	var profile struct {
		Network struct {
			Outbound struct {
				All   bool     `json:"insecure_allow_all"`
				Hosts []string `json:"allow_host"`
				Ports []int64  `json:"allow_port"`
			} `json:"outbound"`
		} `json:"network"`
	}
	if err := json.Unmarshal([]byte(live.Data[ref.Key]), &profile); err != nil {
		return out, fmt.Sprintf("spec.permissionProfile: key %q of ConfigMap %s is no permission profile in JSON", ref.Key, ref.Name), nil
	}
	if o := profile.Network.Outbound; !o.All {
		out.Nothing = len(o.Hosts)+len(o.Ports) == 0
		out.Ports = o.Ports
	}
	return out, "", nil
}
