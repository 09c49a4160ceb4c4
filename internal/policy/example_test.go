package policy

import (
	"fmt"

	"vmcp/internal/gatewayconfig"
)

func Example() {
	s, err := Load("tools", []string{"kubernetes"}, gatewayconfig.Policies{Texts: []gatewayconfig.PolicyText{{
		File: "gateway.yaml", Line: 80,
		Text: `permit(principal in THVGroup::"developers", action, resource)
			unless { resource == Tool::"delete_namespace" };`,
	}}})
	if err != nil {
		panic(err)
	}
	ann, err := s.NewCaller([]byte(`{"sub": "ann", "groups": ["developers"]}`))
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"list_pods", "delete_namespace"} {
		item := s.Prepare(Item{Kind: Tool, Backend: "kubernetes", Original: name, Advertised: "kubernetes_" + name})
		d := s.Decide(ann, item, nil, Context{})
		fmt.Println(name, d.Reason, d.Policies)
	}
	// Output:
	// list_pods permitted [gateway.yaml#1]
	// delete_namespace no_permit []
}
