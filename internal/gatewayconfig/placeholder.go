package gatewayconfig

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The guide writes <NAME> where a user's own value goes, and {name} in one URL.
var (
	placeholder    = regexp.MustCompile(`<[A-Za-z][A-Za-z0-9 _.-]*>`)
	urlPlaceholder = regexp.MustCompile(`\{[A-Za-z][A-Za-z0-9 _.-]*\}`)
)

// advice says what to put in place of the placeholders of the guide, by their names in lower case with dashes.
var advice = map[string]string{
	"your-vmcp-endpoint": "the gateway's public host name, such as mcp.example.com",
	"your-mcp-endpoint":  "the gateway's public host name, such as mcp.example.com (the same as <your-vmcp-endpoint>)",
	"tenant-id":          "the Directory (tenant) ID, a GUID (Entra ID > App registrations > your app > Overview)",
	"your-tenant-id":     "the Directory (tenant) ID, a GUID (Entra ID > App registrations > your app > Overview)",
	"client-id":          "the Application (client) ID, a GUID (Entra ID > App registrations > your app > Overview)",
	"your-client-id":     "the Application (client) ID, a GUID (Entra ID > App registrations > your app > Overview)",
	"your-client-secret": "the client secret's Value (Entra ID > App registrations > your app > Certificates & secrets)",
	"your-namespace":     "the Kubernetes namespace of the gateway",
}

func hasPlaceholder(s string) bool { return placeholder.MatchString(s) }

// placeholderAdvice says what to put in place of the placeholder p, or of the first one in p.
func placeholderAdvice(p string) string {
	if m := placeholder.FindString(p); m != "" {
		p = m
	}
	name := strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(p[1 : len(p)-1]))
	if a := advice[name]; a != "" {
		return fmt.Sprintf("placeholder %s is still there: put in %s", p, a)
	}
	return fmt.Sprintf("placeholder %s is still there: put in your own value", p)
}

// prose are used fields whose text is for people and models, where <query> may be meant.
var prose = []string{".description", ".title"}

// findPlaceholders reports what is left of the guide in the used fields of d, each placeholder once for a field.
func findPlaceholders(d *document) {
	for _, f := range d.fields {
		n := f.node
		if n != nil && n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n == nil || n.Kind != yaml.ScalarNode || f.failed || !matches(used[d.kind], f.pattern) ||
			d.kind == "Secret" || d.kind == "ConfigMap" || // checked where they are used
			slices.ContainsFunc(prose, func(p string) bool { return strings.HasSuffix(f.pattern, p) }) {
			continue
		}
		seen := map[string]bool{}
		for _, m := range placeholder.FindAllStringIndex(n.Value, -1) {
			p := n.Value[m[0]:m[1]]
			if seen[p] {
				continue
			}
			seen[p] = true
			line := f.line
			if isBlock(n) {
				line = textLine(n) + strings.Count(n.Value[:m[0]], "\n")
			}
			f.failed = true
			d.problems = append(d.problems, Problem{d.file, line, f.path, placeholderAdvice(p)})
		}
	}
}

func isBlock(n *yaml.Node) bool { return n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 }

// textLine is the line on which a scalar's text begins: that of a block is below its indicator.
func textLine(n *yaml.Node) int {
	if isBlock(n) {
		return n.Line + 1
	}
	return n.Line
}
