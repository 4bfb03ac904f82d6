// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// This file contains the variable-size vectors of the TLS presentation
// language as MLS uses them. See RFC 9420, Section 2.1.2.

// maxJID is the longest bare JID that RFC 7622 §3.1 allows: two parts of 1023
// bytes and the '@'.
const maxJID = 1023 + 1 + 1023

var errTruncated = errors.New("input ends early")

// appendVector appends b with its length in the shortest form.
func appendVector(dst, b []byte) []byte {
	dst = appendVarint(dst, len(b))
	return append(dst, b...)
}

func appendVarint(dst []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(dst, byte(n))
	case n < 1<<14:
		return binary.BigEndian.AppendUint16(dst, 0x4000|uint16(n))
	case n < 1<<30:
		return binary.BigEndian.AppendUint32(dst, 0x80000000|uint32(n))
	}
	panic("groupdata: internal error: vector of more than 2^30-1 bytes")
}

// reader consumes b from the front; the first failure sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail(errTruncated)
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// vector reads a length and as many bytes. The result aliases the input.
func (r *reader) vector() []byte {
	if r.err != nil || len(r.b) == 0 {
		r.fail(errTruncated)
		return nil
	}
	var n int
	switch r.b[0] >> 6 {
	case 0:
		n = int(r.take(1)[0])
	case 1:
		b := r.take(2)
		if b == nil {
			return nil
		}
		if n = int(binary.BigEndian.Uint16(b) & 0x3fff); n < 1<<6 {
			r.fail(errors.New("length not in its shortest form"))
			return nil
		}
	case 2:
		b := r.take(4)
		if b == nil {
			return nil
		}
		if n = int(binary.BigEndian.Uint32(b) & 0x3fffffff); n < 1<<14 {
			r.fail(errors.New("length not in its shortest form"))
			return nil
		}
	default:
		r.fail(errors.New("invalid length prefix"))
		return nil
	}
	return r.take(n)
}

// end reports the first failure, or that bytes are left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		return fmt.Errorf("%d bytes left over", len(r.b))
	}
	return r.err
}

// checkJID accepts what can be a normalised bare JID, without normalising it.
func checkJID(s string) error {
	switch {
	case s == "":
		return errors.New("empty JID")
	case len(s) > maxJID:
		return fmt.Errorf("JID of %d bytes, at most %d are possible", len(s), maxJID)
	case !utf8.ValidString(s):
		return fmt.Errorf("JID %q is not UTF-8", s)
	}
	at := -1
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/':
			return fmt.Errorf("JID %q is not bare", s)
		case c <= ' ' || c == 0x7f:
			return fmt.Errorf("JID %q holds a control character or space", s)
		case c == '@' && at >= 0:
			return fmt.Errorf("JID %q has two '@'", s)
		case c == '@':
			at = i
		}
	}
	if at == 0 || at == len(s)-1 {
		return fmt.Errorf("JID %q has an empty part", s)
	}
	return nil
}
