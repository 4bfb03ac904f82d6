// SPDX-License-Identifier: Apache-2.0

package stanza

// GroupsQuery asks a DS for the account's groups: the payload of an IQ get,
// answered with [Groups].
//
//	<groups xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592'>
//	  <set xmlns='http://jabber.org/protocol/rsm'><max>200</max></set>
//	</groups>
//
// Source: xep/mls-delivery.xml#groups.
type GroupsQuery struct {
	// Device is the asking device, to which in-tree and welcome apply.
	Device DeviceID
	Page   *PageQuery
}

// Append appends the element.
func (q *GroupsQuery) Append(dst []byte) []byte {
	dst = attrDevice(open(dst, NSDelivery, "groups"), "device", &q.Device)
	if q.Page == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = q.Page.Append(dst)
	return end(dst, "groups")
}

// Parse reads the element.
func (q *GroupsQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "groups")
	d.noText()
	q.Device = d.device("device")
	q.Page = d.pageQuery(el)
	return d.err
}

// GroupItem is one group in [Groups].
type GroupItem struct {
	JID string
	// Epoch and Head are the group's epoch and the seq of its last log entry,
	// zero for a remote group.
	Epoch, Head uint64
	// Affiliation is the account's role, empty for a remote group.
	Affiliation Role
	// InTree says that the device has a leaf, Welcome that a Welcome for it
	// waits. A member who is neither joins by an external commit.
	InTree, Welcome bool
	// Remote marks a group of another DS, of which this home DS knows only
	// that it holds a Welcome.
	Remote bool
	// Private marks a group whose handshake messages are PrivateMessages.
	Private bool
}

// Groups answers [GroupsQuery]: the payload of the IQ result.
//
//	<groups xmlns='urn:xmpp:mls:ds:0'>
//	  <group jid='ops@mls.example.org' epoch='43' head='1211' affiliation='member' in-tree='true'/>
//	  <group jid='chat@mls.other.example' remote='true' welcome='true'/>
//	  <set xmlns='http://jabber.org/protocol/rsm'><first index='0'>chat@mls.other.example</first><last>ops@mls.example.org</last><count>2</count></set>
//	</groups>
//
// Source: xep/mls-delivery.xml#groups.
type Groups struct {
	Items []GroupItem
	Page  *Page
}

// Append appends the element.
func (g *Groups) Append(dst []byte) []byte {
	dst = append(open(dst, NSDelivery, "groups"), '>')
	for i := range g.Items {
		it := &g.Items[i]
		dst = attr(start(dst, "group"), "jid", it.JID)
		if it.Remote {
			dst = attrTrue(dst, "remote", true)
		} else {
			dst = attrUint(dst, "epoch", it.Epoch)
			dst = attrUint(dst, "head", it.Head)
			dst = attrOpt(dst, "affiliation", string(it.Affiliation))
			dst = attrBool(dst, "in-tree", it.InTree)
		}
		dst = attrTrue(dst, "private", it.Private)
		dst = attrTrue(dst, "welcome", it.Welcome)
		dst = append(dst, "/>"...)
	}
	if g.Page != nil {
		dst = g.Page.Append(dst)
	}
	return end(dst, "groups")
}

// Parse reads the element.
func (g *Groups) Parse(el Element) error {
	d := expect(el, NSDelivery, "groups")
	d.noText()
	g.Items = g.Items[:0]
	for c := range d.list(NSDelivery, "group", MaxItems) {
		cd := d.child(c)
		it := GroupItem{
			JID: cd.jid("jid", ""), Remote: cd.boolean("remote"), Welcome: cd.boolean("welcome"), Private: cd.boolean("private"),
		}
		if !it.Remote {
			it.Epoch, it.Head = cd.uint64("epoch"), cd.uint64("head")
			it.Affiliation = cd.roleOpt("affiliation")
			it.InTree = cd.boolean("in-tree")
		}
		d.done(&cd)
		g.Items = append(g.Items, it)
	}
	g.Page = d.page(el)
	return d.err
}
