// SPDX-License-Identifier: Apache-2.0

package stanza

// This file holds the two PEP nodes of the protocol (XEP-0163): the pointer to
// a user's DS, and last-resort key packages for users whose DS is down or who
// have none.

// DSPointer names the DS that serves a user: the payload of item current in the
// PEP node urn:xmpp:mls:ds:0 on the user's bare JID.
//
//	<ds xmlns='urn:xmpp:mls:ds:0' jid='mls.example.org'/>
//
// Source: xep/mls-delivery.xml#home.
type DSPointer struct {
	JID string
}

// Append appends the element.
func (p *DSPointer) Append(dst []byte) []byte {
	return append(attr(open(dst, NSDelivery, "ds"), "jid", p.JID), "/>"...)
}

// Parse reads the element.
func (p *DSPointer) Parse(el Element) error {
	d := expect(el, NSDelivery, "ds")
	d.noText()
	p.JID = d.jid("jid", p.JID)
	return d.err
}

// PEPKeyPackages are last-resort key packages of one device: the payload of an
// item in the PEP node urn:xmpp:mls:kp:0 on the user's bare JID. The item's id
// is the device's.
//
//	<key-packages xmlns='urn:xmpp:mls:kp:0' device='5d41402abc4b2a76b9719d911017c592'>
//	  <key-package last-resort='true'>AAEABQ…</key-package>
//	</key-packages>
//
// Source: xep/mls-key-packages.xml#pep.
type PEPKeyPackages struct {
	Device      DeviceID
	KeyPackages []KeyPackage
}

// Append appends the element.
func (p *PEPKeyPackages) Append(dst []byte) []byte {
	dst = attrDevice(open(dst, NSKeyPackages, "key-packages"), "device", &p.Device)
	dst = append(dst, '>')
	for i := range p.KeyPackages {
		dst = p.KeyPackages[i].append(dst)
	}
	return end(dst, "key-packages")
}

// Parse reads the element.
func (p *PEPKeyPackages) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "key-packages")
	d.noText()
	p.Device = d.device("device")
	p.KeyPackages = d.keyPackages(p.KeyPackages[:0])
	return d.err
}

// PubSubItem is an item of a pubsub node (XEP-0060).
type PubSubItem struct {
	ID string
	// Payload is the XML of the item's content, nil if there is none.
	Payload Raw
}

func (i *PubSubItem) append(dst []byte) []byte {
	dst = attrOpt(start(dst, "item"), "id", i.ID)
	if len(i.Payload) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = append(dst, i.Payload...)
	return end(dst, "item")
}

// pubsubItems reads the items among the children.
func (d *dec) pubsubItems(space string) (items []PubSubItem) {
	for c := range d.list(space, "item", MaxItems) {
		cd := d.child(c)
		it := PubSubItem{ID: cd.strOpt("id", MaxID, "")}
		if p := c.First(); p.Valid() {
			it.Payload = p.AppendXML(nil, "")
		}
		d.done(&cd)
		items = append(items, it)
	}
	return items
}

// Publish publishes an item to a node (XEP-0060 §7.1): the payload of an IQ set
// to oneself, for PEP.
//
//	<pubsub xmlns='http://jabber.org/protocol/pubsub'>
//	  <publish node='urn:xmpp:mls:ds:0'>
//	    <item id='current'><ds xmlns='urn:xmpp:mls:ds:0' jid='mls.example.org'/></item>
//	  </publish>
//	  <publish-options><x xmlns='jabber:x:data' type='submit'>…</x></publish-options>
//	</pubsub>
type Publish struct {
	Node string
	Item PubSubItem
	// Options are the publish-options, nil if none: see [OpenNode].
	Options *Form
}

// OpenNode returns the publish-options of a PEP node that anybody may read and
// that keeps its items (xep/mls-delivery.xml#home).
func OpenNode() *Form {
	return NewForm(FormSubmit, NSPublishOptions).
		Add("pubsub#access_model", "open").
		Add("pubsub#persist_items", "true")
}

// Append appends the element.
func (p *Publish) Append(dst []byte) []byte {
	dst = append(open(dst, NSPubSub, "pubsub"), '>')
	dst = attr(start(dst, "publish"), "node", p.Node)
	dst = append(dst, '>')
	dst = p.Item.append(dst)
	dst = end(dst, "publish")
	if p.Options != nil {
		dst = append(dst, "<publish-options>"...)
		dst = p.Options.Append(dst)
		dst = end(dst, "publish-options")
	}
	return end(dst, "pubsub")
}

// Parse reads the element.
func (p *Publish) Parse(el Element) error {
	d := expect(el, NSPubSub, "pubsub")
	d.noText()
	*p = Publish{}
	c := d.only(el, NSPubSub, "publish")
	if !c.Valid() {
		d.fail("no <publish/>")
		return d.err
	}
	cd := d.child(c)
	p.Node = cd.str("node", MaxID, "")
	if items := cd.pubsubItems(NSPubSub); len(items) == 1 {
		p.Item = items[0]
	} else {
		cd.fail("not one <item/>")
	}
	d.done(&cd)
	if o := d.only(el, NSPubSub, "publish-options"); o.Valid() {
		od := d.child(o)
		if x := od.only(o, NSForm, "x"); x.Valid() {
			p.Options = new(Form)
			od.set(p.Options.Parse(x))
		}
		d.done(&od)
	}
	return d.err
}

// PubSubItems asks for items of a node, as an IQ get, and answers with them, as
// the result (XEP-0060 §6.5).
//
//	<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:mls:ds:0'/></pubsub>
type PubSubItems struct {
	Node  string
	Items []PubSubItem
}

// Append appends the element.
func (p *PubSubItems) Append(dst []byte) []byte {
	dst = append(open(dst, NSPubSub, "pubsub"), '>')
	dst = attr(start(dst, "items"), "node", p.Node)
	if len(p.Items) == 0 {
		dst = append(dst, "/>"...)
		return end(dst, "pubsub")
	}
	dst = append(dst, '>')
	for i := range p.Items {
		dst = p.Items[i].append(dst)
	}
	dst = end(dst, "items")
	return end(dst, "pubsub")
}

// Parse reads the element.
func (p *PubSubItems) Parse(el Element) error {
	d := expect(el, NSPubSub, "pubsub")
	d.noText()
	c := d.only(el, NSPubSub, "items")
	if !c.Valid() {
		d.fail("no <items/>")
		return d.err
	}
	cd := d.child(c)
	p.Node = cd.str("node", MaxID, p.Node)
	p.Items = cd.pubsubItems(NSPubSub)
	d.done(&cd)
	return d.err
}

// PubSubEvent tells of a change of a node (XEP-0060 §7.1.2.1): the payload of a
// message.
//
//	<event xmlns='http://jabber.org/protocol/pubsub#event'>
//	  <items node='urn:xmpp:mls:ds:0'><item id='current'>…</item></items>
//	</event>
type PubSubEvent struct {
	Node  string
	Items []PubSubItem
	// Retracted are the ids of items that were removed.
	Retracted []string
}

// Append appends the element.
func (p *PubSubEvent) Append(dst []byte) []byte {
	dst = append(open(dst, NSPubSubEvent, "event"), '>')
	dst = attr(start(dst, "items"), "node", p.Node)
	dst = append(dst, '>')
	for i := range p.Items {
		dst = p.Items[i].append(dst)
	}
	for _, id := range p.Retracted {
		dst = append(attr(start(dst, "retract"), "id", id), "/>"...)
	}
	dst = end(dst, "items")
	return end(dst, "event")
}

// Parse reads the element.
func (p *PubSubEvent) Parse(el Element) error {
	d := expect(el, NSPubSubEvent, "event")
	d.noText()
	*p = PubSubEvent{}
	c := d.only(el, NSPubSubEvent, "items")
	if !c.Valid() {
		d.fail("no <items/>")
		return d.err
	}
	cd := d.child(c)
	p.Node = cd.str("node", MaxID, "")
	p.Items = cd.pubsubItems(NSPubSubEvent)
	for r := range cd.list(NSPubSubEvent, "retract", MaxItems) {
		rd := cd.child(r)
		p.Retracted = append(p.Retracted, rd.str("id", MaxID, ""))
		cd.done(&rd)
	}
	d.done(&cd)
	return d.err
}
