// Package version says which build this is, from what the Go toolchain wrote into the binary. What is done with it is its
// callers': it is shown to people, in logs, and to MCP clients and servers.
package version

import "runtime/debug"

// built is set where the toolchain cannot ask git, by -ldflags "-X vmcp/internal/version.built=…": in images.
var built string

// String is what built says, else the module's version: v1.2.3 of a tag, v0.0.0-TIME-REVISION of another commit, with
// +dirty where files were changed. It is devel where the toolchain did not ask git: in tests, in a git worktree, with
// -buildvcs=false.
func String() string {
	if built != "" {
		return built
	}
	return read(debug.ReadBuildInfo())
}

func read(info *debug.BuildInfo, ok bool) string {
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}

// Go is the version of the toolchain that built it.
func Go() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.GoVersion
}
