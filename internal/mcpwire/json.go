package mcpwire

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

var decoders = sync.Pool{New: func() any { return new(decoder) }}

type decoder struct {
	buf bytes.Buffer
	dec jsontext.Decoder
}

// withDecoder runs f with a pooled strict decoder over text: no duplicate names, no invalid UTF-8.
func withDecoder[T any](text []byte, f func(*jsontext.Decoder) T, opts ...jsontext.Options) T {
	d := decoders.Get().(*decoder)
	d.buf = *bytes.NewBuffer(text)
	d.dec.Reset(&d.buf, opts...)
	out := f(&d.dec)
	d.buf = bytes.Buffer{}
	decoders.Put(d)
	return out
}

// readObject reads the object that comes next into o. value must consume the value of the member it is told. A name
// that is another spelling of one in known is refused (HV-14).
func readObject(dec *jsontext.Decoder, text []byte, o *Object, known map[string]string, place string, value func(name string) error) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	o.Text, o.Start = text, int(dec.InputOffset())-1
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return err
		}
		mem := Member{Name: tok.String()}
		mem.KeyStart = quoteStart(text, int(dec.InputOffset()))
		if k, wrong := misspelt(known, mem.Name); wrong {
			return refuse("%s has a member %s: did you mean %s?", place, clip(mem.Name), k)
		}
		dec.PeekKind() // moves no offset; the value begins after colon and blanks
		mem.Start = valueStart(text, int(dec.InputOffset()))
		if err := value(mem.Name); err != nil {
			return err
		}
		mem.End = int(dec.InputOffset())
		o.Members = append(o.Members, mem)
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	o.End = int(dec.InputOffset())
	return nil
}

// quoteStart finds the opening quote of the JSON string that ends at end (exclusive).
func quoteStart(text []byte, end int) int {
	for i := end - 2; i >= 0; i-- {
		if text[i] != '"' {
			continue
		}
		slashes := 0
		for j := i - 1; j >= 0 && text[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return 0
}

// valueStart skips from the end of a name, or of the element before, to the value.
func valueStart(text []byte, at int) int {
	for at < len(text) {
		switch text[at] {
		case ' ', '\t', '\r', '\n', ':', ',':
			at++
		default:
			return at
		}
	}
	return at
}

func readValue(dec *jsontext.Decoder) (jsontext.Value, span, error) {
	v, err := dec.ReadValue()
	end := int(dec.InputOffset())
	return v, span{end - len(v), end}, err
}

func readString(dec *jsontext.Decoder, to *string, member string) error {
	if err := want(dec, '"', member+" must be a string"); err != nil {
		return err
	}
	tok, err := dec.ReadToken()
	if err == nil {
		*to = tok.String()
	}
	return err
}

// want refuses a next value of another kind; text that is no JSON at all gives the decoder's error.
func want(dec *jsontext.Decoder, kind jsontext.Kind, text string) error {
	switch dec.PeekKind() {
	case kind:
		return nil
	case jsontext.KindInvalid:
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		return io.ErrUnexpectedEOF
	}
	return refuse("%s", text)
}

// skip reads over one value, refusing one that is nested deeper than depth.
func skip(dec *jsontext.Decoder, depth int) error {
	base := dec.StackDepth()
	for {
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		switch d := dec.StackDepth() - base; {
		case d == 0:
			return nil
		case d > depth:
			return refuse("the message is nested deeper than %d", depth)
		}
	}
}

// validID: a string or an integer (HT-6). Fractions and exponents are no integers here, even where their value is.
func validID(v jsontext.Value) bool {
	switch v.Kind() {
	case '"':
		return len(v) <= 1<<10
	case '0':
		return len(v) <= 32 && !bytes.ContainsAny(v, ".eE")
	}
	return false
}

// clip shortens what a client wrote for an error text.
func clip(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	for most := most; most > 0; most-- {
		if utf8.RuneStart(s[most]) {
			return s[:most] + "…"
		}
	}
	return "…"
}
