package gatewayconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one reason why a configuration cannot be used.
type Problem struct {
	File  string
	Line  int    // 1-based; 0 where the whole file is meant
	Field string // path of the field, such as spec.groupRef.name; empty for a whole document
	Text  string // what is wrong and what to do; never a secret's value
}

// String is the problem as file:line: field: text.
func (p Problem) String() string { return located(p.File, p.Line, p.Field, p.Text) }

// String is the note as file:line: field: text.
func (n Note) String() string { return located(n.File, n.Line, n.Field, n.Text) }

// Problems is the error of Load: all that is wrong, in order of file and line.
type Problems []Problem

// Error gives one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func located(file string, line int, field, text string) string {
	var b strings.Builder
	if file != "" {
		b.WriteString(file)
		if line > 0 {
			fmt.Fprintf(&b, ":%d", line)
		}
		b.WriteString(": ")
	}
	if field != "" {
		b.WriteString(field + ": ")
	}
	b.WriteString(text)
	return b.String()
}

func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(ps)
}

// didYouMean is `, did you mean "x"?` for the name of known that is nearest to got, or nothing.
func didYouMean(got string, known []string) string {
	if n := Nearest(got, known); n != "" {
		return fmt.Sprintf(", did you mean %q?", n)
	}
	return ""
}

// Nearest is the name of known that a person who wrote got most likely meant, or empty.
func Nearest(got string, known []string) string {
	best, bestDistance := "", max(2, len(got)/3)+1
	for _, k := range known {
		if strings.EqualFold(k, got) {
			return k
		}
		if d := distance(strings.ToLower(got), strings.ToLower(k)); d < bestDistance && d < len(k) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b)) // no name is that long
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
