package backend

import (
	"vmcp/internal/gatewayconfig"
	"vmcp/internal/mcpwire"
)

// What a client can be asked for. A backend is told of a feature, and its questions are passed on, only where the
// configuration says so: elicitation always; sampling, which sends a backend's text to the user's model at the user's
// cost, and roots by the annotation vmcp/client-features.
//
// Roots are directories of the client's own machine. A child on ours would take them for directories here, and a server
// that lets them replace its arguments would then serve any file of the gateway's user to whoever names it. So a child
// never hears of them, whatever is configured.

func (b *Backend) tellsRoots() bool {
	return b.cfg.Roots && b.cfg.Transport != gatewayconfig.TransportStdio
}

// mayAsk says whether a request of the backend may reach a client.
func (b *Backend) mayAsk(method string) bool {
	switch method {
	case "elicitation/create":
		return true
	case "sampling/createMessage":
		return b.cfg.Sampling
	case "roots/list":
		return b.tellsRoots()
	}
	return false
}

// offered are a client's capabilities as the backend may know of them, a JSON object.
func (b *Backend) offered(capabilities []byte) []byte {
	if len(capabilities) == 0 || string(capabilities) == "{}" {
		return []byte("{}")
	}
	o, err := mcpwire.ParseObject(capabilities, 0, len(capabilities))
	if err != nil {
		return []byte("{}")
	}
	return mcpwire.Splice(capabilities, o.Change(func(name string) bool {
		switch mcpwire.Fold(name) { // as a lenient backend reads it
		case "ROOTS":
			return !b.tellsRoots()
		case "SAMPLING":
			return !b.cfg.Sampling
		case "TASKS": // an extension that is not carried (TK-4)
			return true
		}
		return false
	}, withoutTasks(o)...)...)
}

// tasksExtension is one of 2026-07-28 that is not carried.
const tasksExtension = "io.modelcontextprotocol/tasks"

// withoutTasks gives the extensions of a client's capabilities without that one (TK-4).
func withoutTasks(capabilities mcpwire.Object) []mcpwire.Field {
	at, ok := capabilities.Find("extensions")
	if !ok {
		return nil
	}
	raw := capabilities.Text[at.Start:at.End]
	all, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return []mcpwire.Field{{Name: "extensions", Value: []byte("{}")}}
	}
	if all.Raw(tasksExtension) == nil {
		return nil
	}
	return []mcpwire.Field{{Name: "extensions", Value: mcpwire.Splice(raw, all.Change(func(name string) bool { return name == tasksExtension })...)}}
}

// anyClients are the capabilities that some client may have and this backend may know of: our lists are everybody's, so
// the backend is to show all that it has for anybody.
func (b *Backend) anyClients() []byte {
	return b.offered([]byte(`{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{"listChanged":true}}`))
}

// canBeAsked says whether a legacy client with these capabilities can be asked anything by this backend.
func (b *Backend) canBeAsked(capabilities []byte) bool {
	offered := b.offered(capabilities)
	o, err := mcpwire.ParseObject(offered, 0, len(offered))
	return err == nil && (o.Raw("elicitation") != nil || o.Raw("sampling") != nil || o.Raw("roots") != nil)
}

// volunteersRoots says whether a client sends roots as an answer in a request: to a question that it made up, since no
// question about them is passed on.
func (b *Backend) volunteersRoots(m *mcpwire.Message) bool {
	raw := m.Params.Raw("inputResponses")
	if raw == nil || b.tellsRoots() {
		return false
	}
	answers, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return true // nothing that could be judged
	}
	for _, a := range answers.Members {
		answer, err := mcpwire.ParseObject(raw, a.Start, a.End)
		if err != nil {
			return true
		}
		for _, member := range answer.Members {
			if mcpwire.Fold(member.Name) == "ROOTS" {
				return true
			}
		}
	}
	return false
}
