package control

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mtls"
	"vmcp/services/operator/internal/credentials"
	"vmcp/services/operator/internal/render"
)

// authorityName is the Secret with the authority of a namespace. The certificates of all gateways and servers in it are
// its: a namespace is who may read the Secrets in it.
const authorityName = "vmcp-authority"

// keepSecret makes a Secret of ours what make says, given what is there.
func (r *Reconciler) keepSecret(ctx context.Context, a *asked, name, kind string, labels map[string]string, make func(have credentials.Data) (credentials.Data, error), owners ...*render.Object) (credentials.Data, error) {
	live, err := a.secret(ctx, name)
	if err != nil {
		return nil, err
	}
	var have credentials.Data
	if live != nil {
		if live.Labels[render.ManagedBy] != render.Manager {
			return nil, foreign{"Secret", name, ""}
		}
		have = live.Data
	}
	want, err := make(have)
	if err != nil {
		return nil, fmt.Errorf("making Secret %s: %w", name, err)
	}
	o := newData("Secret", a.namespace, name, labels, owners...)
	o.Object["type"] = kind
	data := map[string]any{}
	for key, value := range want {
		data[key] = base64.StdEncoding.EncodeToString(value)
	}
	o.Object["data"] = data
	return want, r.data(ctx, a, o, func() bool {
		return live != nil && maps.EqualFunc(have, want, slices.Equal) && len(live.OwnerReferences) == len(owners) &&
			!slices.ContainsFunc(owners, func(owner *render.Object) bool {
				return live.OwnerReferences[slices.Index(owners, owner)].UID != owner.GetUID()
			})
	})
}

// authority keeps the authority of the namespace, for as long as one of the owners is there.
func (r *Reconciler) authority(ctx context.Context, a *asked, owners []*render.Object) (credentials.Data, error) {
	return r.keepSecret(ctx, a, authorityName, "Opaque", nil, func(have credentials.Data) (credentials.Data, error) {
		return credentials.Authority(have, r.Now())
	}, owners...)
}

// certificate keeps the certificate of a role.
func (r *Reconciler) certificate(ctx context.Context, a *asked, name string, labels map[string]string, authority credentials.Data, role mtls.Role, owner *render.Object) error {
	_, err := r.keepSecret(ctx, a, name, "kubernetes.io/tls", labels, func(have credentials.Data) (credentials.Data, error) {
		return credentials.Certificate(have, authority, role, r.Now())
	}, owner)
	return err
}

// gatewaySecrets keeps certificates and keys of a gateway.
func (r *Reconciler) gatewaySecrets(ctx context.Context, a *asked, gateway *render.Object, authority credentials.Data, signsIn bool) error {
	name := gateway.GetName()
	labels := map[string]string{render.GatewayLabel: name}
	for _, role := range mtls.Roles {
		if role == mtls.RoleAuthServer && !signsIn {
			continue
		}
		if err := r.certificate(ctx, a, render.TLS(name, role.Name()), labels, authority, role, gateway); err != nil {
			return err
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(credentials.Rings)) {
		if kind == "authserver" && !signsIn {
			continue
		}
		if _, err := r.keepSecret(ctx, a, render.Keys(name, kind), "Opaque", labels, func(have credentials.Data) (credentials.Data, error) {
			return credentials.Keys(have, kind, r.Now())
		}, gateway); err != nil {
			return err
		}
	}
	return nil
}

// parts are the services that read Secrets of people.
var parts = map[string]gatewayconfig.Part{"aggregator": gatewayconfig.PartAggregator, "authserver": gatewayconfig.PartAuthServer}

// secretDocuments gives each service the values that it reads, and no other, as documents. It returns them for the hash
// of what is in force.
func (r *Reconciler) secretDocuments(ctx context.Context, a *asked, gateway *render.Object, config *gatewayconfig.Gateway) (map[string]string, error) {
	all := map[string]string{}
	for _, part := range slices.Sorted(maps.Keys(parts)) {
		if part == "authserver" && config.AuthServer == nil {
			continue
		}
		var text strings.Builder
		text.WriteString("# What the documents name, for " + part + " alone.\n")
		for _, use := range config.Uses {
			if use.Kind != "Secret" {
				continue
			}
			live, err := a.secret(ctx, use.Name)
			if err != nil {
				return nil, err
			}
			data := map[string][]byte{}
			for key, of := range use.Keys {
				if of&parts[part] != 0 && live != nil {
					data[key] = live.Data[key]
				}
			}
			if len(data) == 0 {
				continue
			}
			doc, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": use.Name}, "data": data})
			if err != nil {
				return nil, err
			}
			text.WriteString("---\n" + string(doc))
		}
		all[part] = text.String()
		if _, err := r.keepSecret(ctx, a, render.Secrets(gateway.GetName(), part), "Opaque", map[string]string{render.GatewayLabel: gateway.GetName()},
			func(credentials.Data) (credentials.Data, error) {
				return credentials.Data{"secrets.yaml": []byte(text.String())}, nil
			}, gateway); err != nil {
			return nil, err
		}
	}
	return all, nil
}
