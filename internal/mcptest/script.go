package mcptest

import (
	"encoding/json"
	"testing"
)

// NewScript is NewRaw over stdio: the environment of cmd/script-mcp. Of an answer the body counts, in which nothing is
// added but the end of its last line; an empty one says nothing, and -LONG in it is longer than a line may be. The answer
// to "start" is written before anything is read.
func NewScript(tb testing.TB, answers map[string]Answer) (name, value string) {
	tb.Helper()
	bodies := map[string][]byte{"": []byte(unknownMethod), "server/discover": []byte(unknownMethod)} // bytes: not all of them are UTF-8
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
	return "MCPTEST_SCRIPT", string(text)
}
