// Package durable keeps small files so that a power cut, a full disk or a killed process leaves the old text or the new
// one, never an empty or partial file. It owns the way of writing; what is kept, and by whom, is its callers'.
package durable

import (
	"io"
	"os"
	"path/filepath"
)

// Write replaces the file at path, mode 0600, or makes it. When it returns nil, data is on the disk; with an error the
// file is whole too, and most likely the old one. One caller at a time for each path.
//
// The text is first written beside it as .NAME.new, always the same name: what a crash leaves there, the next Write
// overwrites.
func Write(path string, data []byte) error { return write(system{}, path, data) }

// disk is what Write needs of the file system. The test has one whose power can be cut.
type disk interface {
	create(path string) (file, error) // empty, 0600
	rename(from, to string) error
	remove(path string)
	syncDir(path string) error
}

type file interface {
	io.WriteCloser
	Sync() error
}

func write(d disk, path string, data []byte) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	fresh := filepath.Join(dir, "."+name+".new")
	f, err := d.create(fresh)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // before the rename: else the name could be on the disk earlier than the text
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = d.rename(fresh, path)
	}
	if err != nil {
		d.remove(fresh)
		return err
	}
	return d.syncDir(dir)
}

type system struct{}

func (system) create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (system) rename(from, to string) error { return os.Rename(from, to) }

func (system) remove(path string) { os.Remove(path) } // what stays is overwritten next time

func (system) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
