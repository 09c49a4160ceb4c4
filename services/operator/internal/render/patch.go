package render

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"vmcp/deploy/k8s"
)

// parts are the containers of a gateway's pods.
var parts = []string{"envoy", "authz", "drain", "aggregator", "authserver"}

// patch merges a podTemplateSpec into the pods of a workload, as kubectl patch would. In it the container that is called
// name stands for main; containers of other pods of the gateway are left out, and unknown ones are added beside Envoy.
func patch(o *Object, template map[string]any, name, main string) error {
	if len(template) == 0 {
		return nil
	}
	text, err := json.Marshal(template)
	if err != nil {
		return err
	}
	var fitted map[string]any
	if err := json.Unmarshal(text, &fitted); err != nil {
		return err
	}
	for _, list := range []string{"containers", "initContainers"} {
		containers := k8s.List(fitted, "spec", list)
		if containers == nil {
			continue
		}
		kept := []any{}
		for _, c := range containers {
			c, ok := c.(map[string]any)
			if !ok {
				return fmt.Errorf("spec.podTemplateSpec.spec.%s: want objects", list)
			}
			if c["name"] == name {
				c["name"] = main
			}
			own := k8s.At(o.Object, "spec", "template", "spec", list, fmt.Sprint(c["name"])) != nil
			if own || main == "envoy" && !slices.Contains(parts, fmt.Sprint(c["name"])) || name == "mcp" {
				kept = append(kept, c)
			}
		}
		set(fitted, kept, "spec", list)
	}
	if text, err = json.Marshal(fitted); err != nil {
		return err
	}
	before, err := json.Marshal(k8s.At(o.Object, "spec", "template"))
	if err != nil {
		return err
	}
	after, err := strategicpatch.StrategicMergePatch(before, text, corev1.PodTemplateSpec{})
	if err != nil {
		return fmt.Errorf("spec.podTemplateSpec: %w", err)
	}
	var checked corev1.PodTemplateSpec
	if err := json.Unmarshal(after, &checked); err != nil {
		return fmt.Errorf("spec.podTemplateSpec: %w", err)
	}
	var merged map[string]any
	if err := utiljson.Unmarshal(after, &merged); err != nil { // numbers as unstructured objects have them
		return err
	}
	set(o.Object, merged, "spec", "template")
	return nil
}
