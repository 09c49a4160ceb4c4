package backend

import (
	"errors"
	"sync"
)

// maxQueued bounds what one call may have waiting for its client, in bytes: all calls of a child share its output, and
// one that does not read must not hold up the others (AG-29).
const maxQueued = 64 << 20

// mailbox holds the messages for one call until its Do takes them.
type mailbox struct {
	id      string
	asks    bool          // the server may ask the client something in the course of it
	listens bool          // a subscription: it lasts, and nothing else is a part of it
	wake    chan struct{} // holds one token while there may be something

	mu     sync.Mutex
	queue  [][]byte
	queued int
	room   room
	closed bool
	err    error
}

func (b *mailbox) take() ([][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages := b.queue
	b.queue, b.queued = nil, 0
	b.room.end()
	return messages, b.err
}

// close drops what nobody will take, now and later.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue, b.queued, b.closed = nil, 0, true
	b.room.end()
}

// put adds a message, or with a nil message ends the mailbox with err.
func (b *mailbox) put(msg []byte, err error) {
	b.mu.Lock()
	switch {
	case b.err != nil, b.closed:
	case err != nil:
		b.err = err
	case b.queued+len(msg) > maxQueued:
		b.queue, b.err = nil, errors.New("more than 64 MiB wait for a client that does not read")
		b.room.end()
	case b.room.grow(b.queued+len(msg)) != nil:
		b.queue, b.err = nil, errTooMuch
		b.room.end()
	default:
		b.queue = append(b.queue, msg)
		b.queued += len(msg)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
