// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"sync"
	"time"
)

// A lane carries stanzas of one link in one direction, in order, and lets the
// rules interfere. Its goroutine ends when the lane is stopped, or when it has been
// finished and is empty.
type lane struct {
	kind Kind
	dir  Direction
	fs   *faults
	wire *Wire
	emit func(item) bool // false stops the lane
	cut  func(last *Element)
	stop <-chan struct{}
	max  int // items; put blocks (In) or fails (Out) beyond

	mu       sync.Mutex
	peer     string
	q        []item
	held     []held
	finished bool
	dead     bool
	wake     chan struct{}
	room     chan struct{}
}

type item struct {
	el    *Element
	raw   []byte // written as it is, when el is nil
	due   time.Time
	fault *Fault
	act   Action
}

type held struct {
	it    item
	after int
	until time.Time
}

func newLane(kind Kind, peer string, dir Direction, limit int, fs *faults, wire *Wire, stop <-chan struct{}) *lane {
	return &lane{kind: kind, peer: peer, dir: dir, fs: fs, wire: wire, stop: stop, max: limit,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put adds a stanza and reports false when the lane is full. What is put into a lane
// that is over is lost, as on a connection that closes.
func (l *lane) put(el *Element) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || l.finished {
		return true
	}
	if len(l.q) >= l.max {
		return false
	}
	l.add(el)
	return true
}

// wait is put that waits for room: it slows the sender down, as a full socket does.
func (l *lane) wait(el *Element) bool {
	for {
		l.mu.Lock()
		if l.dead || l.finished {
			l.mu.Unlock()
			return false
		}
		if len(l.q) < l.max {
			l.add(el)
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock()
		select {
		case <-l.room:
		case <-l.stop:
			return false
		}
	}
}

func (l *lane) add(el *Element) {
	f, delay := l.fs.hit(l.kind, l.peer, l.dir, el)
	it := item{el: el, fault: f}
	if f != nil {
		it.act = f.rule.Action
	}
	if l.dir == In || it.act == Drop {
		l.wire.add(Record{Kind: l.kind, Peer: l.peer, Dir: l.dir, Fault: it.act, Element: el})
	}
	switch it.act {
	case Drop:
		return
	case Delay:
		it.due = time.Now().Add(delay)
	case Double:
		l.q = append(l.q, it)
	case Reorder:
		l.held = append(l.held, held{it, f.rule.Depth, time.Now().Add(delay)})
		signal(l.wake)
		return
	}
	l.q = append(l.q, it)
	kept := l.held[:0]
	for _, h := range l.held {
		if h.after--; h.after <= 0 {
			l.q = append(l.q, h.it)
		} else {
			kept = append(kept, h)
		}
	}
	l.held = kept
	signal(l.wake)
}

// raw adds bytes that no rule sees: the end of a stream.
func (l *lane) raw(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead && !l.finished {
		l.q = append(l.q, item{raw: b})
		signal(l.wake)
	}
}

// finish lets the lane end when it is empty.
func (l *lane) finish() {
	l.mu.Lock()
	l.finished = true
	l.mu.Unlock()
	signal(l.wake)
}

// clear throws away what waits.
func (l *lane) clear() {
	l.mu.Lock()
	l.q, l.held = nil, nil
	l.mu.Unlock()
	signal(l.room)
}

// run is the lane's goroutine.
func (l *lane) run() {
	defer func() {
		l.mu.Lock()
		l.dead, l.q, l.held = true, nil, nil
		l.mu.Unlock()
	}()
	for {
		changed := l.fs.changes()
		it, ok, pause, done := l.next()
		if done {
			return
		}
		if !ok {
			if pause <= 0 {
				pause = time.Hour
			}
			t := time.NewTimer(pause)
			select {
			case <-l.wake:
			case <-changed:
			case <-t.C:
			case <-l.stop:
				t.Stop()
				return
			}
			t.Stop()
			continue
		}
		signal(l.room)
		select {
		case <-l.stop:
			return
		default:
		}
		if !l.pass(it) {
			return
		}
	}
}

// pass hands one item on, or breaks the link.
func (l *lane) pass(it item) bool {
	switch it.act {
	case Cut:
		l.cut(nil)
		return l.kind == S2S
	case CutMid:
		l.cut(it.el)
		return l.kind == S2S
	}
	if l.dir == Out && it.el != nil {
		l.wire.add(Record{Kind: l.kind, Peer: l.peer, Dir: l.dir, Fault: it.act, Element: it.el})
	}
	if !l.emit(it) {
		return false
	}
	if it.act == CutNext {
		l.cut(nil)
		return l.kind == S2S
	}
	return true
}

// next takes the first item that may go; or tells how long to wait for it (0 = for a
// signal); or that nothing will come any more.
func (l *lane) next() (it item, ok bool, pause time.Duration, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(l.held) > 0 && (l.finished || !now.Before(l.held[0].until)) {
		l.q = append(l.q, l.held[0].it)
		l.held = l.held[1:]
	}
	if len(l.q) == 0 {
		if len(l.held) > 0 {
			return it, false, l.held[0].until.Sub(now), false
		}
		return it, false, 0, l.finished
	}
	it = l.q[0]
	if it.act == Stall && !it.fault.over() {
		return it, false, 0, false
	}
	if d := it.due.Sub(now); d > 0 {
		return it, false, d, false
	}
	l.q[0] = item{}
	l.q = l.q[1:]
	return it, true, 0, false
}
