// Command mutants changes one operator at a time in the packages that it is given and runs their tests. It fails where
// they pass all the same, unless docs/testing.md says why that change makes no difference.
//
// Run it from the root: a survivor is known there by its package, the operator and the text of its line, as line numbers
// move.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

const list = "docs/testing.md"

func main() {
	text, err := os.ReadFile(list)
	if err != nil {
		fail(err)
	}
	survived := false
	for _, pkg := range os.Args[1:] {
		if err := run(pkg, equal(string(text)), &survived); err != nil {
			fail(fmt.Errorf("%s: %w", pkg, err))
		}
	}
	if survived {
		fail(fmt.Errorf("give each of them a case in a test, or a line in the table of %s if it changes nothing", list))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mutants:", err)
	os.Exit(1)
}

// equal reads the table: | package | operator | `line` | why |. A line in it has \| for |, as Markdown wants.
func equal(text string) map[string]bool {
	known := map[string]bool{}
	for row := range strings.Lines(text) {
		cells := strings.Split(strings.ReplaceAll(row, `\|`, "\x00"), "|")
		if len(cells) != 6 {
			continue
		}
		line := strings.ReplaceAll(strings.Trim(strings.TrimSpace(cells[3]), "`"), "\x00", "|")
		known[key(strings.Trim(strings.TrimSpace(cells[1]), "`"), strings.TrimSpace(cells[2]), line)] = true
	}
	return known
}

func key(pkg, operator, line string) string {
	return pkg + "\n" + operator + "\n" + strings.TrimSpace(line)
}

// run prints every survivor that is not known, and one line in the end.
func run(pkg string, known map[string]bool, survived *bool) error {
	out := filepath.Join(".run", "mutants-"+strings.ReplaceAll(pkg, "/", "-"))
	if err := os.MkdirAll(".run", 0o755); err != nil {
		return err
	}
	os.Remove(out + ".json")
	log, err := os.Create(out + ".txt")
	if err != nil {
		return err
	}
	defer log.Close()
	// A test that hangs is a change that was found; tests that are only slow must not count as that.
	cmd := exec.Command(".tools/bin/gremlins", "unleash", "./"+pkg, "--exclude-files", "test/", "--workers", "1", "--timeout-coefficient", "30", "-o", out+".json")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w, see %s.txt", err, out)
	}
	raw, err := os.ReadFile(out + ".json")
	if err != nil {
		return err
	}
	var result struct {
		Files []struct {
			Name      string `json:"file_name"`
			Mutations []struct {
				Type, Status string
				Line, Column int
			}
		}
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return err
	}
	count := map[string]int{}
	for _, f := range result.Files {
		name := path.Join(pkg, f.Name)
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		lines := bytes.Split(source, []byte("\n"))
		for _, m := range f.Mutations {
			if m.Status == "LIVED" {
				line := string(lines[m.Line-1])
				if known[key(pkg, m.Type, line)] {
					m.Status = "EQUAL"
				} else {
					*survived = true
					fmt.Printf("%s:%d:%d: %s: %s\n", name, m.Line, m.Column, m.Type, strings.TrimSpace(line))
				}
			}
			count[m.Status]++
		}
	}
	if count["KILLED"] == 0 {
		return fmt.Errorf("no change was found by a test: does it run? See %s.txt", out)
	}
	fmt.Printf("%s: %d found, %d by running out of time, %d survived, %d of them listed as equal, %d not run by tests\n", pkg, count["KILLED"]+count["TIMED OUT"],
		count["TIMED OUT"], count["LIVED"]+count["EQUAL"], count["EQUAL"], count["NOT COVERED"])
	return nil
}
