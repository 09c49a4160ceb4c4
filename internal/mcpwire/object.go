package mcpwire

import (
	"cmp"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

type span struct{ start, end int }

// Object is a shallow view of one JSON object inside a larger text: where its members are, not what they mean.
// The zero Object is an absent one.
type Object struct {
	Text    []byte // the whole text that the offsets point into
	Start   int    // offset of '{'
	End     int    // offset after '}'
	Members []Member
}

// Member is one name/value pair. Offsets are into Object.Text.
type Member struct {
	Name       string
	KeyStart   int // the opening quote of the name
	Start, End int // the value
}

// Exists reports whether there was an object at all.
func (o Object) Exists() bool { return o.Text != nil }

// Find returns the member with exactly this name.
func (o Object) Find(name string) (Member, bool) {
	for _, m := range o.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// twice reports whether two members have one name.
func (o Object) twice() bool {
	if len(o.Members) <= 64 {
		for i, m := range o.Members {
			for _, other := range o.Members[:i] {
				if other.Name == m.Name {
					return true
				}
			}
		}
		return false
	}
	seen := make(map[string]bool, len(o.Members))
	for _, m := range o.Members {
		if seen[m.Name] {
			return true
		}
		seen[m.Name] = true
	}
	return false
}

// Raw returns the value of a member as written, nil where there is none.
func (o Object) Raw(name string) []byte {
	if m, ok := o.Find(name); ok {
		return o.Text[m.Start:m.End]
	}
	return nil
}

// String returns the value of a member that is a JSON string.
func (o Object) String(name string) (string, bool) { return Unquote(o.Raw(name)) }

// Field is a member to write: Value is JSON.
type Field struct {
	Name  string
	Value []byte
}

// Change makes the edits that remove every member for which drop (may be nil) is true and give the fields of set
// their values, replacing or adding them. What stays keeps its bytes and its place.
func (o Object) Change(drop func(name string) bool, set ...Field) []Edit {
	isSet := func(name string) bool {
		return slices.ContainsFunc(set, func(f Field) bool { return f.Name == name })
	}
	drops := func(name string) bool { return drop != nil && drop(name) && !isSet(name) }

	var edits []Edit
	kept := false // a member before this one stays
	for i := 0; i < len(o.Members); i++ {
		if !drops(o.Members[i].Name) {
			kept = true
			continue
		}
		first := i
		for i+1 < len(o.Members) && drops(o.Members[i+1].Name) {
			i++
		}
		switch {
		case kept: // with the comma before
			edits = append(edits, Edit{o.Members[first-1].End, o.Members[i].End, nil})
		case i+1 < len(o.Members): // with the comma after
			edits = append(edits, Edit{o.Members[first].KeyStart, o.Members[i+1].KeyStart, nil})
		default:
			edits = append(edits, Edit{o.Members[first].KeyStart, o.Members[i].End, nil})
		}
	}

	var added []byte
	for _, f := range set {
		if m, ok := o.Find(f.Name); ok {
			edits = append(edits, Edit{m.Start, m.End, f.Value})
			continue
		}
		if len(added) > 0 {
			added = append(added, ',')
		}
		added = append(added, Quote(f.Name)...)
		added = append(added, ':')
		added = append(added, f.Value...)
	}
	if len(added) > 0 {
		if kept {
			added = append(added, ',')
		}
		edits = append(edits, Edit{o.Start + 1, o.Start + 1, added})
	}
	return edits
}

// Bytes is the object as written, nil for an absent one.
func (o Object) Bytes() []byte {
	if !o.Exists() {
		return nil
	}
	return o.Text[o.Start:o.End]
}

// Edit replaces Text[Start:End] by With.
type Edit struct {
	Start, End int
	With       []byte
}

// Splice applies edits to a copy of text. Edits must not overlap; an insertion comes before a replacement at its place.
func Splice(text []byte, edits ...Edit) []byte {
	slices.SortStableFunc(edits, func(a, b Edit) int { return cmp.Or(a.Start-b.Start, a.End-b.End) })
	size := len(text)
	for _, e := range edits {
		size += len(e.With) - (e.End - e.Start)
	}
	out := make([]byte, 0, size)
	at := 0
	for _, e := range edits {
		out = append(out, text[at:e.Start]...)
		out = append(out, e.With...)
		at = e.End
	}
	return append(out, text[at:]...)
}

// Quote encodes s as a JSON string.
func Quote(s string) []byte {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil { // only for invalid UTF-8, which no caller holds: names come out of the strict parser
		return []byte(`""`)
	}
	return b
}

// Unquote decodes raw where it is a JSON string.
func Unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, raw)
	return string(b), err == nil
}
