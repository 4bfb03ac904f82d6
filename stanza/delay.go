// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// Delay says when a stored stanza was received (XEP-0203).
//
//	<delay xmlns='urn:xmpp:delay' from='capulet.lit' stamp='2026-08-20T09:15:00Z'/>
type Delay struct {
	From  string
	Stamp time.Time
	// Reason is for humans, usually empty.
	Reason string
}

// Append appends the element.
func (v *Delay) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSDelay, "delay"), "from", v.From)
	dst = attrDate(dst, "stamp", v.Stamp)
	if v.Reason == "" {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = appendEscaped(dst, v.Reason)
	return end(dst, "delay")
}

// Parse reads the element.
func (v *Delay) Parse(el Element) error {
	d := expect(el, NSDelay, "delay")
	v.From = d.jidOpt("from", v.From)
	v.Stamp = d.stamp("stamp")
	v.Reason = d.textOf(el, MaxText, v.Reason)
	return d.err
}
