package backend

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func readAll(r io.Reader, limit int) (out []string, e *events, err error) {
	e = newEvents(r, new(room))
	if limit > 0 {
		e.limit = limit
	}
	for {
		data, err := e.next()
		if err != nil {
			return out, e, err
		}
		out = append(out, string(data))
	}
}

func TestEvents(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
		id         string
		retry      time.Duration
	}{
		{"plain", "data: a\n\ndata:b\n\n", []string{"a", "b"}, "", 0},
		{"cr", "data: a\r\rdata: b\r\r", []string{"a", "b"}, "", 0},
		{"crlf", "data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, "", 0},
		{"mixed", "data: a\r\n\ndata: b\r\r\n: c\n\ndata: d\n\r\n", []string{"a", "b", "d"}, "", 0},
		{"lines", "data: a\ndata\ndata:  b\n\n", []string{"a\n\n b"}, "", 0},
		{"comments", ": hi\n\n:\ndata: a\n: x\n\n", []string{"a"}, "", 0},
		{"types", "event: message\ndata: a\n\nevent: ping\ndata: b\n\nevent:\ndata: c\n\n", []string{"a", "b", "c"}, "", 0},
		{"ids", "id: 1\nretry: 250\ndata: a\n\nid: 2\n\nid: 3\ndata: b", []string{"a"}, "2", 250 * time.Millisecond},
		{"priming", "id: 7\ndata:\n\n", nil, "7", 0},
		{"bad retry", "retry: soon\ndata: a\n\n", []string{"a"}, "", 0},
		{"cut", "data: a\n\ndata: b\n", []string{"a"}, "", 0},
		{"no empty line at the end", "data: {\ndata: }\n", []string{"{\n}"}, "", 0},
		{"no end at all", "data: {}", []string{"{}"}, "", 0},
		{"cut in its data", "data: {\"a\":", nil, "", 0},
		{"mark", "\xef\xbb\xbfdata: a\n\n", []string{"a"}, "", 0},
		{"nul id", "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", []string{"a", "b"}, "1", 0},
	} {
		for _, reader := range []io.Reader{strings.NewReader(test.text), iotest.OneByteReader(strings.NewReader(test.text))} {
			got, e, err := readAll(reader, 0)
			if diff := cmp.Diff(got, test.want); diff != "" || err != io.EOF || e.id != test.id || e.retry != test.retry {
				t.Errorf("%s: %s, id %q, retry %v, %v", test.name, diff, e.id, e.retry, err)
			}
		}
	}
	long := strings.Repeat("x", 10_000)
	if got, _, err := readAll(strings.NewReader("data: "+long+"\n\n"), 20_000); err != io.EOF || got[0] != long {
		t.Errorf("a long line: %v", err)
	}
	for _, text := range []string{"data: " + long + "\n\n", strings.Repeat("data: 123456789\n", 1000) + "\n", long} {
		if _, _, err := readAll(strings.NewReader(text), 5000); err != errTooLong {
			t.Errorf("over the limit: %v", err)
		}
	}
}

// FuzzEvents: however a stream arrives in pieces, it is the same stream.
func FuzzEvents(f *testing.F) {
	f.Add("data: a\r\n\r\nid: 1\rdata: b\r\r\n: c\n\ndata: d\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		whole, e1, err1 := readAll(strings.NewReader(text), 1<<16)
		bytewise, e2, err2 := readAll(iotest.OneByteReader(strings.NewReader(text)), 1<<16)
		if diff := cmp.Diff(whole, bytewise); diff != "" || e1.id != e2.id || e1.retry != e2.retry || err1 != err2 {
			t.Errorf("%s; %v, %v", diff, err1, err2)
		}
	})
}
