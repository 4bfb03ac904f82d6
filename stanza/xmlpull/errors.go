// SPDX-License-Identifier: Apache-2.0

package xmlpull

import (
	"fmt"
)

// Class says which rule a document broke, so that a caller can choose the
// RFC 6120 §4.9.3 stream error or the stanza error that fits.
type Class uint8

const (
	// NotWellFormed is XML or Namespaces in XML broken.
	NotWellFormed Class = iota
	// Restricted is well-formed XML that XMPP forbids: DTDs, processing
	// instructions, comments (RFC 6120 §11.1).
	Restricted
	// OverLimit is a document that exceeds a [Limits] field.
	OverLimit
)

// String returns the RFC 6120 §4.9.3 stream error condition of the class.
func (c Class) String() string {
	switch c {
	case Restricted:
		return "restricted-xml"
	case OverLimit:
		return "policy-violation"
	default:
		return "not-well-formed"
	}
}

// SyntaxError says what is wrong with a document and where.
type SyntaxError struct {
	// Class is the kind of fault.
	Class Class
	// Offset is the position in bytes, from the start of the document or, for
	// a [Splitter], of the stream.
	Offset int64
	// Reason is a short text without bytes of the document.
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("xmlpull: reading byte %d: %s: %s", e.Offset, e.Class, e.Reason)
}

// OversizeError is returned by [Splitter.Next] for a stanza larger than
// [Limits].MaxBytes. The stanza has been skipped and the next call continues
// behind it.
type OversizeError struct {
	// Size is the number of bytes of the whole stanza.
	Size int64
	// Max is the limit that it exceeded.
	Max int
	// Head is the beginning of the stanza, cut anywhere: usually it holds the
	// whole start tag, which [Reader.Next] reads for the address and id of an
	// answer. It is valid until the next call of Next.
	Head []byte
}

func (e *OversizeError) Error() string {
	return fmt.Sprintf("xmlpull: reading a stanza: %d bytes exceed the limit of %d", e.Size, e.Max)
}
