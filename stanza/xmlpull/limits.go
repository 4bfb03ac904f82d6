// SPDX-License-Identifier: Apache-2.0

package xmlpull

// Limits bound what a document from a stranger may cost. A zero field means
// its default.
type Limits struct {
	// MaxBytes is the size of one stanza in bytes. The default, 512 KiB, is
	// what servers allow on component and server links; larger stanzas cannot
	// arrive through them.
	MaxBytes int
	// MaxDepth is the number of elements open at once. Default 64: the deepest
	// payload of the protocol needs 9, XHTML inside a message may need more.
	MaxDepth int
	// MaxAttrs is the number of attributes of one element, namespace
	// declarations included. Default 64; duplicates are found by comparing
	// pairs, so that the cost grows with its square.
	MaxAttrs int
	// MaxNodes is the number of elements and text runs of one document.
	// Default 32,768: a node costs about 100 bytes in a [Doc].
	MaxNodes int
	// MaxSkip is how many bytes of one oversized stanza a [Splitter] reads
	// past before it gives the stream up. Default 64 MiB.
	MaxSkip int64
}

// Defaults of [Limits].
const (
	DefaultMaxBytes = 512 << 10
	DefaultMaxDepth = 64
	DefaultMaxAttrs = 64
	DefaultMaxNodes = 32 << 10
	DefaultMaxSkip  = 64 << 20
)

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	if l.MaxAttrs <= 0 {
		l.MaxAttrs = DefaultMaxAttrs
	}
	if l.MaxNodes <= 0 {
		l.MaxNodes = DefaultMaxNodes
	}
	if l.MaxSkip <= 0 {
		l.MaxSkip = DefaultMaxSkip
	}
	return l
}
