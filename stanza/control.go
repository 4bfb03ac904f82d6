// SPDX-License-Identifier: Apache-2.0

package stanza

import "github.com/lockstep-im/lockstep/stanza/xmlpull"

// Control is a notice of the DS in the log: it stands where an MLS entry has
// its [MLS], beside a [Delivery] of kind control, and its bytes are those of
// the log entry.
//
//	<control xmlns='urn:xmpp:mls:ds:0'>PGFmZmlsaWF0aW9uIHhtbG5zPSd1cm46eG1wcDptbHM6ZHM6MCcg…</control>
//
// The bytes are an XML element in UTF-8: an [Affiliation], [Destroyed],
// [ReInitNotice], or another that clients ignore. They travel in base64
// because the chain covers them (package groupdata), and servers do not keep the
// exact bytes of XML.
//
// Source: xep/mls-delivery.xml#affiliations.
type Control struct {
	Bytes []byte
}

// NewControl returns the notice of p.
func NewControl(p Payload) *Control { return &Control{Bytes: p.Append(nil)} }

// Append appends the element.
func (c *Control) Append(dst []byte) []byte {
	dst = append(open(dst, NSDelivery, "control"), '>')
	dst = AppendBase64(dst, c.Bytes)
	return end(dst, "control")
}

// Parse reads the element.
func (c *Control) Parse(el Element) error {
	d := expect(el, NSDelivery, "control")
	c.Bytes = d.content(c.Bytes)
	return d.err
}

// Payload parses the bytes: an [*Affiliation], [*Destroyed], [*ReInitNotice],
// or a [*Raw] for a notice that is not known. The error says that the bytes
// are not XML or the element is malformed.
func (c *Control) Payload() (Payload, error) {
	var doc xmlpull.Doc
	el, err := doc.Parse(c.Bytes, nil)
	if err != nil {
		return nil, err
	}
	var p Payload = new(Raw)
	switch {
	case el.Is(NSDelivery, "affiliation"):
		p = new(Affiliation)
	case el.Is(NSDelivery, "destroyed"):
		p = new(Destroyed)
	case el.Is(NSDelivery, "reinit"):
		p = new(ReInitNotice)
	}
	return p, p.Parse(el)
}

// ReInitNotice tells that the JID continues with a new MLS group: the content
// of a [Control] entry, after [CreateGroup] with previous.
//
//	<reinit xmlns='urn:xmpp:mls:ds:0' previous='q83vEjRWeJA=' group-id='EjRWeJCrze8='/>
//
// Epochs start again at 0 with it; seq and chain go on.
//
// Source: xep/mls-delivery.xml#reinit; RFC 9420 §11.2.
type ReInitNotice struct {
	Previous, GroupID []byte
}

// Append appends the element.
func (r *ReInitNotice) Append(dst []byte) []byte {
	dst = attrBase64(open(dst, NSDelivery, "reinit"), "previous", r.Previous)
	dst = attrBase64(dst, "group-id", r.GroupID)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (r *ReInitNotice) Parse(el Element) error {
	d := expect(el, NSDelivery, "reinit")
	d.noText()
	r.Previous = d.base64("previous", MaxGroupID, r.Previous)
	r.GroupID = d.base64("group-id", MaxGroupID, r.GroupID)
	return d.err
}
