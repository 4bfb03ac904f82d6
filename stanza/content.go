// SPDX-License-Identifier: Apache-2.0

package stanza

// This file holds the small elements that refer to other messages. An id is
// the origin-id of the message inside its envelope, which is authenticated.

// Reply says which message a message answers (XEP-0461).
//
//	<reply xmlns='urn:xmpp:reply:0' to='juliet@capulet.lit' id='01J5QZ3W6V8H'/>
type Reply struct {
	// To is the author of the other message, empty if not told.
	To string
	ID string
}

// Append appends the element.
func (r *Reply) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSReply, "reply"), "to", r.To)
	dst = attr(dst, "id", r.ID)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (r *Reply) Parse(el Element) error {
	d := expect(el, NSReply, "reply")
	d.noText()
	r.To = d.jidOpt("to", r.To)
	r.ID = d.str("id", MaxID, r.ID)
	return d.err
}

// Reactions are all reactions of the sender to a message (XEP-0444): an empty
// list takes them back.
//
//	<reactions xmlns='urn:xmpp:reactions:0' id='01J5QZ3W6V8H'><reaction>👋</reaction></reactions>
type Reactions struct {
	ID        string
	Reactions []string
}

// MaxReaction is the longest reaction in bytes: an emoji with many joiners.
const MaxReaction = 256

// Append appends the element.
func (r *Reactions) Append(dst []byte) []byte {
	dst = attr(open(dst, NSReactions, "reactions"), "id", r.ID)
	if len(r.Reactions) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for _, s := range r.Reactions {
		dst = text(dst, "reaction", s)
	}
	return end(dst, "reactions")
}

// Parse reads the element.
func (r *Reactions) Parse(el Element) error {
	d := expect(el, NSReactions, "reactions")
	d.noText()
	r.ID = d.str("id", MaxID, r.ID)
	r.Reactions = r.Reactions[:0]
	for c := range d.list(NSReactions, "reaction", MaxRefs) {
		r.Reactions = append(r.Reactions, d.textOf(c, MaxReaction, ""))
	}
	return d.err
}

// Correction makes a message replace an earlier one of the same sender
// (XEP-0308). The id is that of the first version.
//
//	<replace xmlns='urn:xmpp:message-correct:0' id='01J5QZ3W6V8H'/>
type Correction struct {
	ID string
}

// Append appends the element.
func (c *Correction) Append(dst []byte) []byte { return appendID(dst, NSCorrect, "replace", c.ID) }

// Parse reads the element.
func (c *Correction) Parse(el Element) error { return parseID(el, NSCorrect, "replace", &c.ID) }

// Retraction takes an earlier message of the same sender back (XEP-0424).
//
//	<retract xmlns='urn:xmpp:message-retract:1' id='01J5QZ3W6V8H'/>
type Retraction struct {
	ID string
}

// Append appends the element.
func (r *Retraction) Append(dst []byte) []byte { return appendID(dst, NSRetract, "retract", r.ID) }

// Parse reads the element.
func (r *Retraction) Parse(el Element) error { return parseID(el, NSRetract, "retract", &r.ID) }

func appendID(dst []byte, space, local, id string) []byte {
	return append(attr(open(dst, space, local), "id", id), "/>"...)
}

func parseID(el Element, space, local string, id *string) error {
	d := expect(el, space, local)
	d.noText()
	*id = d.str("id", MaxID, *id)
	return d.err
}

// ReceiptRequest asks for a receipt of the message (XEP-0184).
//
//	<request xmlns='urn:xmpp:receipts'/>
type ReceiptRequest struct{}

// Append appends the element.
func (*ReceiptRequest) Append(dst []byte) []byte { return appendEmpty(dst, NSReceipts, "request") }

// Parse reads the element.
func (*ReceiptRequest) Parse(el Element) error { return parseEmpty(el, NSReceipts, "request") }

// Receipt says that a message has arrived (XEP-0184).
//
//	<received xmlns='urn:xmpp:receipts' id='01J5QZ3W6V8H'/>
type Receipt struct {
	ID string
}

// Append appends the element.
func (r *Receipt) Append(dst []byte) []byte { return appendID(dst, NSReceipts, "received", r.ID) }

// Parse reads the element.
func (r *Receipt) Parse(el Element) error { return parseID(el, NSReceipts, "received", &r.ID) }

// Markable asks for a displayed marker (XEP-0333).
//
//	<markable xmlns='urn:xmpp:chat-markers:0'/>
type Markable struct{}

// Append appends the element.
func (*Markable) Append(dst []byte) []byte { return appendEmpty(dst, NSMarkers, "markable") }

// Parse reads the element.
func (*Markable) Parse(el Element) error { return parseEmpty(el, NSMarkers, "markable") }

// Displayed says that the messages up to this one have been shown (XEP-0333).
//
//	<displayed xmlns='urn:xmpp:chat-markers:0' id='01J5QZ3W6V8H'/>
type Displayed struct {
	ID string
}

// Append appends the element.
func (m *Displayed) Append(dst []byte) []byte { return appendID(dst, NSMarkers, "displayed", m.ID) }

// Parse reads the element.
func (m *Displayed) Parse(el Element) error { return parseID(el, NSMarkers, "displayed", &m.ID) }

// ChatState is a chat state (XEP-0085), by its XML name:
//
//	<composing xmlns='http://jabber.org/protocol/chatstates'/>
type ChatState string

// Chat states.
const (
	StateActive    ChatState = "active"
	StateComposing ChatState = "composing"
	StatePaused    ChatState = "paused"
	StateInactive  ChatState = "inactive"
	StateGone      ChatState = "gone"
)

// Append appends the element.
func (s *ChatState) Append(dst []byte) []byte { return appendEmpty(dst, NSChatStates, string(*s)) }

// Parse reads the element.
func (s *ChatState) Parse(el Element) error {
	for _, known := range [...]ChatState{StateActive, StateComposing, StatePaused, StateInactive, StateGone} {
		if string(el.Local()) == string(known) {
			*s = known
			return parseEmpty(el, NSChatStates, string(known))
		}
	}
	return expect(el, NSChatStates, "active").err
}
