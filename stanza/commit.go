// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// Commit submits a commit with what belongs to it: the payload of an IQ set to
// a group, answered with [Accepted]. All of it happens, or nothing.
//
//	<commit xmlns='urn:xmpp:mls:ds:0' epoch='42' ref='pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4='>
//	  <message>AAEAAQ…</message>
//	  <welcome>AAEAAw…</welcome>
//	  <group-info>AAEABA…</group-info>
//	</commit>
//
// An external commit has external='true' (xep/mls-delivery.xml#external). What does not fit
// a stanza is staged first, see [Stage]. In a group in private mode, whose
// commits the DS cannot read, the committer declares who comes and goes:
//
//	<members>
//	  <add jid='carol@other.example' device='5d41402abc4b2a76b9719d911017c592' kp-ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='/>
//	  <remove jid='dave@other.example' device='7d793037a0760186574b0282f2f435e7'/>
//	</members>
//
// The DS uses that for fan-out and for the routing of Welcomes, and believes
// it only as far as that: a lie costs deliveries, never secrets.
//
// Source: xep/mls-delivery.xml#commit; RFC 9420 §12.4.
type Commit struct {
	// Epoch is the epoch that the commit ends.
	Epoch uint64
	// Ref is the [MessageRef] of the message. If the message is staged it is
	// the stage's hash.
	Ref Ref
	// External marks a commit of a new member (RFC 9420 §12.4.3.2).
	External bool
	Message  Object
	// Welcome is absent if nobody is added.
	Welcome Object
	// GroupInfo describes the group after the commit, for later joiners. It
	// never holds the tree. In private mode it may be absent.
	GroupInfo Object
	// Members is private mode's declaration, nil in public mode.
	Members *MemberChanges
}

// MemberChanges are the devices that a commit adds and removes.
type MemberChanges struct {
	Added, Removed []MemberChange
}

// MemberChange is one device in [MemberChanges].
type MemberChange struct {
	// JID is a bare JID.
	JID    string
	Device DeviceID
	// KeyPackageRef is the key package that an added device was added with
	// (RFC 9420 §5.2). It is empty for a removed device.
	KeyPackageRef []byte
}

// Append appends the element.
func (c *Commit) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "commit")
	dst = attrUint(dst, "epoch", c.Epoch)
	dst = attrBase64(dst, "ref", c.Ref[:])
	dst = attrTrue(dst, "external", c.External)
	dst = append(dst, '>')
	dst = c.Message.append(dst, "message")
	dst = c.Welcome.append(dst, "welcome")
	dst = c.GroupInfo.append(dst, "group-info")
	if c.Members != nil {
		dst = append(start(dst, "members"), '>')
		for i := range c.Members.Added {
			dst = c.Members.Added[i].append(dst, "add")
		}
		for i := range c.Members.Removed {
			dst = c.Members.Removed[i].append(dst, "remove")
		}
		dst = end(dst, "members")
	}
	return end(dst, "commit")
}

func (m *MemberChange) append(dst []byte, local string) []byte {
	dst = attr(start(dst, local), "jid", m.JID)
	dst = attrDevice(dst, "device", &m.Device)
	dst = attrBase64Opt(dst, "kp-ref", m.KeyPackageRef)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (c *Commit) Parse(el Element) error {
	d := expect(el, NSDelivery, "commit")
	d.noText()
	c.Epoch = d.uint64("epoch")
	c.Ref = d.hash("ref")
	c.External = d.boolean("external")
	c.Message.reset()
	c.Welcome.reset()
	c.GroupInfo.reset()
	c.Members = nil
	var message, welcome, groupInfo, members bool
	for e := el.First(); e.Valid() && d.err == nil; e = e.Next() {
		if string(e.Space()) != NSDelivery {
			continue
		}
		switch string(e.Local()) {
		case "message":
			if d.once(&message, e) {
				c.Message.parse(&d, e)
			}
		case "welcome":
			if d.once(&welcome, e) {
				c.Welcome.parse(&d, e)
			}
		case "group-info":
			if d.once(&groupInfo, e) {
				c.GroupInfo.parse(&d, e)
			}
		case "members":
			if d.once(&members, e) {
				c.Members = memberChanges(&d, e)
			}
		}
	}
	if !message {
		d.fail("no <message/>")
	}
	return d.err
}

func memberChanges(parent *dec, e Element) *MemberChanges {
	d := parent.child(e)
	m := new(MemberChanges)
	m.Added = d.memberChanges("add")
	m.Removed = d.memberChanges("remove")
	parent.done(&d)
	return m
}

func (d *dec) memberChanges(local string) (list []MemberChange) {
	for c := range d.list(NSDelivery, local, MaxItems) {
		cd := d.child(c)
		list = append(list, MemberChange{
			JID: cd.jid("jid", ""), Device: cd.device("device"), KeyPackageRef: cd.base64Opt("kp-ref", MaxKeyPackageRef, nil),
		})
		d.done(&cd)
	}
	return list
}

// Accepted answers [Commit], [Proposal], [Send] and [Leave]: the payload of the
// IQ result. The entry is durable and in order; now, and not before, a client
// merges its pending commit. The same submission, known by its ref, always
// gets the same answer.
//
//	<accepted xmlns='urn:xmpp:mls:ds:0' seq='1208' epoch='43' ref='pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=' chain='RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=' stamp='2026-08-20T09:15:00.123Z'/>
//
// For an application message it also holds the id that the message has for
// everybody. For an ephemeral one, which has no place in the log, there is no
// seq.
//
// Source: xep/mls-delivery.xml#commit.
type Accepted struct {
	// Seq is the entry's place in the log, 0 if it has none.
	Seq uint64
	// Epoch is the group's epoch after the entry.
	Epoch uint64
	// ID is the stanza id (XEP-0359) of an application message, else empty.
	ID string
	// Ref repeats the submission's, Chain is the chain value after the entry;
	// the zero hash if not told.
	Ref   Ref
	Chain Hash
	// Stamp is when the DS accepted the entry, with milliseconds.
	Stamp time.Time
}

// Append appends the element.
func (a *Accepted) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "accepted")
	dst = attrUintOpt(dst, "seq", a.Seq)
	dst = attrUint(dst, "epoch", a.Epoch)
	dst = attrOpt(dst, "id", a.ID)
	dst = attrHash(dst, "ref", &a.Ref)
	dst = attrHash(dst, "chain", &a.Chain)
	dst = attrStamp(dst, "stamp", a.Stamp)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (a *Accepted) Parse(el Element) error {
	d := expect(el, NSDelivery, "accepted")
	d.noText()
	a.Seq = d.uint64Opt("seq")
	a.Epoch = d.uint64("epoch")
	a.ID = d.strOpt("id", MaxID, a.ID)
	a.Ref = d.hashOpt("ref")
	a.Chain = d.hashOpt("chain")
	a.Stamp = d.stampOpt("stamp")
	return d.err
}
