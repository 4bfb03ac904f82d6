// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// ReserveGroup asks a DS for the JID of a group to be created: the payload of
// an IQ set to the DS, answered with [Reserved]. The JID must be known before
// the group is made, because the GroupContext names it. The DS may refuse
// chosen names with not-allowed; a name that is taken is a conflict.
//
//	<reserve xmlns='urn:xmpp:mls:ds:0' local='ops'/>
//
// Source: xep/mls-delivery.xml#create.
type ReserveGroup struct {
	// Local is the local part wanted. Empty means a random one.
	Local string
}

// Append appends the element.
func (r *ReserveGroup) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSDelivery, "reserve"), "local", r.Local)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (r *ReserveGroup) Parse(el Element) error {
	d := expect(el, NSDelivery, "reserve")
	d.noText()
	r.Local = d.strOpt("local", 1023, r.Local)
	return d.err
}

// Reserved answers [ReserveGroup]: the payload of the IQ result. Only the
// requester may create the group, and only until then.
//
//	<reserved xmlns='urn:xmpp:mls:ds:0' jid='k3v9x2@mls.example.org' expires='2026-08-20T09:25:00Z'/>
//
// Source: xep/mls-delivery.xml#create.
type Reserved struct {
	JID     string
	Expires time.Time
}

// Append appends the element.
func (r *Reserved) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "reserved"), "jid", r.JID)
	dst = attrDate(dst, "expires", r.Expires)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (r *Reserved) Parse(el Element) error {
	d := expect(el, NSDelivery, "reserved")
	d.noText()
	r.JID = d.jid("jid", r.JID)
	r.Expires = d.stamp("expires")
	return d.err
}

// CreateGroup makes a group: the payload of an IQ set to the DS, answered with
// [Created].
//
//	<create xmlns='urn:xmpp:mls:ds:0' local='ops'>
//	  <group-info>AAEABA…</group-info>
//	  <x xmlns='jabber:x:data' type='submit'>…</x>
//	</create>
//
// The GroupInfo is of epoch 0, holds a ratchet_tree of one leaf, and its
// GroupContext names the JID. The form is a [GroupConfig].
//
// After a commit with a ReInit proposal (RFC 9420 §11.2) the same request
// continues the JID with a new group: previous is the group_id of the old one,
// whose ReInit must name the new one. The log goes on: the DS appends a
// [Control] entry with a [ReInitNotice], and members then get their Welcome by
// the commit that follows.
//
//	<create xmlns='urn:xmpp:mls:ds:0' local='ops' previous='q83vEjRWeJA='>
//	  <group-info>AAEABA…</group-info>
//	</create>
//
// Source: xep/mls-delivery.xml#create.
type CreateGroup struct {
	// Local is the local part of the group's JID.
	Local     string
	GroupInfo Object
	// Previous is the group_id of the group that is reinitialised, empty for a
	// new one.
	Previous []byte
	// Config is the configuration, nil for the DS's defaults.
	Config *Form
}

// MaxGroupID is the longest group_id in bytes that the protocol carries. Ours
// have 32.
const MaxGroupID = 255

// Append appends the element.
func (c *CreateGroup) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "create"), "local", c.Local)
	dst = attrBase64Opt(dst, "previous", c.Previous)
	dst = append(dst, '>')
	dst = c.GroupInfo.append(dst, "group-info")
	if c.Config != nil {
		dst = c.Config.Append(dst)
	}
	return end(dst, "create")
}

// Parse reads the element.
func (c *CreateGroup) Parse(el Element) error {
	d := expect(el, NSDelivery, "create")
	d.noText()
	c.Local = d.str("local", 1023, c.Local)
	c.Previous = d.base64Opt("previous", MaxGroupID, c.Previous)
	c.GroupInfo.reset()
	c.Config = nil
	if e := d.only(el, NSDelivery, "group-info"); e.Valid() {
		c.GroupInfo.parse(&d, e)
	} else {
		d.fail("no <group-info/>")
	}
	if e := d.only(el, NSForm, "x"); e.Valid() {
		c.Config = new(Form)
		d.set(c.Config.Parse(e))
	}
	return d.err
}

// Created answers [CreateGroup]: the payload of the IQ result.
//
//	<created xmlns='urn:xmpp:mls:ds:0' jid='ops@mls.example.org' epoch='0' seq='0'/>
//
// Of a new group seq is 0 and no log entry exists; the chain begins with the
// hash of the group_id. Of a reinitialised one seq and chain are those of the
// [ReInitNotice].
//
// Source: xep/mls-delivery.xml#create.
type Created struct {
	JID        string
	Epoch, Seq uint64
	Chain      Hash
}

// Append appends the element.
func (c *Created) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "created"), "jid", c.JID)
	dst = attrUint(dst, "epoch", c.Epoch)
	dst = attrUint(dst, "seq", c.Seq)
	dst = attrHash(dst, "chain", &c.Chain)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (c *Created) Parse(el Element) error {
	d := expect(el, NSDelivery, "created")
	d.noText()
	c.JID = d.jid("jid", c.JID)
	c.Epoch = d.uint64("epoch")
	c.Seq = d.uint64("seq")
	c.Chain = d.hashOpt("chain")
	return d.err
}
