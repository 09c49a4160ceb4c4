package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandBlocks(t *testing.T) {
	for name, c := range map[string]struct {
		page string
		want []block
		err  string
	}{
		"indented":             {"Run\n\n    a\n\n      b\n\nand", []block{{3, "", "a\n\n  b"}}, ""},
		"no block in a text":   {"Run\n    a", nil, ""},
		"fenced":               {"```sh\na\n```\n```text\nb\n```", []block{{1, "", "a"}}, ""},
		"fenced in a list":     {"1. Run\n\n   ```bash\n   a\n     b\n   ```", []block{{3, "", "a\n  b"}}, ""},
		"marked":               {"<!-- not run: it rains -->\n\n    a\n\n    b", []block{{3, "not run: it rains", "a\n\nb"}}, ""},
		"an output":            {"<!-- output -->\n```text\na\n```", []block{{2, "output", "a"}}, ""},
		"no language":          {"```\na\n```", nil, "1: say of which language"},
		"no end":               {"```sh\na", nil, "1: a fence without an end"},
		"another form":         {"```sh -e\na\n```", nil, "1: a fence of a form"},
		"a mark of nothing":    {"<!-- output -->\n\ntext", nil, "3: the comment before it marks no block"},
		"a mark and no reason": {"<!-- not run -->\n\n    a", []block{{3, "", "a"}}, ""},
	} {
		got, err := commandBlocks(c.page)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want an error with %q", name, err, c.err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(block{})); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}
