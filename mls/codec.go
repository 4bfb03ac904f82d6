// SPDX-License-Identifier: Apache-2.0

// The TLS presentation language as MLS uses it (RFC 9420 §2.1): big-endian
// integers, variable-size vectors whose length is a QUIC-style varint that must
// be minimal, and optional values with a presence octet of 0 or 1.

package mls

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxVarint is the largest length that a variable-size vector can carry
// (RFC 9420 §2.1.2): two bits of prefix leave thirty for the value.
const maxVarint = 1<<30 - 1

var (
	errTruncated  = errors.New("mls: input ends early")
	errTrailing   = errors.New("mls: bytes are left over after the object")
	errVarint     = errors.New("mls: vector length is not a minimal varint")
	errOptional   = errors.New("mls: presence octet is neither 0 nor 1")
	errListLength = errors.New("mls: list of fixed-size items has a broken length")
)

// A reader is a cursor over wire bytes. The first error sticks: afterwards every
// read yields a zero value, so that callers check once, at the end. What it
// returns aliases the input.
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

// take returns the next n bytes.
func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b) {
		r.fail(errTruncated)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// varint reads a vector length. Lengths that could have been written shorter
// are refused (RFC 9420 §2.1.2), otherwise an object would have two encodings.
func (r *reader) varint() int {
	first := r.u8()
	if r.err != nil {
		return 0
	}
	v := int(first & 0x3f)
	switch first >> 6 {
	case 0:
		return v
	case 1:
		v = v<<8 | int(r.u8())
		if r.err == nil && v < 1<<6 {
			r.fail(errVarint)
		}
	case 2:
		rest := r.take(3)
		if rest == nil {
			return 0
		}
		v = v<<24 | int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if v < 1<<14 {
			r.fail(errVarint)
		}
	default:
		r.fail(errVarint)
	}
	if r.err != nil {
		return 0
	}
	return v
}

// opaque reads opaque<V>. The result is non-nil when the read succeeded.
func (r *reader) opaque() []byte {
	n := r.varint()
	if r.err != nil {
		return nil
	}
	return r.take(n)
}

// vector reads the length of a vector and returns a reader of its content.
// The caller hands it back to [reader.end].
func (r *reader) vector() reader {
	b := r.opaque()
	return reader{b: b, err: r.err}
}

// end closes a nested reader: its errors, and bytes that it left over, are
// errors of r.
func (r *reader) end(inner *reader) {
	if err := inner.done(); err != nil {
		r.fail(err)
	}
}

// optional reads the presence octet of optional<T> (RFC 9420 §2.1.1).
func (r *reader) optional() bool {
	switch r.u8() {
	case 0:
		return false
	case 1:
		return r.err == nil
	default:
		r.fail(errOptional)
		return false
	}
}

// done reports the first error, or bytes that nobody read.
func (r *reader) done() error {
	if r.err != nil {
		return r.err
	}
	if len(r.b) != 0 {
		return errTrailing
	}
	return nil
}

// readVector reads T<V> item by item. Memory grows with what was read, never
// with what a length promises; how long the list will be is judged by the items
// so far, so that little is copied and left behind.
func readVector[T any](r *reader, item func(*reader) T) []T {
	b := r.opaque()
	if len(b) == 0 {
		return nil
	}
	inner := reader{b: b}
	var list []T
	for inner.err == nil && len(inner.b) > 0 {
		if n := len(list); n > 0 && n == cap(list) {
			octets := max((len(b)-len(inner.b))/n, 1) // per item so far
			more := make([]T, n, n+min(len(inner.b)/octets+1, 3*n))
			copy(more, list)
			list = more
		}
		list = append(list, item(&inner))
	}
	r.end(&inner)
	if r.err != nil {
		return nil
	}
	return list
}

// readU16s reads a vector of two-octet values.
func readU16s[T ~uint16](r *reader) []T {
	b := r.opaque()
	if len(b)%2 != 0 {
		r.fail(errListLength)
		return nil
	}
	if len(b) == 0 {
		return nil
	}
	list := make([]T, len(b)/2)
	for i := range list {
		list[i] = T(binary.BigEndian.Uint16(b[2*i:]))
	}
	return list
}

// readU32s reads a vector of four-octet values.
func readU32s[T ~uint32](r *reader) []T {
	b := r.opaque()
	if len(b)%4 != 0 {
		r.fail(errListLength)
		return nil
	}
	if len(b) == 0 {
		return nil
	}
	list := make([]T, len(b)/4)
	for i := range list {
		list[i] = T(binary.BigEndian.Uint32(b[4*i:]))
	}
	return list
}

// decode runs read over all of b: what is left over is an error. The error names
// the object.
func decode[T any](b []byte, what string, read func(*reader) T) (T, error) {
	r := reader{b: b}
	v := read(&r)
	if err := r.done(); err != nil {
		var zero T
		return zero, fmt.Errorf("mls: decoding %s: %w", what, err)
	}
	return v, nil
}

func appendU8(b []byte, v uint8) []byte   { return append(b, v) }
func appendU16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func appendU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// appendVarint writes a vector length in its minimal form. Every caller's n is
// the length of something in memory that limits bound far below maxVarint.
func appendVarint(b []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x40|byte(n>>8), byte(n))
	case n <= maxVarint:
		return append(b, 0x80|byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	panic("mls: internal error: vector longer than 2^30-1 octets")
}

// varintLen is the number of octets that appendVarint writes for n.
func varintLen(n int) int {
	switch {
	case n < 1<<6:
		return 1
	case n < 1<<14:
		return 2
	}
	return 4
}

// appendOpaque writes opaque<V>.
func appendOpaque(b, data []byte) []byte {
	return append(appendVarint(b, len(data)), data...)
}

// appendVector writes T<V>: the items are encoded once, behind the widest length,
// and moved up when a shorter length suffices.
func appendVector[T any](b []byte, list []T, item func([]byte, T) []byte) []byte {
	return appendNested(b, func(b []byte) []byte {
		for _, v := range list {
			b = item(b, v)
		}
		return b
	})
}

// appendNested writes the output of body as a vector.
func appendNested(b []byte, body func([]byte) []byte) []byte {
	const room = 4
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = body(b)
	n := len(b) - start - room
	width := varintLen(n)
	appendVarint(b[start:start], n)
	if width < room {
		copy(b[start+width:], b[start+room:])
		b = b[:start+width+n]
	}
	return b
}

func appendU16s[T ~uint16](b []byte, list []T) []byte {
	b = appendVarint(b, 2*len(list))
	for _, v := range list {
		b = appendU16(b, uint16(v))
	}
	return b
}

func appendU32s[T ~uint32](b []byte, list []T) []byte {
	b = appendVarint(b, 4*len(list))
	for _, v := range list {
		b = appendU32(b, uint32(v))
	}
	return b
}

// appendOptional writes the presence octet and, when present, the value.
func appendOptional(b []byte, present bool, value func([]byte) []byte) []byte {
	if !present {
		return append(b, 0)
	}
	return value(append(b, 1))
}
