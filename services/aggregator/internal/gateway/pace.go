package gateway

import (
	"net/http"
	"time"
)

// pieceTime is how long a client may take for a piece of what it is sent. One that reads slowly gets everything; one
// that does not read holds neither the answer in memory nor the call for longer.
var pieceTime = 30 * time.Second

const piece = 64 << 10

// send writes b in pieces and then at once sends what is in buffers on.
func send(w http.ResponseWriter, b []byte) error {
	c := http.NewResponseController(w)
	defer c.SetWriteDeadline(time.Time{}) // later writes on the connection have their own
	for len(b) > 0 {
		c.SetWriteDeadline(time.Now().Add(pieceTime))
		n, err := w.Write(b[:min(len(b), piece)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return c.Flush()
}
