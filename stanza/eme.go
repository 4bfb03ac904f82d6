// SPDX-License-Identifier: Apache-2.0

package stanza

// Encryption tells clients without MLS how a message is encrypted (XEP-0380).
//
//	<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:mls:0' name='MLS'/>
//
// Source: xep/mls.xml#mls-element; XEP-0380.
type Encryption struct {
	Namespace, Name string
}

// EncryptedMLS is the [Encryption] of every MLS message.
var EncryptedMLS = Encryption{Namespace: NSMLS, Name: "MLS"}

// Append appends the element.
func (e *Encryption) Append(dst []byte) []byte {
	dst = attr(open(dst, NSEME, "encryption"), "namespace", e.Namespace)
	dst = attrOpt(dst, "name", e.Name)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *Encryption) Parse(el Element) error {
	d := expect(el, NSEME, "encryption")
	d.noText()
	e.Namespace = d.str("namespace", MaxID, e.Namespace)
	e.Name = d.strOpt("name", MaxID, e.Name)
	return d.err
}
