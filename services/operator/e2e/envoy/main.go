// Command envoy prints where Envoy is, and installs it under its argument where it is nowhere.
package main

import (
	"context"
	"fmt"
	"os"

	"vmcp/internal/envoyproc"
)

func main() {
	path, err := envoyproc.Find(context.Background(), os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
