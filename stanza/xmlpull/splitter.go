// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"bytes"
	"io"
)

// scan is the state of the lexer that finds the end of a top-level element. It
// knows just enough XML to tell tags from what only looks like them, and it
// judges nothing: a stanza that is broken inside is cut out whole and left to
// the [Reader] to refuse.
type scan uint8

const (
	inText      scan = iota
	afterLess        // <
	inOpen           // inside a start tag
	inOpenStop       // a '/' inside a start tag
	inApos           // a quoted attribute value
	inQuot           //
	inClose          // inside an end tag
	afterBang        // <!
	afterDash        // <!-
	inComment        // <!--
	inCommentD       // a '-' in a comment
	inCommentE       // "--" in a comment
	inCDATAOpen      // <![
	inCDATA          // <![CDATA[
	inCDATAD         // a ']' in a CDATA section
	inCDATAE         // "]]" in a CDATA section
	inPI             // <?
	inPIStop         // a '?' in a processing instruction
)

// Splitter cuts an XMPP stream (RFC 6120 §4) into top-level elements. Its
// buffer grows to the largest stanza seen, at most MaxBytes plus one read.
//
//	s := xmlpull.NewSplitter(conn, xmlpull.Limits{})
//	header, err := s.Open()
//	for {
//		raw, err := s.Next()
//		var big *xmlpull.OversizeError
//		if errors.As(err, &big) {
//			continue // after answering big.Head
//		}
//		if err != nil {
//			break // io.EOF: the peer closed the stream
//		}
//		el, err := doc.Parse(raw, header.Context)
//	}
type Splitter struct {
	r      io.Reader
	limits Limits
	buf    []byte
	pos    int   // start of unread input in buf
	offset int64 // stream offset of buf[0]
	err    error // sticky
	opened bool
}

// tagClass marks the bytes that matter inside a start tag.
var tagClass = [256]uint8{'>': 1, '/': 1, '\'': 1, '"': 1}

// minRead is the least room for a read: the size of a pipe's or TLS record's
// usual chunk, small enough that ten thousand idle splitters are cheap.
const minRead = 4 << 10

// maxHeader bounds the stream header, which comes before authentication.
const maxHeader = 8 << 10

// maxIdle is the largest buffer kept between stanzas.
const maxIdle = 64 << 10

// NewSplitter returns a splitter that reads from r.
func NewSplitter(r io.Reader, l Limits) *Splitter {
	return &Splitter{r: r, limits: l.withDefaults()}
}

// StreamHeader is the root element of a stream (RFC 6120 §4.7).
type StreamHeader struct {
	// Space and Local name the element:
	// {http://etherx.jabber.org/streams}stream.
	Space, Local string
	// To, From, ID, Version and Lang are its attributes, empty if absent.
	To, From, ID, Version, Lang string
	// Context holds the namespaces that the stream's stanzas inherit.
	Context *Context
}

// fail makes err the answer of every further call.
func (s *Splitter) fail(class Class, reason string) error {
	s.err = &SyntaxError{Class: class, Offset: s.offset + int64(s.pos), Reason: reason}
	return s.err
}

// fill reads more input behind buf, first moving buf[keep:] to the front.
// Positions in buf shift by the returned number.
func (s *Splitter) fill(keep int) (shift int, err error) {
	if keep > 0 {
		n := copy(s.buf, s.buf[keep:])
		s.buf = s.buf[:n]
		s.offset += int64(keep)
		s.pos -= keep
	}
	if cap(s.buf)-len(s.buf) < minRead {
		size := max(2*cap(s.buf), minRead*2)
		grown := make([]byte, len(s.buf), size)
		copy(grown, s.buf)
		s.buf = grown
	}
	// A reader may return no bytes and no error; a hundred times in a row is a
	// broken reader, as bufio has it.
	for range 100 {
		n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		if n > 0 {
			s.buf = s.buf[:len(s.buf)+n]
			return keep, nil
		}
		if err != nil {
			return keep, err
		}
	}
	return keep, io.ErrNoProgress
}

// Open reads the XML declaration, if there is one, and the stream's start tag.
// It is called before the first Next, and again after a stream restart (RFC
// 6120 §4.3.3).
func (s *Splitter) Open() (*StreamHeader, error) {
	if s.err != nil {
		return nil, s.err
	}
	s.opened = false
	// White space between the old stream and the new is harmless.
	for {
		b := s.buf[s.pos:]
		trimmed := bytes.TrimLeft(b, " \t\r\n")
		s.pos += len(b) - len(trimmed)
		if len(trimmed) > maxHeader {
			return nil, s.fail(OverLimit, "stream header too long")
		}
		rest := trimmed
		if len(rest) > 0 && rest[0] != '<' {
			return nil, s.fail(NotWellFormed, "no stream header")
		}
		if bytes.HasPrefix(rest, []byte("<?xml")) {
			end := bytes.Index(rest, []byte("?>"))
			if end < 0 {
				rest = nil
			} else {
				rest = bytes.TrimLeft(rest[end+2:], " \t\r\n")
			}
		}
		if len(rest) > 0 && !bytes.HasPrefix([]byte("<?xml"), rest[:min(len(rest), 5)]) {
			if n := tagEnd(rest); n > 0 {
				h, err := s.header(rest[:n])
				if err != nil {
					return nil, err
				}
				s.pos += len(trimmed) - len(rest) + n
				s.opened = true
				return h, nil
			}
		}
		if _, err := s.fill(s.pos); err != nil {
			return nil, s.ended(err, len(s.buf) == s.pos)
		}
	}
}

// ended turns the end of the input into the answer of a call: at the very
// beginning of a stream it is [io.EOF], anywhere else unexpected.
func (s *Splitter) ended(err error, clean bool) error {
	if err == io.EOF && !clean {
		err = io.ErrUnexpectedEOF
	}
	s.err = err
	return err
}

// tagEnd returns the length of the tag that b begins with, or 0.
func tagEnd(b []byte) int {
	var quote byte
	for i, c := range b {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '>':
			return i + 1
		}
	}
	return 0
}

func (s *Splitter) header(tag []byte) (*StreamHeader, error) {
	var r Reader
	r.SetLimits(s.limits)
	r.Reset(tag, nil)
	kind, err := r.Next()
	if err != nil {
		s.err = err
		return nil, err
	}
	if kind != Start || r.empty {
		return nil, s.fail(NotWellFormed, "no stream header")
	}
	h := &StreamHeader{Space: string(r.space), Local: string(r.local), Context: r.Bindings()}
	for _, a := range r.attrs {
		v := string(a.Value)
		switch {
		case string(a.Space) == NSXML && string(a.Local) == "lang":
			h.Lang = v
		case len(a.Space) > 0:
		case string(a.Local) == "to":
			h.To = v
		case string(a.Local) == "from":
			h.From = v
		case string(a.Local) == "id":
			h.ID = v
		case string(a.Local) == "version":
			h.Version = v
		}
	}
	return h, nil
}

// Buffered returns the bytes that were read from the connection and not yet
// returned, for the moment when TLS takes the connection over. There must be
// none then (RFC 6120 §5.4.3.3).
func (s *Splitter) Buffered() []byte { return s.buf[s.pos:] }

// Next returns the bytes of the next top-level element, without the white
// space (keepalives) before it. They are valid until the next call.
//
// It returns [io.EOF] when the peer has closed the stream with its end tag, an
// [*OversizeError] for a stanza that was skipped (the next call goes on
// behind it), and any other error when the stream cannot go on: a
// [*SyntaxError] if the XML cannot be divided, [io.ErrUnexpectedEOF] if the
// connection ended without an end tag, or the reader's own error.
func (s *Splitter) Next() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	if !s.opened {
		return nil, s.fail(NotWellFormed, "no stream header")
	}
	if err := s.seek(); err != nil {
		return nil, err
	}
	var (
		start   = s.pos
		i       = start
		state   = inText
		depth   = 0
		cdata   = 0     // bytes of "CDATA[" seen
		skipped int64   // bytes of this stanza that are no longer in buf
		head    []byte  // its beginning, once it is oversized
		keep    = start // what fill must not drop
	)
	for {
		for i < len(s.buf) {
			c := s.buf[i]
			switch state {
			case inText:
				n := bytes.IndexByte(s.buf[i:], '<')
				if n < 0 {
					i = len(s.buf)
					continue
				}
				i += n
				state = afterLess
			case afterLess:
				switch c {
				case '/':
					state = inClose
					depth--
				case '!':
					state = afterBang
				case '?':
					state = inPI
				default:
					state = inOpen
					depth++
				}
			case inOpen, inOpenStop:
				if tagClass[c] == 0 {
					// Names and spaces: on to what may end the tag.
					state = inOpen
					for i++; i < len(s.buf) && tagClass[s.buf[i]] == 0; i++ {
					}
					continue
				}
				switch c {
				case '>':
					if state == inOpenStop {
						depth--
					}
					state = inText
				case '/':
					state = inOpenStop
				case '\'':
					state = inApos
				case '"':
					state = inQuot
				}
			case inApos, inQuot:
				quote := byte('\'')
				if state == inQuot {
					quote = '"'
				}
				n := bytes.IndexByte(s.buf[i:], quote)
				if n < 0 {
					i = len(s.buf)
					continue
				}
				i += n
				state = inOpen
			case inClose:
				if c == '>' {
					state = inText
				}
			case afterBang:
				switch c {
				case '-':
					state = afterDash
				case '[':
					state, cdata = inCDATAOpen, 0
				default:
					s.pos = i
					return nil, s.fail(Restricted, "document type declaration")
				}
			case afterDash:
				if c != '-' {
					s.pos = i
					return nil, s.fail(NotWellFormed, "unknown markup declaration")
				}
				state = inComment
			case inComment, inCommentD, inCommentE:
				switch {
				case c == '>' && state == inCommentE:
					state = inText
				case c != '-':
					state = inComment
				case state == inComment:
					state = inCommentD
				default:
					state = inCommentE
				}
			case inCDATAOpen:
				if c != "CDATA["[cdata] {
					s.pos = i
					return nil, s.fail(NotWellFormed, "unknown markup declaration")
				}
				if cdata++; cdata == len("CDATA[") {
					state = inCDATA
				}
			case inCDATA:
				n := bytes.IndexByte(s.buf[i:], ']')
				if n < 0 {
					i = len(s.buf)
					continue
				}
				i += n
				state = inCDATAD
			case inCDATAD, inCDATAE:
				switch {
				case c == '>' && state == inCDATAE:
					state = inText
				case c != ']':
					state = inCDATA
				default:
					state = inCDATAE
				}
			case inPI, inPIStop:
				switch {
				case c == '>' && state == inPIStop:
					state = inText
				case c == '?':
					state = inPIStop
				default:
					state = inPI
				}
			}
			i++
			if depth == 0 && state == inText {
				s.pos = i
				if skipped > 0 {
					return nil, &OversizeError{Size: skipped + int64(i-start), Max: s.limits.MaxBytes, Head: head}
				}
				if i-start > s.limits.MaxBytes {
					return nil, &OversizeError{Size: int64(i - start), Max: s.limits.MaxBytes, Head: s.buf[start:i]}
				}
				return s.buf[start:i:i], nil
			}
		}
		if i-start > s.limits.MaxBytes || skipped > 0 {
			// Too large: keep the beginning for the error, forget the rest.
			if head == nil {
				head = bytes.Clone(s.buf[start:min(i, start+maxHead)])
			}
			skipped += int64(i - start)
			start, keep, s.pos = i, i, i
			if skipped > s.limits.MaxSkip {
				return nil, s.fail(OverLimit, "stanza endless")
			}
		}
		shift, err := s.fill(keep)
		start, i = start-shift, i-shift
		keep = start
		if err != nil {
			return nil, s.ended(err, false)
		}
	}
}

// maxHead is how much of an oversized stanza is kept for [OversizeError]: a
// start tag with three JIDs of the largest size (3,071 bytes each).
const maxHead = 12 << 10

// seek moves to the '<' of the next top-level element, over white space, and
// handles the end of the stream.
func (s *Splitter) seek() error {
	for {
		for s.pos < len(s.buf) && asciiClass[s.buf[s.pos]]&isSpace != 0 {
			s.pos++
		}
		rest := s.buf[s.pos:]
		if len(rest) > 0 && rest[0] != '<' {
			return s.fail(NotWellFormed, "text between stanzas")
		}
		if len(rest) > 1 {
			switch rest[1] {
			case '/':
				if n := tagEnd(rest); n > 0 {
					s.pos += n
					s.err = io.EOF
					return io.EOF
				}
				if len(rest) > maxHeader {
					return s.fail(NotWellFormed, "end tag too long")
				}
			case '!', '?':
				return s.fail(Restricted, "markup declaration or processing instruction between stanzas")
			default:
				return nil
			}
		}
		if len(rest) == 0 && cap(s.buf) > maxIdle {
			s.offset += int64(s.pos)
			s.buf, s.pos = nil, 0
		}
		if _, err := s.fill(s.pos); err != nil {
			return s.ended(err, false)
		}
	}
}
