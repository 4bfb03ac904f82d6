// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"fmt"
	"sync"
	"time"
)

// Kind is the kind of a link.
type Kind string

// The kinds of links.
const (
	C2S       Kind = "c2s"
	Component Kind = "component"
	S2S       Kind = "s2s"
)

// Direction is seen from the server that keeps the log.
type Direction string

// The directions of a stanza.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// A Record is one stanza on one link.
type Record struct {
	N       uint64 // counts from 1 in the order of the log
	At      time.Time
	Kind    Kind
	Peer    string // full JID of a client, domain of a component, domain of the other server
	Dir     Direction
	Fault   Action // what a rule did to it, if anything
	Element *Element
}

// XML is the stanza as text.
func (r Record) XML() string { return r.Element.String() }

// String is one line for a log.
func (r Record) String() string {
	arrow := "->"
	if r.Dir == Out {
		arrow = "<-"
	}
	fault := ""
	if r.Fault != "" {
		fault = " [" + string(r.Fault) + "]"
	}
	return fmt.Sprintf("%s %s %s%s %s", r.Kind, r.Peer, arrow, fault, r.XML())
}

// Wire is the log of every stanza that the server read or wrote, oldest first.
// It keeps the last [Options.WireRecords]. Streams' negotiation is not in it, so it
// holds no passwords. It is safe for concurrent use.
type Wire struct {
	mu    sync.Mutex
	ring  []Record
	next  uint64
	max   int
	watch map[int]func(Record)
	ids   int
}

func (w *Wire) add(r Record) {
	r.At = time.Now()
	w.mu.Lock()
	w.next++
	r.N = w.next
	if len(w.ring) < w.max {
		w.ring = append(w.ring, r)
	} else if w.max > 0 {
		w.ring[(r.N-1)%uint64(w.max)] = r
	}
	for _, f := range w.watch {
		f(r)
	}
	w.mu.Unlock()
}

// Records is a copy of what is kept.
func (w *Wire) Records() []Record { return w.Since(0) }

// Since is a copy of the kept records with N greater than n.
func (w *Wire) Since(n uint64) []Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Record
	first := w.next - uint64(len(w.ring)) + 1
	for i := max(first, n+1); i <= w.next; i++ {
		out = append(out, w.ring[(i-1)%uint64(w.max)])
	}
	return out
}

// Last is the number of the newest record, for [Wire.Since].
func (w *Wire) Last() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}

// Watch calls f for each new record, in order, until stop is called. f runs while
// stanzas wait: it must be quick and must not call the server.
func (w *Wire) Watch(f func(Record)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watch == nil {
		w.watch = make(map[int]func(Record))
	}
	w.ids++
	id := w.ids
	w.watch[id] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watch, id)
	}
}
