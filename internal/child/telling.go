package child

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const most = 10 // lines that are shown of a log

// What programs begin a line with that says why they end: our flags, Go, Python, Node and most others.
var failure = regexp.MustCompile(`(?i)^(\w*error|\w*exception|fatal|panic|fatal error|critical)\b.*: |^flag provided but not defined|^invalid value `)

// Envoy's log: [time][thread][level][component] [source file] message.
var envoyLine = regexp.MustCompile(`^\[[^\]]*\]\[\d+\]\[(\w+)\]\[\w+\] (?:\[[^\]]*\] )?(.*)$`)

// Telling picks the lines of a log that say why its process ended: errors, our JSON rendered for people; else, with
// telling false, the last lines. At most ten, in order.
func Telling(log []byte) (lines []string, telling bool) {
	var all, marked []string
	for line := range strings.Lines(string(log)) {
		if line = strings.TrimRight(line, " \r\n"); line == "" {
			continue
		}
		text, telling := read(line)
		if telling {
			marked = append(marked, text)
		}
		all = append(all, text)
	}
	if len(marked) > 0 {
		all = marked
	}
	return all[max(0, len(all)-most):], len(marked) > 0
}

// read returns a line as people read it, and whether it is an error.
func read(line string) (text string, telling bool) {
	if e := envoyLine.FindStringSubmatch(line); e != nil {
		return e[2], e[1] == "error" || e[1] == "critical"
	}
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return line, failure.MatchString(line)
	}
	level, _ := fields["level"].(string)
	text, _ = fields["msg"].(string)
	if cause, ok := fields["error"]; ok {
		if text == "ended" { // what a service says last, and the caller says anyway
			text = fmt.Sprint(cause)
		} else {
			text += fmt.Sprintf(": %v", cause)
		}
	}
	for _, known := range []string{"level", "msg", "error", "time", "caller", "stacktrace", "errorVerbose"} {
		delete(fields, known)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		text += fmt.Sprintf(" %s=%v", key, fields[key])
	}
	return text, slices.Contains([]string{"error", "dpanic", "panic", "fatal"}, level)
}
