// SPDX-License-Identifier: Apache-2.0

package stanza

// Nudge tells a client without a live session that something waits: the
// payload of a headline message to the bare JID, or of the one normal message
// with a body and a store hint that an offline account gets. It comes from the
// DS and names no group.
//
//	<nudge xmlns='urn:xmpp:mls:ds:0'/>
//
// Source: xep/mls-delivery.xml#nudges.
type Nudge struct{}

// Append appends the element.
func (*Nudge) Append(dst []byte) []byte { return appendEmpty(dst, NSDelivery, "nudge") }

// Parse reads the element.
func (*Nudge) Parse(el Element) error { return parseEmpty(el, NSDelivery, "nudge") }

// NudgeMode is how a DS may call an account that has no live session.
type NudgeMode string

const (
	// NudgePush sends headlines, and one stored message to an offline account,
	// which wakes a phone. It is the default of a DS unless its operator says
	// otherwise.
	NudgePush NudgeMode = "push"
	// NudgeHeadline sends headlines to devices that are online, stores nothing.
	NudgeHeadline NudgeMode = "headline"
	// NudgeNone sends nothing: the client polls. No push service then learns
	// when somebody spoke (RFC 9750 §8.4.2.1).
	NudgeNone NudgeMode = "none"
)

// NudgesQuery asks a DS how it nudges the account: the payload of an IQ get to
// the DS, answered with [Nudges].
//
//	<nudges xmlns='urn:xmpp:mls:ds:0'/>
type NudgesQuery struct{}

// Append appends the element.
func (*NudgesQuery) Append(dst []byte) []byte { return appendEmpty(dst, NSDelivery, "nudges") }

// Parse reads the element.
func (*NudgesQuery) Parse(el Element) error { return parseEmpty(el, NSDelivery, "nudges") }

// Nudges sets how a DS nudges the account: the payload of an IQ set to the DS,
// answered with an empty result, and of the answer to [NudgesQuery]. It
// replaces the setting and the list of muted groups.
//
//	<nudges xmlns='urn:xmpp:mls:ds:0' mode='push'>
//	  <mute group='alerts@mls.example.org'/>
//	</nudges>
//
// A muted group causes no nudges; live sessions get its messages as ever.
//
// Source: xep/mls-delivery.xml#nudges; RFC 9750 §8.4.2.1.
type Nudges struct {
	Mode NudgeMode
	// Muted are JIDs of groups.
	Muted []string
}

// Append appends the element.
func (n *Nudges) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "nudges"), "mode", string(n.Mode))
	if len(n.Muted) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, g := range n.Muted {
		dst = attr(start(dst, "mute"), "group", g)
		dst = append(dst, "/>"...)
	}
	return end(dst, "nudges")
}

// Parse reads the element.
func (n *Nudges) Parse(el Element) error {
	d := expect(el, NSDelivery, "nudges")
	d.noText()
	switch v := d.attr("mode"); string(v) {
	case "push":
		n.Mode = NudgePush
	case "headline":
		n.Mode = NudgeHeadline
	case "none":
		n.Mode = NudgeNone
	default:
		d.fail("mode is not push, headline or none: %.32q", v)
	}
	n.Muted = n.Muted[:0]
	for c := range d.list(NSDelivery, "mute", MaxItems) {
		cd := d.child(c)
		n.Muted = append(n.Muted, cd.jid("group", ""))
		d.done(&cd)
	}
	return d.err
}
