// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// DevicesQuery asks for devices: the payload of an IQ get, answered with
// [Devices]. A group lists its members' devices to members; a DS lists the
// account's own.
//
//	<devices xmlns='urn:xmpp:mls:ds:0'>
//	  <set xmlns='http://jabber.org/protocol/rsm'><max>100</max></set>
//	</devices>
type DevicesQuery struct {
	Page *PageQuery
}

// Append appends the element.
func (q *DevicesQuery) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "devices")
	if q.Page == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = q.Page.Append(dst)
	return end(dst, "devices")
}

// Parse reads the element.
func (q *DevicesQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "devices")
	d.noText()
	q.Page = d.pageQuery(el)
	return d.err
}

// Device is one device in [Devices].
type Device struct {
	ID DeviceID
	// JID is the bare JID of its user, empty in the list of one's own.
	JID string
	// Leaf is the leaf index in the group's tree, nil outside of a group.
	Leaf *uint32
	// Acked is the last log entry that the device has acknowledged, told only
	// to its own user and to admins; 0 if not told.
	Acked uint64
	// Live says that it has a session, told only to its own user.
	Live bool
	// Seen is when it last spoke to the DS, told as Acked is.
	Seen time.Time
}

// Devices answers [DevicesQuery]: the payload of the IQ result.
//
//	<devices xmlns='urn:xmpp:mls:ds:0'>
//	  <device id='5d41402abc4b2a76b9719d911017c592' jid='juliet@capulet.lit' leaf='0'/>
//	  <device id='7d793037a0760186574b0282f2f435e7' jid='romeo@montague.lit' leaf='1' acked='1207' seen='2026-08-20T09:00:00Z'/>
//	</devices>
//
// Of a group in private mode the list is what committers declared.
type Devices struct {
	Items []Device
	Page  *Page
}

// Append appends the element.
func (v *Devices) Append(dst []byte) []byte {
	dst = append(open(dst, NSDelivery, "devices"), '>')
	for i := range v.Items {
		it := &v.Items[i]
		dst = attrDevice(start(dst, "device"), "id", &it.ID)
		dst = attrOpt(dst, "jid", it.JID)
		if it.Leaf != nil {
			dst = attrUint(dst, "leaf", uint64(*it.Leaf))
		}
		dst = attrUintOpt(dst, "acked", it.Acked)
		dst = attrTrue(dst, "live", it.Live)
		dst = attrDate(dst, "seen", it.Seen)
		dst = append(dst, "/>"...)
	}
	if v.Page != nil {
		dst = v.Page.Append(dst)
	}
	return end(dst, "devices")
}

// Parse reads the element.
func (v *Devices) Parse(el Element) error {
	d := expect(el, NSDelivery, "devices")
	d.noText()
	v.Items = v.Items[:0]
	for c := range d.list(NSDelivery, "device", MaxItems) {
		cd := d.child(c)
		it := Device{
			ID: cd.device("id"), JID: cd.jidOpt("jid", ""), Acked: cd.uint64Opt("acked"),
			Live: cd.boolean("live"), Seen: cd.stampOpt("seen"),
		}
		if _, ok := c.Attr("leaf"); ok {
			leaf := cd.uint32("leaf")
			it.Leaf = &leaf
		}
		d.done(&cd)
		v.Items = append(v.Items, it)
	}
	v.Page = d.page(el)
	return d.err
}
