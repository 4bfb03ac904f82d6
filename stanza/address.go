// SPDX-License-Identifier: Apache-2.0

package stanza

// Addresses makes a multicast service send one message to many (XEP-0033).
//
//	<addresses xmlns='http://jabber.org/protocol/address'>
//	  <address type='bcc' jid='juliet@capulet.lit/balcony'/>
//	</addresses>
//
// Source: xep/mls-delivery.xml#impl-fanout; XEP-0033.
type Addresses struct {
	Addresses []Address
}

// Address is one recipient.
type Address struct {
	// Type is "bcc" for our fan-out: recipients do not see each other.
	Type string
	JID  string
	// Delivered marks an address that has been served already.
	Delivered bool
}

// Append appends the element.
func (a *Addresses) Append(dst []byte) []byte {
	dst = append(open(dst, NSAddress, "addresses"), '>')
	for i := range a.Addresses {
		dst = attr(start(dst, "address"), "type", a.Addresses[i].Type)
		dst = attrOpt(dst, "jid", a.Addresses[i].JID)
		dst = attrTrue(dst, "delivered", a.Addresses[i].Delivered)
		dst = append(dst, "/>"...)
	}
	return end(dst, "addresses")
}

// Parse reads the element.
func (a *Addresses) Parse(el Element) error {
	d := expect(el, NSAddress, "addresses")
	d.noText()
	a.Addresses = a.Addresses[:0]
	for c := range d.list(NSAddress, "address", MaxItems) {
		cd := d.child(c)
		a.Addresses = append(a.Addresses, Address{
			Type: cd.str("type", MaxID, ""), JID: cd.jidOpt("jid", ""), Delivered: cd.boolean("delivered"),
		})
		d.done(&cd)
	}
	return d.err
}
