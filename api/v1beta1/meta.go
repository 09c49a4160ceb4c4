// Package v1beta1 is the user's configuration format: the kinds of toolhive.stacklok.dev/v1beta1 that a VirtualMCPServer
// is made of, as Go types.
//
// It owns the names and shapes of fields and says what each means and what an absent one stands for. It leaves reading,
// defaulting, checking and resolving to internal/gatewayconfig. Field names and defaults follow the published resource
// definitions, so that the same YAML works here and there; it needs nothing of Kubernetes.
//
// A field is a pointer where "absent" and "zero" differ, or where the block may be absent altogether.
package v1beta1

import (
	"fmt"
	"time"
)

// Group is the API group of all kinds in this package.
const Group = "toolhive.stacklok.dev"

// Versions are the API versions that are read, all with the shapes of this package.
var Versions = []string{"v1beta1", "v1alpha1"}

// TypeMeta says what a document is.
type TypeMeta struct {
	APIVersion string `json:"apiVersion"` // toolhive.stacklok.dev/v1beta1
	Kind       string `json:"kind"`
}

// ObjectMeta identifies a document. The fields below Annotations are written by Kubernetes; they are accepted so that
// what `kubectl get -o yaml` prints can be read back, and mean nothing here.
type ObjectMeta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"` // empty: the namespace of whatever refers to it
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	GenerateName               string `json:"generateName,omitempty"`
	UID                        string `json:"uid,omitempty"`
	ResourceVersion            string `json:"resourceVersion,omitempty"`
	Generation                 int64  `json:"generation,omitempty"`
	CreationTimestamp          string `json:"creationTimestamp,omitempty"`
	DeletionTimestamp          string `json:"deletionTimestamp,omitempty"`
	DeletionGracePeriodSeconds int64  `json:"deletionGracePeriodSeconds,omitempty"`
	SelfLink                   string `json:"selfLink,omitempty"`
	Finalizers                 []any  `json:"finalizers,omitempty"`
	OwnerReferences            []any  `json:"ownerReferences,omitempty"`
	ManagedFields              []any  `json:"managedFields,omitempty"`
}

// Duration is a length of time written as Go does: "30s", "1m30s", "500ms".
type Duration time.Duration

// MarshalText gives the form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) {
	return []byte(time.Duration(d).String()), nil
}

// UnmarshalText reads a number with a unit.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("want a number with a unit, such as 30s or 1m30s")
	}
	*d = Duration(v)
	return nil
}

// MCPGroup names a set of backends. Backends join it by their groupRef.
type MCPGroup struct {
	TypeMeta
	Metadata ObjectMeta   `json:"metadata"`
	Spec     MCPGroupSpec `json:"spec"`
	Status   any          `json:"status,omitempty"` // written by an operator, not read
}

// MCPGroupSpec has text for people only.
type MCPGroupSpec struct {
	Description string `json:"description,omitempty"`
}
