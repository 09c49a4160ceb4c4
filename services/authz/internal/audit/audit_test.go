package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	var out strings.Builder
	l := New(&out, func(err error) { t.Error(err) })
	l.Write(Record{Time: time.Date(2026, 7, 28, 1, 2, 3, 0, time.UTC), Decision: "deny", Reason: "forbidden", Policies: []string{"p:1", "p:2"},
		Caller: "ann", HTTPMethod: "POST", Era: "legacy", Method: "tools/call", Name: "a\nb\u2028<x>", Backend: "k8s", Original: "x"})
	l.Write(Record{Decision: "answer", Reason: "preflight"})
	want := `{"time":"2026-07-28T01:02:03Z","decision":"deny","reason":"forbidden","policies":["p:1","p:2"],"caller":"ann","http_method":"POST","era":"legacy","method":"tools/call","name":"a\nb\u2028\u003cx\u003e","backend":"k8s","original":"x"}
{"time":"0001-01-01T00:00:00Z","decision":"answer","reason":"preflight"}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	(*Log)(nil).Write(Record{})
}

// flaky fails while told to.
type flaky struct{ bad bool }

func (f *flaky) Write(b []byte) (int, error) {
	if f.bad {
		return 0, errors.New("disk full")
	}
	return len(b), nil
}

// TestFailure: each time that writing begins to fail is told once.
func TestFailure(t *testing.T) {
	w, told := &flaky{}, 0
	l := New(w, func(error) { told++ })
	for i, bad := range []bool{false, true, true, true, false, false, true, true} {
		w.bad = bad
		l.Write(Record{})
		if want := []int{0, 1, 1, 1, 1, 1, 2, 2}[i]; told != want {
			t.Errorf("after %d records told %d times, want %d", i+1, told, want)
		}
	}
}

// short writes no more than it has room for, as a full disk does.
type short struct {
	bytes.Buffer
	room int
}

func (s *short) Write(b []byte) (int, error) {
	if len(b) > s.room {
		n, _ := s.Buffer.Write(b[:s.room])
		s.room = 0
		return n, errors.New("disk full")
	}
	return s.Buffer.Write(b)
}

// TestTorn: a record of which a part was written does not swallow the next one.
func TestTorn(t *testing.T) {
	for _, room := range []int{0, 1, 40} {
		w := &short{}
		l := New(w, func(error) {})
		w.room = room
		l.Write(Record{Name: "torn"})
		w.room = room
		l.Write(Record{Name: "torn"})
		w.room = 1 << 20
		l.Write(Record{Name: "whole"})
		l.Write(Record{Name: "whole"})
		whole := 0
		for line := range strings.Lines(w.String()) {
			var rec Record
			if json.Unmarshal([]byte(line), &rec) == nil && rec.Name == "whole" {
				whole++
			}
		}
		if whole != 2 {
			t.Errorf("room for %d bytes: %d whole records in %q, want 2", room, whole, w.String())
		}
	}
}

// TestWhole: records of concurrent decisions are lines of their own.
func TestWhole(t *testing.T) {
	r, w := io.Pipe()
	l := New(w, func(err error) { t.Error(err) })
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 25 {
				l.Write(Record{Decision: "allow", Name: strings.Repeat("n", 300)})
			}
		})
	}
	go func() { writers.Wait(); w.Close() }()
	dec, n := json.NewDecoder(r), 0
	for ; ; n++ {
		var rec Record
		if err := dec.Decode(&rec); err == io.EOF {
			break
		} else if err != nil || len(rec.Name) != 300 {
			t.Fatal(rec, err)
		}
	}
	if n != 100 {
		t.Errorf("%d records, want 100", n)
	}
}
