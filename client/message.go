// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file is what is inside a message: the content of an XEP-0420 envelope,
// read into fields where this package knows it and kept as XML where not.

// Message is a message of a group, opened and checked: who sent it is proven
// by the sender's signature.
type Message struct {
	// ID names the message for everybody in the group and is the same when it
	// is delivered again after a crash.
	ID string
	// Group is where it was said.
	Group *Group
	// Seq is its place in the group's log; 0 for an ephemeral message, which is
	// in none.
	Seq uint64
	// Epoch is the group's epoch in which it was sealed.
	Epoch uint64
	// Sender is the device that signed it.
	Sender Who
	// Own says that another device of this account sent it.
	Own bool
	// Time is when the delivery service accepted it, Sent when the sender says
	// it was written.
	Time, Sent time.Time
	// OriginID is the sender's own name for it (XEP-0359), by which replies,
	// reactions, corrections, retractions and receipts refer to it; empty if the
	// sender gave none.
	OriginID string

	// Body is the text, empty if there is none.
	Body string
	// ReplyTo is the message this one answers (XEP-0461), nil if none.
	ReplyTo *Reference
	// Reactions are all of the sender's current reactions to the message
	// ReactsTo (XEP-0444): none takes them back.
	Reactions []string
	ReactsTo  string
	// Corrects is the OriginID of an earlier message of the same account that
	// this one replaces (XEP-0308). Compare the account: see [Message.SameAuthor].
	Corrects string
	// Retracts is the OriginID of an earlier message that is taken back
	// (XEP-0424): it counts if it comes from the same account, or from an admin
	// or owner of the group.
	Retracts string
	// WantsReceipt says that the sender asks for a receipt (XEP-0184).
	WantsReceipt bool
	// Received is the OriginID of a message that the sender's device has
	// received (XEP-0184), Displayed of one that the sender has seen (XEP-0333).
	Received, Displayed string
	// ChatState is the sender's state: "active", "composing", "paused",
	// "inactive" or "gone" (XEP-0085).
	ChatState string
	// Files are shared files; see [Client.Download].
	Files []File
	// Ephemeral messages are neither stored nor ordered.
	Ephemeral bool

	plain []byte // the envelope as it was sealed, for a report

	// XML is the whole content: the elements inside <content/>, each with its
	// namespace declared. Payloads that this package does not know are here.
	XML []byte
}

// Reference points to another message.
type Reference struct {
	ID string // OriginID of the message
	To string // who is answered: bare JID, empty if not told
}

// SameAuthor reports whether both messages are of one account: the condition
// for a correction or retraction to count.
func (m *Message) SameAuthor(other *Message) bool { return m.Sender.JID == other.Sender.JID }

// Reply answers the message with text in the same group.
func (m *Message) Reply(ctx context.Context, text string) (*Sent, error) {
	return m.Group.Reply(ctx, m, text)
}

// Each calls fn for each element of the content until it returns false.
func (m *Message) Each(fn func(el xmlpull.Element) bool) error {
	var doc xmlpull.Doc
	root, err := doc.Parse(wrapContent(m.XML), nil)
	if err != nil {
		return err
	}
	for el := root.First(); el.Valid(); el = el.Next() {
		if !fn(el) {
			break
		}
	}
	return nil
}

func wrapContent(xml []byte) []byte {
	b := make([]byte, 0, len(xml)+64)
	b = append(b, "<content xmlns='"+stanza.NSSCE+"'>"...)
	b = append(b, xml...)
	return append(b, "</content>"...)
}

// openEnvelope reads the plain text of an application message, and checks it
// against what MLS has proven: an insider must not write in another's name, nor
// move a message to another group.
func openEnvelope(plain []byte, sender, group string) (*stanza.Envelope, *stanza.Content, error) {
	env, content, err := readEnvelope(plain)
	switch {
	case err != nil:
		return nil, nil, err
	case env.From != sender && normalOr(env.From) != sender:
		return nil, nil, fmt.Errorf("the envelope says it is from %q, and %s signed it", env.From, sender)
	case env.To != group && normalOr(env.To) != group:
		return nil, nil, fmt.Errorf("the envelope is for %q, not for this group", env.To)
	}
	return env, content, nil
}

// readEnvelope is openEnvelope for one that has been checked.
func readEnvelope(plain []byte) (*stanza.Envelope, *stanza.Content, error) {
	doc := docs.Get().(*xmlpull.Doc)
	defer docs.Put(doc)
	root, err := doc.Parse(plain, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("the sealed message is not an envelope of XEP-0420: %w", err)
	}
	env, err := stanza.Parse[stanza.Envelope](root)
	if err != nil {
		return nil, nil, fmt.Errorf("the sealed message is not an envelope of XEP-0420: %w", err)
	}
	content := stanza.ReadContent(root.Child(stanza.NSSCE, "content"))
	return &env, &content, nil
}

// docs are for reading envelopes; nothing that is read refers to them.
var docs = sync.Pool{New: func() any { return new(xmlpull.Doc) }}

// ref is the name by which others refer to the message.
func (m *Message) ref() string {
	if m.OriginID != "" {
		return m.OriginID
	}
	return m.ID
}

// read fills the fields of m from the content.
func (m *Message) read(env *stanza.Envelope, c *stanza.Content) {
	m.XML, m.Sent = env.Content, env.Time
	m.OriginID, m.Body = c.OriginID, c.Body()
	if c.Reply != nil {
		m.ReplyTo = &Reference{ID: c.Reply.ID, To: normalOr(c.Reply.To)}
	}
	if c.Reactions != nil {
		m.ReactsTo = c.Reactions.ID
		m.Reactions = append([]string{}, c.Reactions.Reactions...)
	}
	if c.Correction != nil {
		m.Corrects = c.Correction.ID
	}
	if c.Retraction != nil {
		m.Retracts = c.Retraction.ID
	}
	m.WantsReceipt, m.ChatState = c.ReceiptRequest, string(c.ChatState)
	if c.Receipt != nil {
		m.Received = c.Receipt.ID
	}
	if c.Displayed != nil {
		m.Displayed = c.Displayed.ID
	}
	for i := range c.Files {
		if f, err := fileOf(&c.Files[i]); err == nil {
			m.Files = append(m.Files, *f)
		}
	}
}

// checkContent refuses XML that would break the envelope, before it is sealed.
func checkContent(xml []byte) error {
	var doc xmlpull.Doc
	if _, err := doc.Parse(wrapContent(xml), nil); err != nil {
		return fmt.Errorf("client: the content is not well-formed XML: %w", err)
	}
	return nil
}
