package backend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"
)

// maxMessage bounds one message of a backend, in bytes.
const maxMessage = 64 << 20

var errTooLong = errors.New("a message is longer than 64 MiB")

// events reads server-sent events (WHATWG HTML 9.2.6): lines end in CR, LF or CRLF, an event in an empty line.
type events struct {
	r     *bufio.Reader
	begun bool // the byte order mark is behind us
	cr    bool // the last line ended in CR: an LF that follows belongs to it
	ended bool // the last line had no end, and is behind us
	line  []byte
	data  []byte

	id    string        // of the last complete event, or of a later one that had no data (priming event)
	retry time.Duration // as the server wishes, 0 if it does not say
	limit int           // bytes of one event
	room  *room         // for the largest so far
}

func newEvents(r io.Reader, room *room) *events {
	return &events{r: bufio.NewReader(r), limit: maxMessage, room: room}
}

// next returns the data of the next event, of whatever name: servers give answers names of their own. It is valid until
// the next call. io.EOF ends the stream. An event that its empty line did not complete is one if its data is whole.
func (e *events) next() ([]byte, error) {
	e.data = e.data[:0]
	hasData, id := false, e.id
	for {
		line, err := e.readLine()
		if err == io.EOF && hasData && json.Valid(e.data) {
			return e.data, nil
		}
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			e.id = id
			if hasData && len(e.data) > 0 {
				return e.data, nil
			}
			e.data = e.data[:0]
			hasData = false
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "data":
			if hasData {
				e.data = append(e.data, '\n')
			}
			if len(e.data)+len(value) > e.limit {
				return nil, errTooLong
			}
			if err := e.room.grow(cap(e.line) + len(e.data) + len(value)); err != nil {
				return nil, err
			}
			e.data = append(e.data, value...)
			hasData = true
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				id = string(value)
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				e.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// readLine returns the next line without its end. The slice is valid until the next call.
func (e *events) readLine() ([]byte, error) {
	e.line = e.line[:0]
	for {
		if _, err := e.r.Peek(1); err != nil {
			if err == io.EOF && len(e.line) > 0 && !e.ended {
				e.ended = true
				return e.line, nil
			}
			return nil, err
		}
		buf, _ := e.r.Peek(e.r.Buffered())
		if e.cr {
			e.cr = false
			if buf[0] == '\n' {
				e.r.Discard(1)
				continue
			}
		}
		end := bytes.IndexByte(buf, '\n')
		if cr := bytes.IndexByte(buf[:max(end, 0)], '\r'); end > 0 && cr >= 0 {
			end = cr
		} else if end < 0 {
			end = bytes.IndexByte(buf, '\r')
		}
		part := buf
		if end >= 0 {
			part = buf[:end]
		}
		if len(e.line)+len(part) > e.limit+64 {
			return nil, errTooLong
		}
		if end < 0 {
			if err := e.room.grow(cap(e.data) + len(e.line) + len(part)); err != nil {
				return nil, err
			}
			e.line = append(e.line, part...)
			e.r.Discard(len(part))
			continue
		}
		e.cr = buf[end] == '\r'
		line := part
		if len(e.line) > 0 {
			e.line = append(e.line, part...)
			line = e.line
		}
		e.r.Discard(end + 1) // line may point into the buffer, which lives until the next read
		if !e.begun {
			e.begun = true
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		return line, nil
	}
}
