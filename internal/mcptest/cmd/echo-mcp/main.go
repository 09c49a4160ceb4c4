// Command echo-mcp is the benchmark's backend: --tools N tools that return their argument, over stdio or --http ADDRESS.
package main

import (
	"flag"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vmcp/internal/mcptest"
)

func main() {
	tools := flag.Int("tools", 10, "number of tools")
	mcptest.Main(func(versions []string) *mcp.Server { return mcptest.Echo(*tools, versions) })
}
