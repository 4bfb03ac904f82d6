// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// Envelope is the plaintext of an application message: stanza content
// encryption (XEP-0420) in the profile of urn:xmpp:mls:0.
//
//	<envelope xmlns='urn:xmpp:sce:1'>
//	  <content>
//	    <body xmlns='jabber:client'>disk full on db3</body>
//	    <origin-id xmlns='urn:xmpp:sid:0' id='01J5QZ3W6V8H'/>
//	  </content>
//	  <from jid='alice@example.org'/>
//	  <to jid='ops@mls.example.org'/>
//	  <time stamp='2026-08-20T09:15:59Z'/>
//	</envelope>
//
// The profile: from, to and time must be there. from is the bare JID of the
// sender and must equal the identity in the credential of the sending leaf; to
// is the JID of the group and must equal the one in the GroupContext; time is
// the sender's clock. rpad is allowed and ignored: MLS pads (RFC 9420 §6.3.1).
// The receiver makes these comparisons; Parse checks the form.
//
// Source: xep/mls.xml#envelope; XEP-0420 §5.
type Envelope struct {
	// Content is the XML inside <content/>: any number of elements that
	// declare their namespaces. See [Envelope.AddContent] and [ParseContent].
	Content []byte
	From    string
	To      string
	Time    time.Time
	// Pad is random text, usually empty.
	Pad string
}

// AddContent appends an element to the content.
func (e *Envelope) AddContent(p Payload) { e.Content = p.Append(e.Content) }

// Append appends the element.
func (e *Envelope) Append(dst []byte) []byte {
	dst = append(open(dst, NSSCE, "envelope"), "><content>"...)
	dst = append(dst, e.Content...)
	dst = append(dst, "</content>"...)
	dst = textOpt(dst, "rpad", e.Pad)
	dst = append(attr(start(dst, "from"), "jid", e.From), "/>"...)
	dst = append(attr(start(dst, "to"), "jid", e.To), "/>"...)
	dst = append(attrDate(start(dst, "time"), "stamp", e.Time), "/>"...)
	return end(dst, "envelope")
}

// Parse reads the element.
func (e *Envelope) Parse(el Element) error {
	d := expect(el, NSSCE, "envelope")
	d.noText()
	e.Content, e.Pad = e.Content[:0], ""
	var content, from, to, stamp, pad bool
	for c := el.First(); c.Valid() && d.err == nil; c = c.Next() {
		if string(c.Space()) != NSSCE {
			continue
		}
		cd := d.textChild(c)
		if string(c.Local()) != "rpad" {
			cd.noText()
		}
		switch string(c.Local()) {
		case "content":
			if d.once(&content, c) {
				for x := c.First(); x.Valid(); x = x.Next() {
					e.Content = x.AppendXML(e.Content, NSSCE)
				}
			}
		case "from":
			if d.once(&from, c) {
				e.From = cd.jid("jid", e.From)
			}
		case "to":
			if d.once(&to, c) {
				e.To = cd.jid("jid", e.To)
			}
		case "time":
			if d.once(&stamp, c) {
				e.Time = cd.stamp("stamp")
			}
		case "rpad":
			if d.once(&pad, c) {
				e.Pad = cd.textOf(c, MaxText, "")
			}
		}
		d.done(&cd)
	}
	if !content || !from || !to || !stamp {
		d.fail("content, from, to or time is missing")
	}
	return d.err
}

// Content is what an application shows of an envelope, each field nil or empty
// if the element is absent. Elements that it does not know, and second ones
// where only one makes sense, are kept in Other.
type Content struct {
	Bodies         []Body
	OriginID       string
	Reply          *Reply
	Correction     *Correction
	Retraction     *Retraction
	Reactions      *Reactions
	ReceiptRequest bool
	Receipt        *Receipt
	Markable       bool
	Displayed      *Displayed
	ChatState      ChatState
	Files          []FileSharing
	TrustMessages  []TrustMessage
	Fallbacks      []Fallback
	// Other holds the XML of further elements, each a document of its own.
	Other []Raw
}

// Append appends all elements to dst, which is the Content of an [Envelope].
func (c *Content) Append(dst []byte) []byte {
	for i := range c.Bodies {
		b := c.Bodies[i]
		b.Inherit = false
		dst = b.Append(dst)
	}
	if c.OriginID != "" {
		dst = (&OriginID{c.OriginID}).Append(dst)
	}
	if c.Reply != nil {
		dst = c.Reply.Append(dst)
	}
	if c.Correction != nil {
		dst = c.Correction.Append(dst)
	}
	if c.Retraction != nil {
		dst = c.Retraction.Append(dst)
	}
	if c.Reactions != nil {
		dst = c.Reactions.Append(dst)
	}
	if c.ReceiptRequest {
		dst = (*ReceiptRequest)(nil).Append(dst)
	}
	if c.Receipt != nil {
		dst = c.Receipt.Append(dst)
	}
	if c.Markable {
		dst = (*Markable)(nil).Append(dst)
	}
	if c.Displayed != nil {
		dst = c.Displayed.Append(dst)
	}
	if c.ChatState != "" {
		dst = c.ChatState.Append(dst)
	}
	for i := range c.Files {
		dst = c.Files[i].Append(dst)
	}
	for i := range c.TrustMessages {
		dst = c.TrustMessages[i].Append(dst)
	}
	for i := range c.Fallbacks {
		dst = c.Fallbacks[i].Append(dst)
	}
	for i := range c.Other {
		dst = c.Other[i].Append(dst)
	}
	return dst
}

// Body returns the text of the first body, "" if there is none.
func (c *Content) Body() string {
	if len(c.Bodies) == 0 {
		return ""
	}
	return c.Bodies[0].Text
}

// ParseContent reads the content of an envelope. A known element that is
// malformed is kept in Other, so that one bad element does not hide a message;
// the error is that of XML.
func ParseContent(content []byte) (Content, error) {
	wrapped := append(append(append([]byte(nil), "<content xmlns='"+NSSCE+"'>"...), content...), "</content>"...)
	p := Parser{}
	s, err := p.Parse(wrapped)
	if err != nil {
		return Content{}, err
	}
	return ReadContent(s.Element), nil
}

// ReadContent is [ParseContent] for a <content/> that is parsed already. It refers to
// nothing of the document.
func ReadContent(content Element) Content {
	var c Content
	for el := content.First(); el.Valid(); el = el.Next() {
		if !c.add(el) {
			c.Other = append(c.Other, el.AppendXML(nil, ""))
		}
	}
	return c
}

// add takes over a known element.
func (c *Content) add(el Element) bool {
	switch string(el.Space()) + " " + string(el.Local()) {
	case NSClient + " body":
		return addTo(&c.Bodies, el)
	case NSSID + " origin-id":
		id, err := Parse[OriginID](el)
		if err != nil || c.OriginID != "" {
			return false
		}
		c.OriginID = id.ID
		return true
	case NSReply + " reply":
		return setTo(&c.Reply, el)
	case NSCorrect + " replace":
		return setTo(&c.Correction, el)
	case NSRetract + " retract":
		return setTo(&c.Retraction, el)
	case NSReactions + " reactions":
		return setTo(&c.Reactions, el)
	case NSReceipts + " request":
		c.ReceiptRequest = true
		return true
	case NSReceipts + " received":
		return setTo(&c.Receipt, el)
	case NSMarkers + " markable":
		c.Markable = true
		return true
	case NSMarkers + " displayed":
		return setTo(&c.Displayed, el)
	case NSFileSharing + " file-sharing":
		return addTo(&c.Files, el)
	case NSTrust + " trust-message":
		return addTo(&c.TrustMessages, el)
	case NSFallback + " fallback":
		return addTo(&c.Fallbacks, el)
	}
	if string(el.Space()) == NSChatStates && c.ChatState == "" {
		return c.ChatState.Parse(el) == nil
	}
	return false
}

func setTo[T any, P interface {
	*T
	Payload
}](dst **T, el Element) bool {
	if *dst != nil {
		return false
	}
	v, err := Parse[T, P](el)
	if err == nil {
		*dst = &v
	}
	return err == nil
}

func addTo[T any, P interface {
	*T
	Payload
}](dst *[]T, el Element) bool {
	v, err := Parse[T, P](el)
	if err == nil {
		*dst = append(*dst, v)
	}
	return err == nil
}
