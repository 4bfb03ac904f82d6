// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
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

// envelope is an opened XEP-0420 envelope.
type envelope struct {
	from, to string
	sent     time.Time
	content  xmlpull.Element
}

var errEnvelope = errors.New("the sealed message is not an envelope of XEP-0420")

// parseEnvelope reads the plain text of an application message. The profile
// (PROTOCOL.md §9) wants from, to and time; unknown affixes are ignored.
func parseEnvelope(doc *xmlpull.Doc, b []byte) (*envelope, error) {
	root, err := doc.Parse(b, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errEnvelope, err)
	}
	if !root.Is(stanza.NSSCE, "envelope") {
		return nil, errEnvelope
	}
	e := &envelope{content: root.Child(stanza.NSSCE, "content")}
	if !e.content.Valid() {
		return nil, fmt.Errorf("%w: it has no content", errEnvelope)
	}
	if v, ok := root.Child(stanza.NSSCE, "from").Attr("jid"); ok {
		e.from = normalOr(string(v))
	}
	if v, ok := root.Child(stanza.NSSCE, "to").Attr("jid"); ok {
		e.to = normalOr(string(v))
	}
	if v, ok := root.Child(stanza.NSSCE, "time").Attr("stamp"); ok {
		if t, err := time.Parse(time.RFC3339Nano, string(v)); err == nil {
			e.sent = t
		}
	}
	return e, nil
}

// ref is the name by which others refer to the message.
func (m *Message) ref() string {
	if m.OriginID != "" {
		return m.OriginID
	}
	return m.ID
}

// check compares the envelope with what MLS has proven: an insider must not
// write in another's name, nor move a message to another group.
func (e *envelope) check(sender, group string) error {
	if e.from != "" && e.from != sender {
		return fmt.Errorf("the envelope says it is from %q, and %s signed it", e.from, sender)
	}
	if e.from == "" {
		return errors.New("the envelope does not say who wrote it")
	}
	if e.sent.IsZero() {
		return errors.New("the envelope does not say when it was written")
	}
	if e.to != group {
		return fmt.Errorf("the envelope is for %q, not for this group", e.to)
	}
	return nil
}

// read fills the fields of m from the content.
func (m *Message) read(content xmlpull.Element) {
	for el := content.First(); el.Valid(); el = el.Next() {
		m.XML = el.AppendXML(m.XML, "")
		space, local := string(el.Space()), string(el.Local())
		id, _ := el.Attr("id")
		switch space {
		case stanza.NSClient:
			if local == "body" && m.Body == "" {
				m.Body = string(el.Text())
			}
		case stanza.NSSID:
			if local == "origin-id" {
				m.OriginID = string(id)
			}
		case stanza.NSReply:
			if local == "reply" {
				to, _ := el.Attr("to")
				m.ReplyTo = &Reference{ID: string(id), To: normalOr(string(to))}
			}
		case stanza.NSReactions:
			if local == "reactions" {
				m.ReactsTo = string(id)
				m.Reactions = []string{}
				for r := el.First(); r.Valid() && len(m.Reactions) < maxReactions; r = r.Next() {
					if r.Is(stanza.NSReactions, "reaction") {
						m.Reactions = append(m.Reactions, string(r.Text()))
					}
				}
			}
		case stanza.NSCorrect:
			if local == "replace" {
				m.Corrects = string(id)
			}
		case stanza.NSRetract:
			if local == "retract" {
				m.Retracts = string(id)
			}
		case stanza.NSReceipts:
			switch local {
			case "request":
				m.WantsReceipt = true
			case "received":
				m.Received = string(id)
			}
		case stanza.NSMarkers:
			switch local {
			case "received":
				m.Received = string(id)
			case "displayed", "acknowledged":
				m.Displayed = string(id)
			}
		case stanza.NSChatStates:
			switch local {
			case "active", "composing", "paused", "inactive", "gone":
				m.ChatState = local
			}
		case stanza.NSFileSharing:
			if local == "file-sharing" && len(m.Files) < maxFiles {
				if f, err := parseFileSharing(el); err == nil {
					m.Files = append(m.Files, *f)
				}
			}
		}
	}
}

const (
	maxReactions = 64
	maxFiles     = 64
)

// appendEnvelope appends the plain text of an application message.
func appendEnvelope(dst []byte, from, to string, at time.Time, content []byte) []byte {
	dst = append(dst, "<envelope xmlns='"+stanza.NSSCE+"'><content>"...)
	dst = append(dst, content...)
	dst = append(dst, "</content><from"...)
	dst = xmlpull.AppendAttr(dst, "jid", from)
	dst = append(dst, "/><to"...)
	dst = xmlpull.AppendAttr(dst, "jid", to)
	dst = append(dst, "/><time"...)
	dst = xmlpull.AppendAttr(dst, "stamp", at.UTC().Format("2006-01-02T15:04:05.000Z"))
	return append(dst, "/></envelope>"...)
}

// The functions below append one element of content each.

func appendBody(dst []byte, text string) []byte {
	dst = append(dst, "<body xmlns='jabber:client'>"...)
	dst = xmlpull.AppendText(dst, text)
	return append(dst, "</body>"...)
}

// appendEmpty appends <local xmlns='space' name='value' …/>.
func appendEmpty(dst []byte, space, local string, attrs ...string) []byte {
	dst = append(dst, '<')
	dst = append(dst, local...)
	dst = xmlpull.AppendAttr(dst, "xmlns", space)
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i+1] != "" {
			dst = xmlpull.AppendAttr(dst, attrs[i], attrs[i+1])
		}
	}
	return append(dst, "/>"...)
}

func appendReactions(dst []byte, id string, reactions []string) []byte {
	dst = append(dst, "<reactions xmlns='"+stanza.NSReactions+"'"...)
	dst = xmlpull.AppendAttr(dst, "id", id)
	dst = append(dst, '>')
	for _, r := range reactions {
		dst = append(dst, "<reaction>"...)
		dst = xmlpull.AppendText(dst, r)
		dst = append(dst, "</reaction>"...)
	}
	return append(dst, "</reactions>"...)
}

// checkContent refuses XML that would break the envelope, before it is sealed.
func checkContent(xml []byte) error {
	var doc xmlpull.Doc
	if _, err := doc.Parse(wrapContent(xml), nil); err != nil {
		return fmt.Errorf("client: the content is not well-formed XML: %w", err)
	}
	return nil
}
