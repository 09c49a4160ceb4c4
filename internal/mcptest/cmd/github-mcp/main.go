// Command github-mcp is the demo's GitHub server: stdio, or --http ADDRESS.
package main

import "vmcp/internal/mcptest"

func main() { mcptest.Main(mcptest.GitHub) }
