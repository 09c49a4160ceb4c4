package child

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestTelling: the line that says what is wrong is shown, whatever comes behind it.
func TestTelling(t *testing.T) {
	usage := strings.Repeat("  -flag string\n    \tsome address\n", 20)
	for name, c := range map[string]struct{ log, want string }{
		"ours": {`{"level":"info","time":"2026-01-01T00:00:00Z","msg":"policies in force","policies":1}
{"level":"error","time":"2026-01-01T00:00:01Z","msg":"ended","error":"listening on x: in use","addr":"x"}
{"level":"info","time":"2026-01-01T00:00:01Z","msg":"stopped"}
`, "listening on x: in use addr=x"},
		"Envoy": {"[2026-01-01 00:00:00.000][17][warning][main] [source/server/server.cc:1] odd\n" +
			"[2026-01-01 00:00:00.000][17][critical][main] [source/server/server.cc:421] error initializing config: no such file\n" +
			"[2026-01-01 00:00:00.000][17][info][main] [source/server/server.cc:999] exiting\n", "error initializing config: no such file"},
		"no end":     {`{"level":"error","msg":"keys not reloaded","error":"empty"}` + "\n", "keys not reloaded: empty"},
		"usage":      {"Error: no token given\n" + usage, "Error: no token given"},
		"our usage":  {"flag provided but not defined: -x\nUsage of authz:\n" + usage, "flag provided but not defined: -x"},
		"Python":     {"Traceback (most recent call last):\n  File \"x.py\", line 1\nModuleNotFoundError: No module named 'mcp'\n", "ModuleNotFoundError: No module named 'mcp'"},
		"a panic":    {"panic: runtime error: index out of range\n\ngoroutine 1 [running]:\nmain.main()\n", "panic: runtime error: index out of range"},
		"no mark":    {strings.Repeat("a\n", 20) + "\nlast  \n", strings.Repeat("a\n", 9) + "last"},
		"no warning": {`{"level":"warn","msg":"slow"}` + "\n", "slow"},
		"nothing":    {"", ""},
	} {
		lines, _ := Telling([]byte(c.log))
		if got := strings.Join(lines, "\n"); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

// TestRun: the error of a child that ends by itself says why before it says where to read on.
func TestRun(t *testing.T) {
	for script, want := range map[string]string{
		"echo 'Error: no door' >&2; echo usage >&2; exit 3": "x ended: exit status 3: Error: no door",
		"echo all is well; kill -9 $$":                      "x ended: signal: killed; it last wrote:\n  all is well",
		"true":                                              "x ended: exit status 0",
	} {
		log := filepath.Join(t.TempDir(), "x.log")
		err := Run(t.Context(), Config{Name: "x", Path: "/bin/sh", Args: []string{"-c", script}, Log: log})
		if want += "\n  log: " + log; err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", script, err, want)
		}
	}
}
