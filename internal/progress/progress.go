// Package progress shows people how the parts of a gateway come up: on a terminal one line for each part, changed in
// place; elsewhere a plain line for each step. It owns how that looks, and what a terminal may be sent; what the parts
// are and how they do is told by its caller.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"
)

// State is how a part does.
type State string

const (
	Starting State = "starting"
	Waiting  State = "waiting" // it runs, and says what it waits for
	Ready    State = "ready"
	Away     State = "away" // it failed, and the gateway works without it
)

var colours = map[State]string{Waiting: "\x1b[33m", Ready: "\x1b[32m", Away: "\x1b[31m"}

type part struct {
	name  string
	state State
	text  string
}

// Display is what is shown. Safe for concurrent use.
type Display struct {
	w      io.Writer
	file   *os.File // the terminal; nil: plain lines
	colour bool

	mu    sync.Mutex
	parts []part
	drawn int // lines on the terminal that the next drawing replaces
}

// New shows on w. It is a terminal if it is one of the system's, and TERM is not dumb.
func New(w io.Writer) *Display {
	d := &Display{w: w}
	if IsTerminal(w) {
		d.file, d.colour = w.(*os.File), os.Getenv("NO_COLOR") == ""
	}
	return d
}

// IsTerminal says whether w is a terminal that can move its cursor.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// Note prints a line that stays.
func (d *Display) Note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		fmt.Fprintln(d.w, Clean(text))
		return
	}
	fmt.Fprint(d.w, d.back()+Clean(text)+endLine+d.draw(false))
}

// Set says how a part does. Parts are shown in the order in which they were first named.
func (d *Display) Set(name string, state State, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := part{name, state, Clean(text)}
	i := 0
	for i < len(d.parts) && d.parts[i].name != name {
		i++
	}
	switch {
	case i == len(d.parts):
		d.parts = append(d.parts, now)
	case d.parts[i] == now:
		return
	default:
		d.parts[i] = now
	}
	switch {
	case d.file != nil:
		fmt.Fprint(d.w, d.back()+d.draw(false))
	case state == Waiting: // for what may change many times a second
		time.AfterFunc(lasting, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if i < len(d.parts) && d.parts[i] == now {
				d.line(now)
			}
		})
	default:
		d.line(now)
	}
}

// lasting is for how long a part has to wait for one thing before a plain line says so.
const lasting = 3 * time.Second

func (d *Display) line(p part) {
	fmt.Fprintln(d.w, strings.TrimSuffix(p.name+": "+string(p.state)+", "+p.text, ", "))
}

// Close draws the parts for the last time, with all of their texts.
func (d *Display) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		fmt.Fprint(d.w, d.back()+d.draw(true))
	}
	d.parts, d.drawn = nil, 0
}

// What stood on a line, and below the last one, is cleared behind the new text, so that nothing flickers.
const (
	endLine   = "\x1b[K\n"
	clearRest = "\x1b[J"
)

// back moves to the first drawn line.
func (d *Display) back() string {
	if d.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r", d.drawn)
}

// draw gives the parts as lines. While they may change a line is cut where the terminal ends, and lines that it has no
// place for are left out: the cursor cannot go back to what was wrapped or scrolled away.
func (d *Display) draw(whole bool) string {
	width, height, err := term.GetSize(int(d.file.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	names := 0
	for _, p := range d.parts {
		names = max(names, len([]rune(p.name)))
	}
	parts := d.parts
	if !whole && len(parts) > height-1 {
		parts = parts[len(parts)-max(height-1, 0):]
	}
	var out strings.Builder
	for _, p := range parts {
		line := []rune(strings.TrimSpace(fmt.Sprintf("%-*s  %-8s  %s", names, p.name, p.state, p.text)))
		if !whole {
			line = cut(line, width)
		}
		from, to := names+2, names+2+len(p.state)
		if d.colour && len(line) >= to {
			fmt.Fprintf(&out, "%s%s%s\x1b[m%s", string(line[:from]), colours[p.state], p.state, string(line[to:]))
		} else {
			out.WriteString(string(line))
		}
		out.WriteString(endLine)
	}
	d.drawn = len(parts)
	return out.String() + clearRest
}

// cut shortens a line to less than width cells, as some terminals wrap a full one.
func cut(line []rune, width int) []rune {
	used := 0
	for i, r := range line {
		if used++; r >= 0x1100 { // letters of East Asia and pictures take two
			used++
		}
		if used >= width {
			return append(line[:max(i-1, 0)], '…')
		}
	}
	return line
}

// Clean makes one line of a text of others, without what would steer a terminal.
func Clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(text)
}
