// Command kubernetes-mcp is the demo's Kubernetes server: stdio, or --http ADDRESS.
package main

import "vmcp/internal/mcptest"

func main() { mcptest.Main(mcptest.Kubernetes) }
