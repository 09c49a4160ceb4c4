package backend

import (
	"errors"
	"io"
	"sync/atomic"
)

// maxHeld bounds what is held of one backend's messages while they come or wait, in bytes, so that one that answers many
// calls with much cannot take the gateway's memory from the others. What is above counts against the call that it is for.
const maxHeld = 256 << 20

// uncounted is the size up to which a message does not count: there are too many such, and they take no room.
const uncounted = 1 << 20

var errTooMuch = errors.New("the answers of this server that are being read come to more than 256 MiB")

// budget is what is held of one backend.
type budget struct {
	most int64 // maxHeld
	held atomic.Int64
}

// room is one reader's part of the budget, for one goroutine. The zero value has none, and counts nothing.
type room struct {
	of *budget
	n  int64
}

// grow makes the room n bytes, if it is not as much.
func (r *room) grow(n int) error {
	if r.of == nil || n <= uncounted || int64(n) <= r.n {
		return nil
	}
	to := int64(n+uncounted-1) / uncounted * uncounted
	if r.of.held.Add(to-r.n) > r.of.most {
		r.of.held.Add(r.n - to)
		return errTooMuch
	}
	r.n = to
	return nil
}

// end gives it back.
func (r *room) end() {
	if r.of != nil {
		r.of.held.Add(-r.n)
		r.n = 0
	}
}

// counted reads r and holds what was read.
type counted struct {
	r    io.Reader
	room *room
	n    int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	if over := c.room.grow(c.n); over != nil {
		return 0, over
	}
	return n, err
}
