package mtls

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"vmcp/internal/loopback"
)

// maxSocketPath is what fits into sockaddr_un on Linux, without the final zero byte.
const maxSocketPath = 107

// Listen opens addr: `unix:/path`, or `host:port` on loopback. The socket is 0600, to be put in a directory that is
// 0700. A socket that a dead process left behind is replaced; one that somebody serves, or a file of another kind, is an
// error. What other machines reach is opened by Identity.Listen.
func Listen(addr string) (net.Listener, error) {
	path, unix := strings.CutPrefix(addr, "unix:")
	if !unix {
		if !loopback.Address(addr) {
			return nil, fmt.Errorf("listening on %s: other machines reach it: %w", addr, errNoIdentity)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", addr, err)
		}
		return l, nil
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listening on %s: the path has %d bytes, at most %d fit: use a shorter directory", addr, len(path), maxSocketPath)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("a file that is no socket is in the way")
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return errors.New("another process serves it")
	}
	return os.Remove(path)
}

// Network returns the network and address for net.Dial of an address in the form that Listen takes.
func Network(addr string) (network, address string) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "unix", path
	}
	return "tcp", addr
}

// target returns the gRPC target of an address in the form that Listen takes.
func target(addr string) string {
	network, address := Network(addr)
	if network == "unix" {
		return "unix:" + address
	}
	return "dns:///" + address
}
