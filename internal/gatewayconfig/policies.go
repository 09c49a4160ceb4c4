package gatewayconfig

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"vmcp/api/v1beta1"
)

// cedarV1 is the kind under which the JSON of a policy ConfigMap is decoded.
const cedarV1 = "cedarv1"

var entityType = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// policies resolves authzConfig. Without any policy nothing is permitted, which is worth a note.
func (r *resolver) policies(in *v1beta1.IncomingAuthConfig) {
	const at = "spec.incomingAuth.authzConfig"
	p := &r.gateway.Authz.Policies
	*p = Policies{EntitiesJSON: "[]", GroupEntityType: "THVGroup"}
	cfg := in.AuthzConfig
	switch ref := in.AuthzConfigRef; {
	case ref != nil && cfg != nil:
		r.server.bad(at+"Ref", "authzConfig or authzConfigRef, not both: nobody could say which of them decides")
		return
	case ref != nil:
		if d := r.refer(r.server, at+"Ref.name", "MCPAuthzConfig", ref.Name); d != nil {
			r.sharedPolicies(d)
		}
		return
	case cfg == nil:
		r.note(r.server, "spec.incomingAuth", "no authzConfig: without a policy every call is denied")
		return
	}
	switch oneOf(r.server, at+".type", cfg.Type, "configMap", "configMap", "inline") {
	case "inline":
		if cfg.ConfigMap != nil {
			r.server.bad(at+".configMap", "not allowed with type inline")
		}
		if cfg.Inline == nil {
			r.server.bad(at+".inline", "required with type inline")
			return
		}
		p.Texts = texts(r.server, at+".inline.policies", cfg.Inline.Policies)
		r.entities(r.server, at+".inline.entitiesJson", cfg.Inline.EntitiesJSON)
	case "configMap":
		if cfg.Inline != nil {
			r.server.bad(at+".inline", "not allowed with type configMap (the default); add type: inline")
			return
		}
		if cfg.ConfigMap == nil {
			r.server.bad(at+".configMap", "required with type configMap, the default")
			return
		}
		r.policyMap(at+".configMap", cfg.ConfigMap)
	}
	r.claims(r.server, at+".groupClaimName", cfg.GroupClaimName, at+".roleClaimName", cfg.RoleClaimName,
		at+".groupEntityType", cfg.GroupEntityType)
}

// sharedPolicies resolves an MCPAuthzConfig.
func (r *resolver) sharedPolicies(d *document) {
	spec := d.object.(*v1beta1.MCPAuthzConfig).Spec
	if spec.Type == "httpv1" {
		d.bad("spec.type", "a VirtualMCPServer decides by Cedar: want cedarv1")
		return
	}
	oneOf(d, "spec.type", spec.Type, "", "cedarv1")
	r.cedarOptions(d, "spec.config", &spec.Config.CedarOptions)
}

// claims takes over what is given; authzConfig's own fields come after those of a ConfigMap and win.
func (r *resolver) claims(d *document, atGroup, group, atRole, role, atType, kind string) {
	p := &r.gateway.Authz.Policies
	for _, c := range []struct {
		at, value string
		to        *string
	}{{atGroup, group, &p.GroupClaimName}, {atRole, role, &p.RoleClaimName}} {
		if len(c.value) > 253 {
			d.bad(c.at, "too long: want at most 253 bytes")
		}
		if c.value != "" {
			*c.to = c.value
		}
	}
	if kind != "" {
		if !entityType.MatchString(kind) {
			d.bad(atType, "want a Cedar type without namespace, such as THVGroup")
		}
		p.GroupEntityType = kind
	}
}

// texts takes policies over with their lines.
func texts(d *document, at string, policies []string) []PolicyText {
	if len(policies) == 0 {
		d.bad(at, "required: at least one policy")
	}
	var list []PolicyText
	for i, text := range policies {
		f := d.at(fmt.Sprintf("%s[%d]", at, i))
		if strings.TrimSpace(text) == "" {
			d.bad(f.path, "empty policy")
			continue
		}
		n := f.node
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		list = append(list, PolicyText{File: d.file, Line: textLine(n), Text: text})
	}
	return list
}

func (r *resolver) entities(d *document, at, text string) {
	if text == "" {
		return
	}
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(text), &list); err != nil || list == nil {
		d.bad(at, "want a JSON array of Cedar entities")
		return
	}
	r.gateway.Authz.Policies.EntitiesJSON = text
}

var jsonTabs = regexp.MustCompile(`(?m)^[ \t]+`)

// policyMap resolves the ConfigMap form: JSON with version, type cedarv1 and cedar. It is decoded as YAML, of which it is
// a part, to be as strict and to know the lines.
func (r *resolver) policyMap(at string, ref *v1beta1.ConfigMapAuthzRef) {
	key := ref.Key
	if key == "" {
		key = "authz.json"
	}
	text, cm, f := r.configMap(r.server, at, ref.Name, key, false)
	if cm == nil {
		return
	}
	if json.Valid([]byte(text)) {
		// YAML takes no tabs for indentation, and in JSON no string goes over a line.
		text = jsonTabs.ReplaceAllStringFunc(text, func(s string) string { return strings.ReplaceAll(s, "\t", " ") })
	}
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil || len(n.Content) != 1 || n.Content[0].Kind != yaml.MappingNode {
		cm.bad(f.path, "want JSON with version, type and cedar")
		return
	}
	embed(&n, f)
	d := &document{file: cm.file, line: n.Content[0].Line, kind: cedarV1, object: new(v1beta1.CedarV1), byPath: map[string]*field{}}
	dec := decoder{doc: d, active: map[*yaml.Node]bool{}}
	dec.structure(&field{line: d.line}, n.Content[0], reflect.ValueOf(d.object).Elem())
	r.reach(d)
	r.cedar(d)

	before := len(r.notes)
	r.noteUnused(d)
	for i := range r.notes[before:] {
		r.notes[before+i].Field = f.path + "." + r.notes[before+i].Field
	}
	for _, p := range d.problems {
		p.Field = strings.TrimSuffix(f.path+"."+p.Field, ".")
		cm.problems = append(cm.problems, p)
	}
}

// embed gives the nodes of a text inside a document the lines of the file. Only a literal block (|) keeps its lines there;
// all of another text is where its key is.
func embed(n *yaml.Node, f *field) {
	if literal := f.node.Kind == yaml.ScalarNode && f.node.Style&yaml.LiteralStyle != 0; literal {
		n.Line += f.node.Line
	} else {
		n.Line = f.line
	}
	for _, c := range n.Content {
		embed(c, f)
	}
}

// cedar takes over what a policy ConfigMap says.
func (r *resolver) cedar(d *document) {
	spec := d.object.(*v1beta1.CedarV1)
	if v := spec.Version; v != "" && v != "1.0" && v != "1" {
		d.bad("version", "want 1.0")
	}
	oneOf(d, "type", spec.Type, "", "cedarv1")
	if spec.Cedar == nil {
		d.bad("cedar", "required")
		return
	}
	r.cedarOptions(d, "cedar", spec.Cedar)
}

func (r *resolver) cedarOptions(d *document, at string, c *v1beta1.CedarOptions) {
	r.gateway.Authz.Policies.Texts = texts(d, at+".policies", c.Policies)
	r.entities(d, at+".entities_json", c.EntitiesJSON)
	r.claims(d, at+".group_claim_name", c.GroupClaimName, at+".role_claim_name", c.RoleClaimName,
		at+".group_entity_type", c.GroupEntityType)
}
