// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"time"

	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// MLS is an MLSMessage in a stanza: in a [Send], and in the messages that a
// group fans out, beside a [Delivery].
//
//	<mls xmlns='urn:xmpp:mls:0'>AAEAAg…</mls>
//
// Source: xep/mls.xml#mls-element.
type MLS struct {
	Bytes []byte
}

// Append appends the element.
func (m *MLS) Append(dst []byte) []byte {
	dst = append(open(dst, NSMLS, "mls"), '>')
	dst = AppendBase64(dst, m.Bytes)
	return end(dst, "mls")
}

// Parse reads the element.
func (m *MLS) Parse(el Element) error {
	d := expect(el, NSMLS, "mls")
	m.Bytes = d.content(m.Bytes)
	return d.err
}

// Send submits an application message: the payload of an IQ set to a group,
// answered with [Accepted].
//
//	<send xmlns='urn:xmpp:mls:ds:0' epoch='43' ref='47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='>
//	  <mls xmlns='urn:xmpp:mls:0'>AAEAAg…</mls>
//	</send>
//
// With ephemeral='true' it is not kept: live sessions get it, others never do.
//
// Source: xep/mls-delivery.xml#send.
type Send struct {
	Epoch     uint64
	Ref       Ref
	Ephemeral bool
	Message   MLS
}

// Append appends the element.
func (s *Send) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "send")
	dst = attrUint(dst, "epoch", s.Epoch)
	dst = attrBase64(dst, "ref", s.Ref[:])
	dst = attrTrue(dst, "ephemeral", s.Ephemeral)
	dst = append(dst, '>')
	dst = s.Message.Append(dst)
	return end(dst, "send")
}

// Parse reads the element.
func (s *Send) Parse(el Element) error {
	d := expect(el, NSDelivery, "send")
	d.noText()
	s.Epoch = d.uint64("epoch")
	s.Ref = d.hash("ref")
	s.Ephemeral = d.boolean("ephemeral")
	if c := d.only(el, NSMLS, "mls"); c.Valid() {
		d.set(s.Message.Parse(c))
	} else {
		d.fail("no <mls/>")
	}
	return d.err
}

// EntryKind is the kind of a log entry, in XML by its name: application,
// proposal, commit or control.
type EntryKind = groupdata.Kind

// Kinds of log entries.
const (
	EntryApplication = groupdata.Application
	EntryProposal    = groupdata.Proposal
	EntryCommit      = groupdata.Commit
	// EntryControl is a notice of the DS itself, see [Control].
	EntryControl = groupdata.Control
)

// entryKind returns the required kind attribute.
func (d *dec) entryKind() EntryKind {
	v := d.attr("kind")
	switch string(v) {
	case "application":
		return EntryApplication
	case "proposal":
		return EntryProposal
	case "commit":
		return EntryCommit
	case "control":
		return EntryControl
	}
	d.fail("kind is not application, proposal, commit or control: %.32q", v)
	return 0
}

// Delivery says what a fanned-out message is and where it belongs: beside an
// [MLS] or a [Control] in a groupchat message to a full JID, from the group.
//
//	<delivery xmlns='urn:xmpp:mls:ds:0' seq='1212' epoch='43' kind='application' chain='47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' stamp='2026-08-20T09:16:00.001Z'/>
//
// An ephemeral message has no seq and no chain. An entry too large for a
// stanza comes with size, without the MLS element: the client fetches it with
// an [EntryQuery].
//
// The element is only to be believed in a message from the group's bare JID.
//
// Source: xep/mls-delivery.xml#send.
type Delivery struct {
	// Seq is the place in the log, 0 for an ephemeral message.
	Seq uint64
	// Epoch is the epoch that the message was made in: of a commit, the one
	// that it ends.
	Epoch uint64
	Kind  EntryKind
	// Chain is the chain value after the entry.
	Chain Hash
	// Stamp is when the DS accepted the entry, with milliseconds.
	Stamp time.Time
	// Size is the entry's size in bytes if it is not in the message, else 0.
	Size uint64
}

// Append appends the element.
func (v *Delivery) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "delivery")
	dst = attrUintOpt(dst, "seq", v.Seq)
	dst = attrUint(dst, "epoch", v.Epoch)
	dst = attr(dst, "kind", v.Kind.String())
	dst = attrHash(dst, "chain", &v.Chain)
	dst = attrStamp(dst, "stamp", v.Stamp)
	dst = attrUintOpt(dst, "size", v.Size)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (v *Delivery) Parse(el Element) error {
	d := expect(el, NSDelivery, "delivery")
	d.noText()
	v.Seq = d.uint64Opt("seq")
	v.Epoch = d.uint64("epoch")
	v.Kind = d.entryKind()
	v.Chain = d.hashOpt("chain")
	v.Stamp = d.stampOpt("stamp")
	v.Size = d.uint64Opt("size")
	return d.err
}
