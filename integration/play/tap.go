// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"
)

// A Tap stands in the middle of one link, between an actor or a delivery service and
// its server. It sees each stanza as the bytes it is, writes it down, and lets the
// script's faults interfere: so that faults work on every world. "to" and "from" are
// seen from the one who dials.
type Tap struct {
	Name string // of who dials
	log  *XMLLog

	mu    sync.Mutex
	rules []*Fault
	conns map[*tapConn]bool
	freed chan struct{} // closed and replaced when a rule is removed
}

// Directions of a Fault.
const (
	From = "from"
	To   = "to"
)

// A Fault is what a tap does to some stanzas.
type Fault struct {
	Action string // drop, double, reorder, delay, cut, stall, outdate, or at
	Dir    string // From or To
	Match  *regexp.Regexp
	Skip   int
	Count  int // 0 = all
	Delay  time.Duration
	Then   func() // for "at": runs before the stanza is passed on, which waits for it

	seen, hits int
	played     int // how often Then has returned
	over       bool
	first      []byte // for "outdate": what the first stanza that it acts on held
}

// NewTap makes a tap that writes to a log, which may be nil.
func NewTap(name string, log *XMLLog) *Tap {
	return &Tap{Name: name, log: log, conns: make(map[*tapConn]bool), freed: make(chan struct{})}
}

// Add puts a fault in force.
func (t *Tap) Add(f *Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules = append(t.rules, f)
}

// Clear removes all faults.
func (t *Tap) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.rules {
		f.over = true
	}
	t.rules = nil
	close(t.freed)
	t.freed = make(chan struct{})
}

// awaits names a fault "at" whose sentence has not been played as often as it should;
// "" if there is none.
func (t *Tap) awaits() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.rules {
		if f.Then != nil && f.played < f.Count {
			return fmt.Sprintf("%v %s %s", f.Match, f.Dir, t.Name)
		}
	}
	return ""
}

// Hits counts the stanzas that faults acted on.
func (t *Tap) Hits() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, f := range t.rules {
		n += f.hits
	}
	return n
}

// Cut breaks all connections through the tap.
func (t *Tap) Cut() {
	t.mu.Lock()
	conns := make([]*tapConn, 0, len(t.conns))
	for c := range t.conns {
		conns = append(conns, c)
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
}

// outdate gives a stanza what the first one held that the fault acted on: so a service
// answers a new question with an old answer.
func (t *Tap) outdate(f *Fault, stanza []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := bytes.IndexByte(stanza, '>') + 1
	to := bytes.LastIndex(stanza, []byte("</"))
	if from > to {
		return stanza // it holds nothing
	}
	if f.first == nil {
		f.first = bytes.Clone(stanza[from:to])
		return stanza
	}
	return slices.Concat(stanza[:from], f.first, stanza[to:])
}

// hit is the first fault that acts on a stanza.
func (t *Tap) hit(dir string, stanza []byte) *Fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.rules {
		if f.Dir != dir || f.Match != nil && !f.Match.Match(stanza) || f.Count > 0 && f.hits >= f.Count {
			continue
		}
		if f.seen++; f.seen <= f.Skip {
			continue
		}
		f.hits++
		return f
	}
	return nil
}

// Wrap puts the tap into a connection to the server: what it returns is the dialer's end.
func (t *Tap) Wrap(server net.Conn) net.Conn {
	near, far := net.Pipe()
	c := &tapConn{t: t, near: far, far: server, done: make(chan struct{})}
	t.mu.Lock()
	t.conns[c] = true
	t.mu.Unlock()
	go c.pump(From, far, server)
	go c.pump(To, server, far)
	return near
}

// A Listener is a tap with an address, for a process that dials by itself.
type Listener struct {
	*Tap
	ln   net.Listener
	addr string
}

// Listen lets a tap listen on a free port of 127.0.0.1 and connect to addr.
func Listen(tap *Tap, addr string) (*Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("play: %w", err)
	}
	l := &Listener{Tap: tap, ln: ln, addr: addr}
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.DialTimeout("tcp", addr, 10*time.Second)
			if err != nil {
				nc.Close()
				continue
			}
			c := &tapConn{t: l.Tap, near: nc, far: server, done: make(chan struct{})}
			l.Tap.mu.Lock()
			l.Tap.conns[c] = true
			l.Tap.mu.Unlock()
			go c.pump(From, nc, server)
			go c.pump(To, server, nc)
		}
	}()
	return l, nil
}

// Addr is where to dial.
func (l *Listener) Addr() string { return l.ln.Addr().String() }

// Close ends the listener and what goes through it.
func (l *Listener) Close() {
	l.ln.Close()
	l.Clear()
	l.Cut()
}

type tapConn struct {
	t         *Tap
	near, far net.Conn
	once      sync.Once
	done      chan struct{}
}

func (c *tapConn) close() {
	c.once.Do(func() {
		close(c.done)
		c.near.Close()
		c.far.Close()
		c.t.mu.Lock()
		delete(c.t.conns, c)
		c.t.mu.Unlock()
	})
}

type piece struct {
	b    []byte
	due  time.Time
	late bool // the next one overtakes it
}

var errCut = errors.New("play: the script cuts the link")

// overtaken bounds how long a stanza waits for another to overtake it.
const overtaken = 300 * time.Millisecond

// pump passes stanzas in one direction. A second goroutine writes, so that delays do
// not add up and a slow reader is not told from a slow link.
func (c *tapConn) pump(dir string, r, w net.Conn) {
	out := make(chan piece, 4096)
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write(out, w)
	}()
	send := func(p piece) bool {
		select {
		case out <- p:
			return true
		case <-c.done:
			return false
		}
	}
	err := c.pass(dir, newCutter(r), send)
	close(out)
	// What was passed on before the end still arrives.
	if errors.Is(err, io.EOF) || errors.Is(err, errCut) {
		<-written
	}
	c.close()
}

func (c *tapConn) write(out <-chan piece, w net.Conn) {
	var held [][]byte
	for {
		var timer <-chan time.Time
		if held != nil {
			timer = time.After(overtaken)
		}
		select {
		case p, ok := <-out:
			if p.late {
				held = append(held, p.b)
				continue
			}
			if d := time.Until(p.due); d > 0 {
				select {
				case <-time.After(d):
				case <-c.done:
					return
				}
			}
			for _, b := range append([][]byte{p.b}, held...) {
				if _, err := w.Write(b); err != nil {
					c.close()
					return
				}
			}
			held = nil
			if !ok {
				return
			}
		case <-timer:
			for _, b := range held {
				if _, err := w.Write(b); err != nil {
					c.close()
					return
				}
			}
			held = nil
		}
	}
}

func (c *tapConn) pass(dir string, cut *cutter, send func(piece) bool) error {
	for {
		b, stanza, err := cut.next()
		if err != nil {
			return err
		}
		if !stanza {
			if !send(piece{b: b}) {
				return net.ErrClosed
			}
			continue
		}
		f := c.t.hit(dir, b)
		act := ""
		p := piece{b: b}
		if f != nil {
			act = f.Action
		}
		c.t.log.add(c.t.Name, dir, act, b)
		switch act {
		case "drop":
			continue
		case "cut":
			return errCut
		case "double":
			if !send(piece{b: b}) {
				return net.ErrClosed
			}
		case "reorder":
			p.late = true
		case "delay":
			p.due = time.Now().Add(f.Delay)
		case "stall":
			for {
				c.t.mu.Lock()
				over, freed := f.over, c.t.freed
				c.t.mu.Unlock()
				if over {
					break
				}
				select {
				case <-freed:
				case <-c.done:
					return net.ErrClosed
				}
			}
		case "outdate":
			p.b = c.t.outdate(f, b)
		case "at":
			f.Then()
			c.t.mu.Lock()
			f.played++
			c.t.mu.Unlock()
		}
		if !send(p) {
			return net.ErrClosed
		}
	}
}

// A cutter divides an XML stream into the children of its root, as they are. It knows as
// much XML as that needs: tags, quotes, declarations, CDATA and comments.
type cutter struct {
	r     *bufio.Reader
	depth int
	buf   bytes.Buffer
}

const tapMax = 32 << 20 // bytes of one stanza

func newCutter(r io.Reader) *cutter { return &cutter{r: bufio.NewReaderSize(r, 32<<10)} }

// next returns the next complete child (stanza = true) or whatever else is on the
// stream: white space, headers, the end tag.
func (c *cutter) next() (b []byte, stanza bool, err error) {
	c.buf.Reset()
	for {
		ch, err := c.r.ReadByte()
		if err != nil {
			return nil, false, err
		}
		if c.buf.Len() > tapMax {
			return nil, false, fmt.Errorf("play: stanza over %d bytes", tapMax)
		}
		c.buf.WriteByte(ch)
		if ch != '<' {
			if c.depth <= 1 && c.r.Buffered() == 0 {
				return bytes.Clone(c.buf.Bytes()), false, nil // a keepalive
			}
			continue
		}
		start := c.buf.Len() - 1
		if c.depth <= 1 && start > 0 { // white space before a stanza is not part of it
			c.buf.Truncate(start)
			if err := c.r.UnreadByte(); err != nil {
				return nil, false, err
			}
			return bytes.Clone(c.buf.Bytes()), false, nil
		}
		if err := c.tag(); err != nil {
			return nil, false, err
		}
		tag := c.buf.Bytes()[start:]
		switch {
		case bytes.HasPrefix(tag, []byte("<?")), bytes.HasPrefix(tag, []byte("<!")):
			if c.depth <= 1 {
				return bytes.Clone(c.buf.Bytes()), false, nil
			}
		case bytes.HasPrefix(tag, []byte("<stream:stream")): // also a restart
			c.depth = 1
			return bytes.Clone(c.buf.Bytes()), false, nil
		case bytes.HasPrefix(tag, []byte("</")):
			c.depth--
			if c.depth <= 1 {
				return bytes.Clone(c.buf.Bytes()), c.depth == 1, nil
			}
		case bytes.HasSuffix(tag, []byte("/>")):
			if c.depth == 1 {
				return bytes.Clone(c.buf.Bytes()), true, nil
			}
		default:
			c.depth++
		}
	}
}

// tag reads the rest of a tag whose '<' is in the buffer.
func (c *cutter) tag() error {
	from := c.buf.Len()
	quote := byte(0)
	for {
		ch, err := c.r.ReadByte()
		if err != nil {
			return err
		}
		if c.buf.Len() > tapMax {
			return fmt.Errorf("play: tag over %d bytes", tapMax)
		}
		c.buf.WriteByte(ch)
		inside := c.buf.Bytes()[from:]
		switch {
		case bytes.HasPrefix(inside, []byte("![CDATA[")):
			if bytes.HasSuffix(inside, []byte("]]>")) {
				return nil
			}
		case bytes.HasPrefix(inside, []byte("!--")):
			if len(inside) >= 6 && bytes.HasSuffix(inside, []byte("-->")) {
				return nil
			}
		case quote != 0:
			if ch == quote {
				quote = 0
			}
		case ch == '"' || ch == '\'':
			quote = ch
		case ch == '>':
			return nil
		}
	}
}
