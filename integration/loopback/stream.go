// SPDX-License-Identifier: Apache-2.0

package loopback

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A streamError ends a stream with this condition (RFC 6120 §4.9.3).
type streamError struct{ condition, text string }

func (e streamError) Error() string { return "loopback: stream error: " + e.condition + ": " + e.text }

func (e streamError) xml() []byte {
	x := El(nsStream, "error").Add(El(nsStreams, e.condition))
	if e.text != "" {
		x.Add(El(nsStreams, "text").AddText(e.text))
	}
	b := appendElement(nil, x, nsStream, "")
	// The stream's prefix is bound in its header; errors are written with it as real servers do.
	b = append([]byte("<stream:error>"), b[len("<error>"):len(b)-len("</error>")]...)
	return append(b, "</stream:error></stream:stream>"...)
}

var errTooBig = errors.New("loopback: stanza too big")

// A shaper is a token bucket over the bytes that are read.
type shaper struct {
	rate, burst int
	tokens      float64
	last        time.Time
}

func (s *shaper) take(n int) time.Duration {
	now := time.Now()
	if s.last.IsZero() {
		s.tokens = float64(s.burst)
	} else {
		s.tokens = min(float64(s.burst), s.tokens+now.Sub(s.last).Seconds()*float64(s.rate))
	}
	s.last = now
	s.tokens -= float64(n)
	if s.tokens >= 0 {
		return 0
	}
	return time.Duration(-s.tokens / float64(s.rate) * float64(time.Second))
}

// byteReader feeds the XML parser byte by byte, so that the size of a stanza is
// known exactly and a stream restart loses nothing.
type byteReader struct {
	br     *bufio.Reader
	shaper *shaper
	stop   <-chan struct{}
	count  int // bytes since the last stanza
	limit  int
	err    error // of the connection
}

// Read and ReadByte are the io.Reader and io.ByteReader of the parser, which uses the latter.
func (r *byteReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

func (r *byteReader) ReadByte() (byte, error) {
	if r.count >= r.limit {
		return 0, errTooBig
	}
	fresh := r.br.Buffered() == 0
	b, err := r.br.ReadByte()
	if err != nil {
		r.err = err
		return 0, err
	}
	r.count++
	if fresh && r.shaper != nil {
		if d := r.shaper.take(r.br.Buffered() + 1); d > 0 {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
			case <-r.stop:
				return 0, io.ErrClosedPipe
			}
		}
	}
	return b, nil
}

// A conn is one XML stream over one connection.
type conn struct {
	s      *Server
	kind   Kind
	ns     string // default namespace of the stream
	limit  int
	shaper *shaper

	raw  net.Conn // the transport
	net  net.Conn // the transport, or TLS over it
	in   *byteReader
	dec  *xml.Decoder
	done chan struct{}
	once sync.Once
	out  *lane // set when stanzas may flow

	wmu    sync.Mutex
	opened bool // our header has been sent
	id     string
}

func (s *Server) newConn(nc net.Conn, kind Kind, ns string, limit int) *conn {
	c := &conn{s: s, kind: kind, ns: ns, limit: limit, done: make(chan struct{}), raw: nc}
	c.use(nc)
	return c
}

// use goes on over another connection: the TLS one.
func (c *conn) use(nc net.Conn) {
	c.net = nc
	c.in = &byteReader{br: bufio.NewReaderSize(nc, 4096), shaper: c.shaper, stop: c.done, limit: c.limit}
}

// kill closes the connection at once. TLS gets no close-notify: that could block.
func (c *conn) kill() {
	c.once.Do(func() {
		close(c.done)
		c.raw.Close()
	})
}

// open reads the peer's stream header and leaves the parser inside the stream.
func (c *conn) open() (to string, err error) {
	c.dec = xml.NewDecoder(c.in)
	c.in.count = 0
	for {
		tok, err := c.dec.Token()
		if err != nil {
			return "", err
		}
		switch t := tok.(type) {
		case xml.ProcInst:
			continue
		case xml.CharData:
			continue
		case xml.StartElement:
			if t.Name.Space != nsStream || t.Name.Local != "stream" {
				return "", streamError{"invalid-namespace", ""}
			}
			c.in.count = 0
			return newElement(t, "").Attr("to"), nil
		default:
			return "", streamError{"restricted-xml", ""}
		}
	}
}

// header sends our stream header.
func (c *conn) header(from, version string) error {
	c.id = randomID()
	h := El("", "x", "id", c.id, "from", from, "version", version)
	b := []byte("<?xml version='1.0'?><stream:stream xmlns='" + c.ns + "' xmlns:stream='" + nsStream + "'")
	for _, a := range h.Attrs {
		b = append(b, " "+a.Name.Local+"='"...)
		b = append(appendEscaped(b, a.Value), '\'')
	}
	if version != "" {
		b = append(b, " xml:lang='en'"...)
	}
	err := c.write(append(b, '>'))
	c.opened = true
	return err
}

// next reads the next child of the stream; io.EOF is the stream's orderly end.
func (c *conn) next() (*Element, error) {
	for {
		c.in.count = 0
		tok, err := c.dec.Token()
		if err != nil {
			return nil, err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			return parseElement(c.dec, t, c.ns)
		case xml.EndElement:
			return nil, io.EOF
		case xml.CharData: // keepalive
		default:
			return nil, streamError{"restricted-xml", ""}
		}
	}
}

const writeTimeout = 30 * time.Second

func (c *conn) write(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.net.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.net.Write(b)
	return err
}

func (c *conn) writeElement(e *Element) error { return c.write(appendElement(nil, e, c.ns, c.ns)) }

// fail ends the stream in the way that err asks for.
func (c *conn) fail(err error) {
	var se streamError
	var syntax *xml.SyntaxError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		if c.opened {
			c.end([]byte("</stream:stream>"))
		} else {
			c.kill()
		}
		return
	case errors.As(err, &se): // also from the goroutine of a lane, which must not look at c.in
	case c.in.err != nil: // the connection is gone; the parser calls it a syntax error
		c.kill()
		return
	case errors.Is(err, errTooBig):
		se = streamError{"policy-violation", "XML stanza is too big"}
		if c.kind == Component && c.s.b.componentTooBig != "" {
			se.condition = c.s.b.componentTooBig
		}
	case errors.Is(err, errTooDeep), errors.As(err, &syntax):
		se = streamError{"not-well-formed", ""}
	default: // the connection is gone
		c.kill()
		return
	}
	c.s.log.Info("stream error", "link", c.kind, "condition", se.condition, "text", se.text)
	b := se.xml()
	if !c.opened {
		b = append([]byte(fmt.Sprintf("<?xml version='1.0'?><stream:stream xmlns='%s' xmlns:stream='%s' id='0' version='1.0'>", c.ns, nsStream)), b...)
	}
	c.end(b)
}

// end writes the last bytes after what is queued, and closes.
func (c *conn) end(last []byte) {
	if c.out != nil {
		c.out.raw(last)
		c.out.finish()
		return // the writer closes
	}
	_ = c.write(last)
	linger(c.net, c.done)
	c.kill()
}

// linger lets a peer that is still writing read our last words: closing a TCP
// connection with unread input resets it and destroys them.
func linger(nc net.Conn, done <-chan struct{}) {
	if err := nc.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	type closeWriter interface{ CloseWrite() error }
	if cw, ok := nc.(closeWriter); ok {
		_ = cw.CloseWrite()
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-done:
			nc.Close()
		case <-stop:
		}
	}()
	_, _ = io.Copy(io.Discard, io.LimitReader(nc, 16<<20))
}

// startOut makes the writer lane. It owns the connection's end.
func (c *conn) startOut(peer string) {
	l := newLane(c.kind, peer, Out, c.s.opts.QueueLimit, c.s.faults, c.s.wire, c.done)
	l.emit = func(it item) bool {
		b := it.raw
		if it.el != nil {
			b = appendElement(nil, it.el, c.ns, c.ns)
		}
		return c.write(b) == nil
	}
	l.cut = func(last *Element) {
		if last != nil {
			b := appendElement(nil, last, c.ns, c.ns)
			_ = c.write(b[:len(b)/2])
		}
		c.kill()
	}
	c.out = l
	c.s.goes(func() {
		l.run()
		select {
		case <-c.done:
		default:
			linger(c.net, c.done)
		}
		c.kill()
	})
}
