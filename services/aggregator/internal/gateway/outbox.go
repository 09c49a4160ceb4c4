package gateway

import "sync/atomic"

const (
	maxLetters  = 64       // messages that wait for one stream
	maxMailbags = 16 << 20 // bytes of them
)

// letters are messages that wait for a stream to take them. What comes too much is lost, as it would be on a connection
// that broke: a client that does not read, or a server that says too much, costs no more memory than this.
type letters struct {
	box  chan []byte
	held atomic.Int64 // bytes in box
}

func newLetters() *letters { return &letters{box: make(chan []byte, maxLetters)} }

// put adds a message, which is the letters' from now on. False: it is lost.
func (l *letters) put(msg []byte) bool {
	n := int64(len(msg))
	if l.held.Add(n) > maxMailbags {
		l.held.Add(-n)
		return false
	}
	select {
	case l.box <- msg:
		return true
	default:
		l.held.Add(-n)
		return false
	}
}

// taken is called with each message that came out of the box.
func (l *letters) taken(msg []byte) { l.held.Add(-int64(len(msg))) }

// outbox leads to the client's open GET stream. Guarded by session.mu.
type outbox struct {
	*letters               // nil without a stream
	gone     chan struct{} // closed when the stream has to end: a newer one takes over, or the session ends
}

// close ends the stream.
func (o *outbox) close() {
	if o.gone != nil {
		close(o.gone)
	}
	*o = outbox{}
}

// follow makes the caller the session's stream, in place of an older one, until leave. False: the session has ended.
func (s *session) follow() (o outbox, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return o, false
	}
	s.outbox.close()
	s.outbox = outbox{newLetters(), make(chan struct{})}
	for _, b := range s.backends {
		b.Listen()
	}
	return s.outbox, true
}

func (s *session) leave(o outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.letters == o.letters {
		s.outbox = outbox{}
	}
}

// post puts a message into the GET stream; false without one, or when it is full.
func (s *session) post(msg []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outbox.letters != nil && s.outbox.put(msg)
}
