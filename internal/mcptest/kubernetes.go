package mcptest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// cluster is the state behind Kubernetes: two namespaces, the same at each start.
type cluster struct {
	mu          sync.Mutex
	namespaces  []string
	pods        []pod
	deployments map[string]int // replicas by namespace/name
}

type pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Phase     string `json:"phase"`
	Restarts  int    `json:"restarts"`
}

type inNamespace struct {
	Namespace string `json:"namespace" jsonschema:"namespace to look in"`
}

type named struct {
	Namespace string `json:"namespace" jsonschema:"namespace of the object"`
	Name      string `json:"name" jsonschema:"name of the object"`
}

// Kubernetes is a small, deterministic stand-in for a Kubernetes MCP server: the namespaces shop and staging, ten
// tools, one prompt and one resource.
func Kubernetes(versions []string) *mcp.Server {
	c := &cluster{
		namespaces: []string{"shop", "staging"},
		pods: []pod{
			{"shop", "web-7d9c-1", "Running", 0},
			{"shop", "web-7d9c-2", "Running", 2},
			{"shop", "db-0", "Running", 0},
			{"staging", "web-5f44-1", "CrashLoopBackOff", 17},
		},
		deployments: map[string]int{"shop/web": 2, "staging/web": 1},
	}
	s := mcp.NewServer(&mcp.Implementation{Name: "kubernetes-mcp", Title: "Kubernetes (demo)", Version: "1.0.0"},
		&mcp.ServerOptions{Instructions: "A cluster with the namespaces shop and staging.", SupportedProtocolVersions: versions})

	add(s, "list_namespaces", "List the namespaces of the cluster.", reads, func(struct{}) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.Clone(c.namespaces), nil
	})
	add(s, "get_pods", "List the pods of a namespace.", reads, func(in inNamespace) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		out := []pod{}
		for _, p := range c.pods {
			if p.Namespace == in.Namespace {
				out = append(out, p)
			}
		}
		return out, nil
	})
	add(s, "get_pod_logs", "Get the last log lines of a pod.", reads, func(in struct {
		named
		Lines int `json:"lines,omitempty" jsonschema:"number of lines, 10 by default"`
	}) (any, error) {
		return fmt.Sprintf("%s: started\n%s: listening on :8080\n", in.Name, in.Name), nil
	})
	add(s, "describe_deployment", "Describe a deployment.", reads, func(in named) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		replicas, ok := c.deployments[in.Namespace+"/"+in.Name]
		if !ok {
			return nil, fmt.Errorf("no deployment %s in namespace %s", in.Name, in.Namespace)
		}
		return map[string]any{"namespace": in.Namespace, "name": in.Name, "replicas": replicas}, nil
	})
	add(s, "get_events", "List recent events of a namespace.", reads, func(in inNamespace) (any, error) {
		return []string{"Normal Scheduled " + in.Namespace + "/web-7d9c-1"}, nil
	})
	add(s, "scale_deployment", "Set the number of replicas of a deployment.", writes, func(in struct {
		named
		Replicas int `json:"replicas" jsonschema:"wanted number of replicas"`
	}) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		key := in.Namespace + "/" + in.Name
		if _, ok := c.deployments[key]; !ok {
			return nil, fmt.Errorf("no deployment %s in namespace %s", in.Name, in.Namespace)
		}
		c.deployments[key] = in.Replicas
		return fmt.Sprintf("scaled %s to %d", key, in.Replicas), nil
	})
	add(s, "apply_manifest", "Apply a manifest to a namespace.", destroys, func(in struct {
		inNamespace
		Manifest string `json:"manifest" jsonschema:"YAML of the objects"`
	}) (any, error) {
		return fmt.Sprintf("applied %d bytes to %s", len(in.Manifest), in.Namespace), nil
	})
	add(s, "restart_deployment", "Restart the pods of a deployment one by one.", writes, func(in named) (any, error) {
		return fmt.Sprintf("restarting %s/%s", in.Namespace, in.Name), nil
	})
	add(s, "delete_pod", "Delete a pod.", destroys, func(in named) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		before := len(c.pods)
		c.pods = slices.DeleteFunc(c.pods, func(p pod) bool { return p.Namespace == in.Namespace && p.Name == in.Name })
		if len(c.pods) == before {
			return nil, fmt.Errorf("no pod %s in namespace %s", in.Name, in.Namespace)
		}
		return "deleted pod " + in.Name, nil
	})
	add(s, "delete_namespace", "Delete a namespace with everything in it.", destroys, func(in inNamespace) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Contains(c.namespaces, in.Namespace) {
			return nil, fmt.Errorf("no namespace %s", in.Namespace)
		}
		c.namespaces = slices.DeleteFunc(c.namespaces, func(n string) bool { return n == in.Namespace })
		c.pods = slices.DeleteFunc(c.pods, func(p pod) bool { return p.Namespace == in.Namespace })
		return "deleted namespace " + in.Namespace, nil
	})

	s.AddPrompt(&mcp.Prompt{Name: "diagnose_pod", Description: "Find out why a pod does not run.",
		Arguments: []*mcp.PromptArgument{
			{Name: "namespace", Description: "namespace of the pod", Required: true},
			{Name: "pod", Description: "name of the pod", Required: true},
		}},
		func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			args := req.Params.Arguments
			return promptResult("Find out why pod " + args["pod"] + " in namespace " + args["namespace"] + " does not run."), nil
		})
	s.AddResource(&mcp.Resource{URI: "k8s://cluster/version", Name: "version", MIMEType: "application/json"},
		func(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return textResource(req.Params.URI, "application/json", `{"gitVersion":"v1.34.1"}`), nil
		})
	return s
}
