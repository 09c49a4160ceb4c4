package mcptest

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// scriptVariable holds the answers of a scripted child, as JSON.
const scriptVariable = "MCPTEST_SCRIPT"

// NewScript is NewRaw over stdio: a command and its environment. It is the test's own program once more, whose TestMain
// has to call PlayScript. Of an answer the body counts, in which nothing is added but the end of its last line; an empty
// one says nothing, and -LONG in it is longer than a line may be. The answer to "start" is written before anything is read.
func NewScript(tb testing.TB, answers map[string]Answer) (command []string, name, value string) {
	tb.Helper()
	program, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	bodies := map[string][]byte{"server/discover": []byte(unknownMethod)} // bytes: not all of them are UTF-8
	for method, answer := range behaving(Legacy) {
		if method == "initialize" {
			bodies[method] = []byte(answer.Body)
		}
	}
	for method, answer := range answers {
		bodies[method] = []byte(answer.Body)
	}
	text, err := json.Marshal(bodies)
	if err != nil {
		tb.Fatal(err)
	}
	return []string{program}, scriptVariable, string(text)
}

// PlayScript serves where this process was started as NewScript says, and then ends it; else it does nothing.
func PlayScript() {
	text := os.Getenv(scriptVariable)
	if text == "" {
		return
	}
	var bodies map[string][]byte
	if err := json.Unmarshal([]byte(text), &bodies); err != nil {
		panic(err)
	}
	say := func(body []byte, id json.RawMessage, n int) {
		if len(body) > 0 {
			text := strings.NewReplacer("ID", string(id), "-N", "-"+strconv.Itoa(n)).Replace(string(body))
			if before, after, ok := strings.Cut(text, "-LONG"); ok {
				text = before + strings.Repeat("-", 17<<20) + after
			}
			os.Stdout.WriteString(text + "\n")
		}
	}
	say(bodies["start"], nil, 0)
	seen := map[string]int{}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var req struct {
			ID     json.RawMessage
			Method string
			Params struct{ ProtocolVersion string }
		}
		json.Unmarshal(in.Bytes(), &req)
		seen[req.Method]++
		body, ok := bodies[req.Method+" "+req.Params.ProtocolVersion]
		if !ok {
			body, ok = bodies[req.Method]
		}
		if !ok && req.ID != nil && req.Method != "" {
			body = []byte(unknownMethod)
		}
		say(body, req.ID, seen[req.Method])
	}
	os.Exit(0)
}
