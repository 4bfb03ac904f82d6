// SPDX-License-Identifier: Apache-2.0

package mls

import "sync"

// A scratch is a buffer for bytes that are needed only during a call, such as
// what a signature covers.
type scratch struct{ b []byte }

// scratchSize is the capacity of a new buffer.
const scratchSize = 2048

// maxScratch is the largest buffer that is kept for the next call.
const maxScratch = 1 << 20

var scratches = sync.Pool{New: func() any { return &scratch{make([]byte, 0, scratchSize)} }}

func getScratch() *scratch { return scratches.Get().(*scratch) }

// done gives the buffer back. It may have held what is to be encrypted: it is
// wiped.
func (c *scratch) done() {
	wipe(c.b)
	if cap(c.b) <= maxScratch {
		c.b = c.b[:0]
		scratches.Put(c)
	}
}

// labelRoom is room for the label and the length of a SignContent.
const labelRoom = 48

// labelled puts a SignContent together (RFC 9420 §5.1.2), the content of which is
// appended by content.
func (c *scratch) labelled(label string, content func([]byte) []byte) []byte {
	c.b = content(append(c.b[:0], make([]byte, labelRoom)...))
	var head [labelRoom]byte
	h := appendVarint(head[:0], len(labelPrefix)+len(label))
	h = append(h, labelPrefix...)
	h = append(h, label...)
	h = appendVarint(h, len(c.b)-labelRoom)
	start := labelRoom - len(h)
	copy(c.b[start:], h)
	return c.b[start:]
}

// signAppended is signWithLabel of what content appends.
func (s *suite) signAppended(k *SignaturePrivateKey, label string, content func([]byte) []byte) ([]byte, error) {
	if err := s.checkSigner(k); err != nil {
		return nil, err
	}
	c := getScratch()
	defer c.done()
	return k.sign(c.labelled(label, content))
}

// verifyAppended is verifyWithLabel of what content appends.
func (s *suite) verifyAppended(pub []byte, label string, sig []byte, content func([]byte) []byte) error {
	c := getScratch()
	defer c.done()
	return s.sig.verify(pub, c.labelled(label, content), sig)
}
