package gatewayconfig

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// migrated names the fields that differ, without the line, and what else came.
func migrated(t *testing.T, file string) (fields []string, m *Migration) {
	t.Helper()
	m = Migrate(Source{Paths: []string{"testdata/migrate/" + file}, Loopback: true})
	if len(m.Problems) > 0 || m.Gateway == nil {
		t.Fatalf("%s: %v", file, m.Problems)
	}
	for _, d := range m.Differences {
		fields = append(fields, d.Field)
	}
	return fields, m
}

// TestMigrate: each row of the table is told where its field is, or is not, and nowhere else.
func TestMigrate(t *testing.T) {
	all, m := migrated(t, "all.yaml")
	plain, _ := migrated(t, "plain.yaml")
	for _, row := range differences {
		in, want := all, strings.ReplaceAll(row.pattern, "[]", "[0]")
		if row.absent && row.pattern == "spec.config.aggregation" {
			in = plain
		}
		if !slices.Contains(in, want) {
			t.Errorf("%s is not told, only %q", want, in)
		}
	}
	for _, never := range []string{"spec.incomingAuth.authzConfig.groupClaimName", "spec.config.operational.failureHandling.partialFailureMode", "spec.authServerConfig.signingKeySecretRefs"} {
		if slices.Contains(plain, never) {
			t.Errorf("%s is told where it is as ever", never)
		}
	}
	if slices.Contains(all, "spec.config.aggregation") {
		t.Error("names are told where they are configured")
	}
	policies := 0
	for _, f := range all {
		if strings.HasPrefix(f, "spec.incomingAuth.authzConfig.inline.policies[") {
			policies++
		}
	}
	if policies != len(inPolicies) {
		t.Errorf("%d remarks on policies, want %d", policies, len(inPolicies))
	}
	var unused []string
	for _, n := range m.Unused {
		unused = append(unused, n.Field+" "+n.Text)
	}
	text := strings.Join(unused, "\n")
	for _, want := range []string{"EmbeddingServer", "Deployment", "spec.sessionStorage"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says that %s is not used:\n%s", want, text)
		}
	}
	if m.Same < 15 {
		t.Errorf("%d fields are the same", m.Same)
	}
	if m := Migrate(Source{Paths: []string{"testdata/migrate"}}); len(m.Problems) == 0 || m.Gateway != nil {
		t.Error("documents that cannot be loaded have no problems")
	}
}

// TestMigratePage: docs/from-toolhive.md has the rows of the tables.
func TestMigratePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/from-toolhive.md")
	if err != nil {
		t.Fatal(err)
	}
	row := func(cells ...string) {
		t.Helper()
		if line := "| " + strings.Join(cells, " | ") + " |\n"; !strings.Contains(string(page), strings.ReplaceAll(line, "|  |", "| |")) {
			t.Errorf("docs/from-toolhive.md lacks the row\n%s", line)
		}
	}
	for _, d := range differences {
		field := d.kind + " `" + d.pattern + "`"
		switch {
		case d.absent:
			field += ", absent"
		case d.value != "":
			field += " `" + d.value + "`"
		}
		row(field, d.change, d.reason)
	}
	for _, p := range inPolicies {
		row(p.what, p.change, p.reason)
	}
}
