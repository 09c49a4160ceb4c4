package gatewayconfig

import (
	"errors"
	"flag"
)

// Flags declares what every service is told of the documents in the same words: -config, -name, -secrets, -loopback.
func (s *Source) Flags(fs *flag.FlagSet) {
	fs.Func("config", "YAML `file or directory` with the gateway's documents; may be repeated", func(path string) error {
		s.Paths = append(s.Paths, path)
		return nil
	})
	fs.StringVar(&s.Name, "name", s.Name, "the VirtualMCPServer to run, where the documents hold several")
	fs.StringVar(&s.Secrets, "secrets", s.Secrets, "`directory` of secrets: <secret name>/<key>")
	fs.BoolVar(&s.Loopback, "loopback", s.Loopback, "accept issuers and backends on this machine by plain http")
}

// Check says what is wrong with the flags before anything is read.
func (s *Source) Check() error {
	if len(s.Paths) == 0 {
		return errors.New("-config is missing: name the YAML files of the gateway")
	}
	return nil
}
