package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// SyntaxError is one problem of one policy text.
type SyntaxError struct {
	File string
	Line int // in File, from 1
	Text string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// statement is one policy as written, up to its semicolon.
type statement struct {
	text     string
	line     int // lines before text
	template int // line of a slot such as ?principal within text, from 1; 0: none
}

// statements cuts a text at the semicolons that end policies, so that one broken policy hides no problem of the next.
// cedar-go's parser stops at the first.
func statements(text string) []statement {
	var all []statement
	start, line, first, blank, template := 0, 0, 0, true, 0
	cut := func(end int) {
		if !blank {
			all = append(all, statement{text[start:end], first, template})
		}
		start, first, blank, template = end, line, true, 0
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			line++
		case c == '/' && strings.HasPrefix(text[i:], "//"):
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == '"':
			blank = false
			for i+1 < len(text) && text[i+1] != '"' && text[i+1] != '\n' {
				if i++; text[i] == '\\' && i+1 < len(text) && text[i+1] != '\n' {
					i++
				}
			}
			if i+1 < len(text) && text[i+1] == '"' {
				i++
			}
		case c == ';':
			blank = false
			cut(i + 1)
		case c == '?' && template == 0:
			template, blank = line-first+1, false
		case c != ' ' && c != '\t' && c != '\r':
			blank = false
		}
	}
	cut(len(text))
	return all
}

// where matches the position in cedar-go's messages, which have no field for it.
var where = regexp.MustCompile(`(?:parse error at )?<input>:(\d+):\d+:? ?`)

// parse compiles one statement that starts at line of file.
func (s statement) parse(file string, line int) (*ast.Policy, error) {
	if s.template > 0 {
		return nil, &SyntaxError{file, line + s.template - 1,
			"policy templates (?principal, ?resource) are not supported: write one policy for each entity"}
	}
	list, err := cedar.NewPolicyListFromBytes(file, []byte(s.text))
	if err != nil {
		msg := strings.TrimPrefix(err.Error(), "parser error: ")
		if m := where.FindStringSubmatchIndex(msg); m != nil {
			within, _ := strconv.Atoi(msg[m[2]:m[3]])
			line += within - 1
			msg = msg[:m[0]] + msg[m[1]:]
			if _, found, ok := strings.Cut(msg, ": exact got "); ok {
				msg = "found " + strings.Replace(found, " want ", ", want ", 1)
			} else if strings.HasPrefix(msg, `"`) {
				msg = "at " + msg
			}
		}
		return nil, &SyntaxError{file, line, "not a Cedar policy: " + msg}
	}
	if len(list) != 1 {
		return nil, &SyntaxError{file, line, "not a Cedar policy: found several where one was expected"}
	}
	return (*ast.Policy)(list[0].AST()), nil
}
