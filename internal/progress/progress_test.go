package progress

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"
)

// story is a start in which one server stays away.
func story(w io.Writer) {
	d := New(w)
	d.Set("envoy", Starting, "")
	d.Set("authz", Waiting, "catalog:\n none yet")
	d.Note("warning: \x1b[2Jlook")
	d.Set("authz", Ready, "")
	d.Set("authz", Ready, "")
	d.Set("envoy", Ready, "")
	d.Set("server gone", Away, "connection refused, and more that a narrow terminal has no place for")
	d.Close()
}

// TestPlain: each step is a line, nothing twice, nothing that steers a terminal.
func TestPlain(t *testing.T) {
	const want = `envoy: starting
warning: [2Jlook
authz: ready
envoy: ready
server gone: away, connection refused, and more that a narrow terminal has no place for
`
	var pipe bytes.Buffer
	if story(&pipe); pipe.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &pipe, want)
	}
	t.Setenv("TERM", "dumb")
	if got := onTerminal(t, 80, 24); strings.ReplaceAll(got, "\r\n", "\n") != want {
		t.Errorf("on a dumb terminal\n%q\nwant\n%q", got, want)
	}
}

// TestLasting: what a part waits for is a plain line of its own when it lasts, once.
func TestLasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := New(&out)
		for i := range 20 {
			d.Set("authz", Waiting, strconv.Itoa(i))
			time.Sleep(lasting / 2)
		}
		for range 4 {
			d.Set("authserver", Waiting, "no such host")
			time.Sleep(lasting / 2)
		}
		d.Set("authserver", Waiting, "refused")
		d.Close()
		time.Sleep(2 * lasting)
		if want := "authz: waiting, 19\nauthserver: waiting, no such host\n"; out.String() != want {
			t.Errorf("got\n%s\nwant\n%s", &out, want)
		}
	})
}

// TestTerminal plays what is written on a screen and looks at it.
func TestTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, c := range []struct {
		width, height uint16
		noColor       string
	}{{120, 24, ""}, {24, 24, ""}, {24, 3, ""}, {9, 24, ""}, {120, 24, "1"}} {
		t.Setenv("NO_COLOR", c.noColor)
		written := onTerminal(t, c.width, c.height)
		if coloured := strings.Contains(written, "\x1b[32m"); coloured != (c.noColor == "") {
			t.Errorf("%v: colours %v", c, coloured)
		}
		got := screen(t, written, int(c.width), int(c.height))
		const want = `warning: [2Jlook
envoy        ready
authz        ready
server gone  away      connection refused, and more that a narrow terminal has no place for
`
		if got != want {
			t.Errorf("%v: the screen shows\n%s\nwant\n%s\nwritten: %q", c, got, want, written)
		}
	}
}

// onTerminal tells the story on a pseudo-terminal of that size and returns what was written.
func onTerminal(t *testing.T, width, height uint16) string {
	t.Helper()
	host, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := pty.Setsize(terminal, &pty.Winsize{Cols: width, Rows: height}); err != nil {
		t.Fatal(err)
	}
	written := make(chan string)
	go func() {
		all, _ := io.ReadAll(host) // ends with an error when the last writer is gone
		written <- string(all)
	}()
	story(terminal)
	terminal.Close()
	return <-written
}

// screen is what stands on a terminal that got the text, with all that was scrolled away. It is an error to go back to
// that, or over a line that has wrapped.
func screen(t *testing.T, written string, width, height int) string {
	t.Helper()
	lines, row, column := [][]rune{nil}, 0, 0
	for written != "" {
		if escape := regexp.MustCompile(`^\x1b\[(\d*)([AJKm])`).FindStringSubmatch(written); escape != nil {
			written = written[len(escape[0]):]
			switch escape[2] {
			case "A":
				up, _ := strconv.Atoi(escape[1])
				if up >= height {
					t.Errorf("%d lines up on a terminal of %d", up, height)
				}
				for _, line := range lines[row-up : row] {
					if len(line) >= width {
						t.Errorf("%q has %d cells of %d, and is to be drawn over", string(line), len(line), width)
					}
				}
				row -= up
			case "J":
				lines = lines[:row+1]
				fallthrough
			case "K":
				lines[row] = lines[row][:min(column, len(lines[row]))]
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(written)
		written = written[size:]
		switch r {
		case '\r':
			column = 0
		case '\n':
			if row++; row == len(lines) {
				lines = append(lines, nil)
			}
		default:
			lines[row] = append(append(lines[row][:min(column, len(lines[row]))], r), lines[row][min(column+1, len(lines[row])):]...)
			column++
		}
	}
	var text strings.Builder
	for i, line := range lines {
		if i > 0 {
			text.WriteString("\n")
		}
		text.WriteString(string(line))
	}
	return text.String()
}
