// SPDX-License-Identifier: Apache-2.0

package stanza

// Payload is an element inside a stanza. Its pointer types are in this
// package, one for each element of the protocol.
type Payload interface {
	// Append appends the element to dst and returns the extended buffer.
	// Values are escaped; that they are valid in other ways (a JID in a
	// field of JIDs) is the caller's business.
	Append(dst []byte) []byte
	// Parse reads the element into the payload, replacing all of it. It
	// refuses missing required attributes, malformed values, duplicate
	// children, text where none belongs and what exceeds limits, with a
	// [*SyntaxError]; it ignores elements and attributes that it does not
	// know. What it keeps is copied: the payload outlives the element. Byte
	// slices and lists reuse the capacity, and strings equal to the old value
	// the memory, of a payload that is parsed into again. After an error the
	// payload's content is not specified.
	Parse(el Element) error
}

// Parse returns a payload of type T, such as Parse[Commit](el).
func Parse[T any, P interface {
	*T
	Payload
}](el Element) (T, error) {
	var v T
	err := P(&v).Parse(el)
	return v, err
}

// Raw is a payload that is already serialised, or of which only the XML is of
// interest. It must be one well-formed element that declares the namespaces
// it uses.
type Raw []byte

// Append appends the XML as it is.
func (r *Raw) Append(dst []byte) []byte { return append(dst, *r...) }

// Parse keeps the XML of el, with all namespaces declared in it.
func (r *Raw) Parse(el Element) error {
	*r = el.AppendXML((*r)[:0], "")
	return nil
}
