// SPDX-License-Identifier: Apache-2.0

package stanza

// Reasons of XEP-0377 §3.
const (
	ReasonSpam  = "urn:xmpp:reporting:spam"
	ReasonAbuse = "urn:xmpp:reporting:abuse"
)

// ReportKind is what a [Report] is about.
type ReportKind string

const (
	// ReportAbuse is a member who misbehaves.
	ReportAbuse ReportKind = "abuse"
	// ReportInvalidCommit is an accepted commit that a member cannot process.
	ReportInvalidCommit ReportKind = "invalid-commit"
	// ReportFork is two histories of one group.
	ReportFork ReportKind = "fork"
)

// Report tells the DS, and through it an operator, of abuse or of a broken
// group: the payload of an IQ set to a group, answered with an empty result.
//
//	<report xmlns='urn:xmpp:mls:ds:0' kind='abuse' seq='1212' user='mallory@example.org'>
//	  <report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'/>
//	  <text>sells pills</text>
//	  <evidence type='plaintext'>PGVudmVsb3BlIHhtbG5z…</evidence>
//	</report>
//
//	<report xmlns='urn:xmpp:mls:ds:0' kind='invalid-commit' seq='1208' epoch='42' ref='pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4='>
//	  <text>parent hash</text>
//	  <evidence type='message'>AAEAAQ…</evidence>
//	</report>
//
// The DS keeps the bytes of the entry seq besides, which the chain has
// committed it to.
//
// Source: xep/mls-delivery.xml#reports; XEP-0377.
type Report struct {
	Kind ReportKind
	// Seq, Epoch and Ref name the log entry; zero if not told.
	Seq, Epoch uint64
	Ref        Ref
	// User is the bare JID of the one who is reported, empty if nobody is.
	User string
	// Reason is a reason of XEP-0377, empty for reports that are not of abuse.
	Reason string
	// Text is for the operator.
	Text     string
	Evidence []Evidence
}

// Evidence is a piece of evidence in a [Report].
type Evidence struct {
	// Type says what Bytes is: "plaintext" (the decrypted envelope), "message"
	// (an MLSMessage), "chain" (the authenticated_data of a message, of which
	// two contradict each other: see package groupdata).
	Type  string
	Bytes []byte
}

// Append appends the element.
func (r *Report) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "report"), "kind", string(r.Kind))
	dst = attrUintOpt(dst, "seq", r.Seq)
	dst = attrUintOpt(dst, "epoch", r.Epoch)
	dst = attrHash(dst, "ref", &r.Ref)
	dst = attrOpt(dst, "user", r.User)
	dst = append(dst, '>')
	if r.Reason != "" {
		dst = attr(open(dst, NSReporting, "report"), "reason", r.Reason)
		dst = append(dst, "/>"...)
	}
	dst = textOpt(dst, "text", r.Text)
	for i := range r.Evidence {
		dst = attr(start(dst, "evidence"), "type", r.Evidence[i].Type)
		dst = append(dst, '>')
		dst = AppendBase64(dst, r.Evidence[i].Bytes)
		dst = end(dst, "evidence")
	}
	return end(dst, "report")
}

// Parse reads the element.
func (r *Report) Parse(el Element) error {
	d := expect(el, NSDelivery, "report")
	d.noText()
	switch v := d.attr("kind"); string(v) {
	case "abuse":
		r.Kind = ReportAbuse
	case "invalid-commit":
		r.Kind = ReportInvalidCommit
	case "fork":
		r.Kind = ReportFork
	default:
		d.fail("kind is not abuse, invalid-commit or fork: %.32q", v)
	}
	r.Seq = d.uint64Opt("seq")
	r.Epoch = d.uint64Opt("epoch")
	r.Ref = d.hashOpt("ref")
	r.User = d.jidOpt("user", r.User)
	oldReason, oldText := r.Reason, r.Text
	r.Reason, r.Text, r.Evidence = "", "", r.Evidence[:0]
	var reason, txt bool
	for c := el.First(); c.Valid(); c = c.Next() {
		switch {
		case c.Is(NSReporting, "report") && d.once(&reason, c):
			cd := d.child(c)
			r.Reason = cd.str("reason", MaxID, oldReason)
			d.done(&cd)
		case c.Is(NSDelivery, "text") && d.once(&txt, c):
			r.Text = d.textOf(c, MaxText, oldText)
		case c.Is(NSDelivery, "evidence") && d.room(len(r.Evidence), MaxRefs):
			cd := d.textChild(c)
			r.Evidence = append(r.Evidence, Evidence{Type: cd.str("type", MaxID, ""), Bytes: cd.content(nil)})
			d.done(&cd)
		}
	}
	return d.err
}
