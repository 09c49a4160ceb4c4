package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
)

// parse reads the arguments of a command, flags and names in any order, and returns the names. Whoever asks with -h gets
// the help and the flags on stdout.
func parse(fs *flag.FlagSet, help string, args []string, stdout, stderr io.Writer) (names []string, err error) {
	fs.Init(fs.Name(), flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for len(args) > 0 {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, help)
			fs.SetOutput(stdout)
			flags := false
			fs.VisitAll(func(*flag.Flag) { flags = true })
			if flags {
				fmt.Fprintf(stdout, "\nflags:\n")
				fs.PrintDefaults()
			}
			return nil, errHelp
		}
		if err != nil {
			return nil, wrongUsage(fs, stderr, err.Error())
		}
		if args = fs.Args(); len(args) > 0 {
			names = append(names, args[0])
			args = args[1:]
		}
	}
	return names, nil
}

// wrongUsage says what is wrong with the arguments, and where to read on.
func wrongUsage(fs *flag.FlagSet, stderr io.Writer, text string) error {
	fmt.Fprintf(stderr, "%s: %s\n%[1]s -h says how it is used\n", fs.Name(), text)
	return errUsage
}

// format is the flag -o: how a command prints what it found.
type format bool

const jsonFormat format = true

func formatFlag(fs *flag.FlagSet) *format {
	var f format
	fs.Func("o", "`format` of the output: text or json (default text)", func(v string) error {
		if f = v == "json"; !f && v != "text" {
			return errors.New("want text or json")
		}
		return nil
	})
	return &f
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
