// SPDX-License-Identifier: Apache-2.0

package stanza

// Destroy ends a group: the payload of an IQ set of an owner to the group,
// answered with an empty result. The log is wiped, the JID answers gone for 90
// days.
//
//	<destroy xmlns='urn:xmpp:mls:ds:0' jid='ops2@mls.example.org'>
//	  <reason>moved</reason>
//	</destroy>
//
// Source: xep/mls-delivery.xml#destroy.
type Destroy struct {
	// JID is where the group goes on, empty if nowhere.
	JID    string
	Reason string
}

// Destroyed tells members that a group has ended: the payload of a headline
// message from the group. (The log, which ends with the group, has no entry for
// it.)
//
//	<destroyed xmlns='urn:xmpp:mls:ds:0' jid='ops2@mls.example.org'>
//	  <reason>moved</reason>
//	</destroyed>
//
// A client follows jid only if its user's policy says so.
//
// Source: xep/mls-delivery.xml#destroy.
type Destroyed struct {
	JID    string
	Reason string
}

// Append appends the element.
func (v *Destroy) Append(dst []byte) []byte {
	return appendDestroy(dst, "destroy", v.JID, v.Reason)
}

// Parse reads the element.
func (v *Destroy) Parse(el Element) error {
	return parseDestroy(el, "destroy", &v.JID, &v.Reason)
}

// Append appends the element.
func (v *Destroyed) Append(dst []byte) []byte {
	return appendDestroy(dst, "destroyed", v.JID, v.Reason)
}

// Parse reads the element.
func (v *Destroyed) Parse(el Element) error {
	return parseDestroy(el, "destroyed", &v.JID, &v.Reason)
}

func appendDestroy(dst []byte, local, jid, reason string) []byte {
	dst = attrOpt(open(dst, NSDelivery, local), "jid", jid)
	if reason == "" {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = text(dst, "reason", reason)
	return end(dst, local)
}

func parseDestroy(el Element, local string, jid, reason *string) error {
	d := expect(el, NSDelivery, local)
	d.noText()
	*jid = d.jidOpt("jid", *jid)
	if c := d.only(el, NSDelivery, "reason"); c.Valid() {
		*reason = d.textOf(c, MaxText, *reason)
	} else {
		*reason = ""
	}
	return d.err
}
