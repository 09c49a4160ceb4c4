package catalog

import (
	"strings"

	"vmcp/internal/mcpwire"
)

// titled adds the backend's name to titles that several backends use: in a list that shows titles, people could not tell
// one from the other.
func titled(items []Item) {
	users := map[string]map[string]bool{} // backends by title
	titles := make([]string, len(items))
	for i, it := range items {
		if titles[i] = title(it.Raw); titles[i] == "" {
			continue
		}
		key := strings.ToLower(titles[i])
		if users[key] == nil {
			users[key] = map[string]bool{}
		}
		users[key][it.Backend] = true
	}
	for i := range items {
		if len(users[strings.ToLower(titles[i])]) < 2 {
			continue
		}
		set := mcpwire.Field{Name: "title", Value: mcpwire.Quote(titles[i] + " (" + items[i].Backend + ")")}
		for _, raw := range []*[]byte{&items[i].Raw, &items[i].Legacy} {
			if o, err := mcpwire.ParseObject(*raw, 0, len(*raw)); *raw != nil && err == nil {
				*raw = mcpwire.Splice(*raw, o.Change(nil, set)...)
			}
		}
	}
}

// title is what a definition is shown as, where it says: its own title, else that of its annotations.
func title(raw []byte) string {
	o, err := mcpwire.ParseObject(raw, 0, len(raw))
	if err != nil {
		return ""
	}
	if t, ok := o.String("title"); ok {
		return t
	}
	annotations := o.Raw("annotations")
	a, err := mcpwire.ParseObject(annotations, 0, len(annotations))
	if err != nil {
		return ""
	}
	t, _ := a.String("title")
	return t
}
