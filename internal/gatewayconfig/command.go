package gatewayconfig

import (
	"vmcp/internal/stdio"
)

// CommandAnnotation is read by the operator too, for images that no registry tells about.
const CommandAnnotation = "vmcp/command"

// command reads the program that stands for a server's image. Documents come from clusters and repositories too, so only
// `vmcp up`, whose user named the file on this machine, runs what it says; no service does.
func (r *resolver) command(d *document, b *Backend) {
	text, given := metaOf(d.object).Annotations[CommandAnnotation]
	if !given {
		return
	}
	at := join("metadata.annotations", CommandAnnotation)
	switch words, err := stdio.Words(text); {
	case err != nil:
		d.bad(at, "want a command line: %v", err)
	case len(words) == 0 || words[0] == "":
		d.bad(at, "want a command line: a program and its arguments")
	case b.Transport != TransportStdio:
		d.bad(at, "a command is spoken to by transport stdio only")
	case !r.src.Loopback:
		r.note(d, at, "ignored: only `vmcp up` runs commands of documents")
	default:
		b.Command = text
	}
}
