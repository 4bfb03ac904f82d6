// SPDX-License-Identifier: Apache-2.0

package stanza

// StanzaID is the id that a group gives a message for everybody (XEP-0359). It
// is only to be believed from the entity by, and only if that entity offers
// urn:xmpp:sid:0.
//
//	<stanza-id xmlns='urn:xmpp:sid:0' by='ops@mls.example.org' id='5f3dbc5e-e1d3-4077-a492-693f3769c7ad'/>
//
// Source: xep/mls-delivery.xml#send; XEP-0359.
type StanzaID struct {
	By, ID string
}

// Append appends the element.
func (s *StanzaID) Append(dst []byte) []byte {
	dst = attr(open(dst, NSSID, "stanza-id"), "by", s.By)
	dst = attr(dst, "id", s.ID)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (s *StanzaID) Parse(el Element) error {
	d := expect(el, NSSID, "stanza-id")
	d.noText()
	s.By = d.jid("by", s.By)
	s.ID = d.str("id", MaxID, s.ID)
	return d.err
}

// OriginID is the id that a message's author gave it (XEP-0359). Inside an
// [Envelope] it is authenticated, other than a [StanzaID].
//
//	<origin-id xmlns='urn:xmpp:sid:0' id='01J5QZ3W6V8H'/>
type OriginID struct {
	ID string
}

// Append appends the element.
func (o *OriginID) Append(dst []byte) []byte { return appendID(dst, NSSID, "origin-id", o.ID) }

// Parse reads the element.
func (o *OriginID) Parse(el Element) error { return parseID(el, NSSID, "origin-id", &o.ID) }
