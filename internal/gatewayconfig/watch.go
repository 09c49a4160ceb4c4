package gatewayconfig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"
)

// Watch loads src whenever its files, directories or secrets change, until ctx ends, and gives the outcome to changed: a
// new gateway, or an error of type Problems, after which the caller keeps the last good one. The first outcome comes
// after one tick, with what is there then, so that no change falls between a Load of the caller's and Watch; later ones
// come only if they differ from the one before. changed is never called twice at once.
//
// It looks at the files' names, sizes, times and inodes every so often, through symbolic links, as Kubernetes swaps those
// of mounted ConfigMaps and Secrets. What changed in the last tick may be half written and waits for the next.
func Watch(ctx context.Context, src Source, every time.Duration, changed func(*Gateway, error)) error {
	if every <= 0 {
		return errors.New("watching the configuration: the interval must be positive")
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	before, loaded, first := signature(src), "", true
	var last *Gateway
	var lastErr error
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := signature(src)
		stable := now == before
		before = now
		if !stable || now == loaded && !first {
			continue
		}
		gateway, err := Load(src)
		if before = signature(src); before != now {
			continue // changed while it was read
		}
		loaded = now
		if !first && sameError(err, lastErr) && reflect.DeepEqual(gateway, last) {
			continue
		}
		first, last, lastErr = false, gateway, err
		changed(gateway, err)
	}
}

func sameError(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
}

// signature changes when anything that Load may read does.
func signature(src Source) string {
	var b strings.Builder
	for _, path := range src.Paths {
		if sign(&b, path) {
			signAll(&b, path, isYAML)
		}
	}
	if src.Secrets != "" && sign(&b, src.Secrets) {
		signAll(&b, src.Secrets, func(string) bool { return true })
		for _, name := range list(src.Secrets) {
			signAll(&b, filepath.Join(src.Secrets, name), func(string) bool { return true })
		}
	}
	return b.String()
}

func signAll(b *strings.Builder, dir string, match func(name string) bool) {
	for _, name := range list(dir) {
		if match(name) {
			sign(b, filepath.Join(dir, name))
		}
	}
}

// list names the entries of a directory, in order; there are none in what is no directory.
func list(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// sign adds what tells one state of a file from another, and says whether it is a directory.
func sign(b *strings.Builder, path string) (dir bool) {
	info, err := os.Stat(path)
	if err != nil {
		fmt.Fprintf(b, "%q: %s\n", path, reason(err))
		return false
	}
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = uint64(st.Ino)
	}
	if info.IsDir() { // its entries speak for it
		fmt.Fprintf(b, "%q\n", path)
		return true
	}
	fmt.Fprintf(b, "%q %d %d %d\n", path, info.Size(), info.ModTime().UnixNano(), inode)
	return false
}
