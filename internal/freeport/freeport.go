// Package freeport finds loopback addresses for processes that are started later. It owns the promise that until then
// nobody takes one: not the system for an outgoing connection, not another part of this program, and not another program
// that asks here too, such as a second run of the tests.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// The ports are below those that the system gives to outgoing connections (32768 and up on Linux), in blocks. A program
// has a block for itself as long as it runs: it holds the lock of a file in the directory for temporary files.
const (
	first  = 20_000
	size   = 200
	blocks = 60
)

var own struct {
	sync.Mutex
	lock *os.File // held until the program ends; nil: no block yet
	base int
	next int
}

// Address is a free address of 127.0.0.1. It is not given again before all others of the block were.
func Address() (string, error) {
	own.Lock()
	defer own.Unlock()
	if own.lock == nil {
		if err := claim(); err != nil {
			return "", err
		}
	}
	for range size {
		address := fmt.Sprintf("127.0.0.1:%d", own.base+own.next)
		own.next = (own.next + 1) % size
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address, nil
		}
	}
	return "", fmt.Errorf("no free port between %d and %d", own.base, own.base+size)
}

// claim takes a block that no other program has.
func claim() error {
	for _, block := range rand.Perm(blocks) {
		base := first + block*size
		f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("vmcp-ports-%d", base)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			continue // another person's
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			own.lock, own.base = f, base
			return nil
		}
		f.Close()
	}
	return errors.New("no free ports: every block is taken by a running program")
}
