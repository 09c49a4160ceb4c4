package gateway

import ()

// outbox leads to the client's open GET stream. Guarded by session.mu.
type outbox struct {
	box  chan []byte   // nil without a stream
	gone chan struct{} // closed when the stream has to end: a newer one takes over, or the session ends
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
	s.outbox = outbox{make(chan []byte, 64), make(chan struct{})}
	for _, b := range s.backends {
		b.Listen()
	}
	return s.outbox, true
}

func (s *session) leave(o outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.box == o.box {
		s.outbox = outbox{}
	}
}

// post puts a message into the GET stream; without one, or when it is full, the message is lost, as it would be on a
// connection that broke.
func (s *session) post(msg []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.outbox.box <- msg: // a nil channel is never ready
		return true
	default:
		return false
	}
}
