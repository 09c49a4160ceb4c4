// Package audit is the record of every decision: one JSON object a line, in its own file. It owns the format. It holds
// no credential; what a client is never told, such as why, stands here.
package audit

import (
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"
)

// Record is one decision. Empty fields are left out.
type Record struct {
	Time       time.Time `json:"time"`
	Request    string    `json:"request,omitempty"` // x-request-id
	Decision   string    `json:"decision"`          // allow, deny, answer where nothing was decided, or note where nobody asked
	Reason     string    `json:"reason,omitempty"`
	Policies   []string  `json:"policies,omitempty"` // ids of the policies that decided
	Detail     string    `json:"detail,omitempty"`   // private cause
	Caller     string    `json:"caller,omitempty"`   // sub
	Client     string    `json:"client,omitempty"`   // client_id
	Token      string    `json:"token,omitempty"`    // jti
	ClientIP   string    `json:"client_ip,omitempty"`
	HTTPMethod string    `json:"http_method,omitempty"`
	Era        string    `json:"era,omitempty"`
	Method     string    `json:"method,omitempty"` // JSON-RPC
	Name       string    `json:"name,omitempty"`   // advertised name or URI
	Backend    string    `json:"backend,omitempty"`
	Original   string    `json:"original,omitempty"`
	Definition string    `json:"definition,omitempty"` // digest of the item's definition
	Revision   string    `json:"revision,omitempty"`   // of the policies
	Catalog    string    `json:"catalog,omitempty"`    // digest
}

// Log writes records. Each is written before the decision is given, so that no allowed call is missing from it.
// A nil Log writes nothing.
type Log struct {
	failed func(error)

	mu   sync.Mutex
	w    io.Writer
	bad  bool
	torn bool // a part of a line stands at the end
}

// New makes a log; failed is told when writing begins to fail.
func New(w io.Writer, failed func(error)) *Log { return &Log{w: w, failed: failed} }

// Write appends one record. After an error nothing may be allowed that the record was about.
func (l *Log) Write(r Record) error {
	if l == nil {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.torn { // it must not swallow this record
		b = slices.Insert(b, 0, '\n')
	}
	n, err := l.w.Write(b)
	l.torn = err != nil && (l.torn || n > 0)
	if err != nil && !l.bad {
		l.failed(err)
	}
	l.bad = err != nil
	return err
}
