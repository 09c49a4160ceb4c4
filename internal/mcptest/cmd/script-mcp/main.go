// Command script-mcp is a stdio server that says what mcptest.NewScript put into its environment, right or wrong.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
)

func main() {
	var bodies map[string][]byte // by method, or by method and protocol version; "": to what has none
	if err := json.Unmarshal([]byte(os.Getenv("MCPTEST_SCRIPT")), &bodies); err != nil {
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
			body = bodies[""]
		}
		say(body, req.ID, seen[req.Method])
	}
}
