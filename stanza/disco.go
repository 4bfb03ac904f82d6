// SPDX-License-Identifier: Apache-2.0

package stanza

// DiscoInfoQuery asks what an entity is (XEP-0030): the payload of an IQ get.
//
//	<query xmlns='http://jabber.org/protocol/disco#info'/>
type DiscoInfoQuery struct {
	// Node is part of the question, usually empty.
	Node string
}

// Append appends the element.
func (q *DiscoInfoQuery) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSDiscoInfo, "query"), "node", q.Node)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (q *DiscoInfoQuery) Parse(el Element) error {
	d := expect(el, NSDiscoInfo, "query")
	d.noText()
	q.Node = d.strOpt("node", MaxJID, q.Node)
	return d.err
}

// Identity is an identity of an entity (XEP-0030 §3.1).
type Identity struct {
	Category, Type, Name, Lang string
}

// DSIdentity is the identity of a delivery service (xep/mls-delivery.xml#discovery).
var DSIdentity = Identity{Category: "conference", Type: "mls", Name: "MLS groups"}

// DiscoInfo answers [DiscoInfoQuery]: the payload of the IQ result.
//
//	<query xmlns='http://jabber.org/protocol/disco#info'>
//	  <identity category='conference' type='mls' name='MLS groups'/>
//	  <feature var='urn:xmpp:mls:ds:0'/>
//	  <x xmlns='jabber:x:data' type='result'>…</x>
//	</query>
//
// Source: XEP-0030, XEP-0128; xep/mls-delivery.xml#discovery.
type DiscoInfo struct {
	Node       string
	Identities []Identity
	Features   []string
	Forms      []Form
}

// Has reports whether the entity has a feature.
func (i *DiscoInfo) Has(feature string) bool {
	for _, f := range i.Features {
		if f == feature {
			return true
		}
	}
	return false
}

// Form returns the form with the given FORM_TYPE, nil if there is none.
func (i *DiscoInfo) Form(formType string) *Form {
	for k := range i.Forms {
		if i.Forms[k].FormType() == formType {
			return &i.Forms[k]
		}
	}
	return nil
}

// Append appends the element.
func (i *DiscoInfo) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSDiscoInfo, "query"), "node", i.Node)
	dst = append(dst, '>')
	for k := range i.Identities {
		id := &i.Identities[k]
		dst = attr(start(dst, "identity"), "category", id.Category)
		dst = attr(dst, "type", id.Type)
		dst = attrOpt(dst, "name", id.Name)
		dst = attrOpt(dst, "xml:lang", id.Lang)
		dst = append(dst, "/>"...)
	}
	for _, f := range i.Features {
		dst = attr(start(dst, "feature"), "var", f)
		dst = append(dst, "/>"...)
	}
	for k := range i.Forms {
		dst = i.Forms[k].Append(dst)
	}
	return end(dst, "query")
}

// Parse reads the element.
func (i *DiscoInfo) Parse(el Element) error {
	d := expect(el, NSDiscoInfo, "query")
	d.noText()
	*i = DiscoInfo{Node: d.strOpt("node", MaxJID, i.Node), Identities: i.Identities[:0], Features: i.Features[:0], Forms: i.Forms[:0]}
	for c := el.First(); c.Valid() && d.err == nil; c = c.Next() {
		switch {
		case c.Is(NSDiscoInfo, "identity") && d.room(len(i.Identities), MaxRefs):
			cd := d.child(c)
			i.Identities = append(i.Identities, Identity{
				Category: cd.str("category", MaxID, ""), Type: cd.str("type", MaxID, ""),
				Name: cd.strOpt("name", MaxText, ""), Lang: lang(c),
			})
			d.done(&cd)
		case c.Is(NSDiscoInfo, "feature") && d.room(len(i.Features), MaxRefs):
			cd := d.child(c)
			i.Features = append(i.Features, cd.str("var", MaxID, ""))
			d.done(&cd)
		case c.Is(NSForm, "x") && d.room(len(i.Forms), MaxRefs):
			var f Form
			d.set(f.Parse(c))
			i.Forms = append(i.Forms, f)
		}
	}
	return d.err
}

// DiscoItemsQuery asks for the items of an entity (XEP-0030 §4): the payload of
// an IQ get.
//
//	<query xmlns='http://jabber.org/protocol/disco#items'/>
type DiscoItemsQuery struct {
	Node string
	Page *PageQuery
}

// Append appends the element.
func (q *DiscoItemsQuery) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSDiscoItems, "query"), "node", q.Node)
	if q.Page == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = q.Page.Append(dst)
	return end(dst, "query")
}

// Parse reads the element.
func (q *DiscoItemsQuery) Parse(el Element) error {
	d := expect(el, NSDiscoItems, "query")
	d.noText()
	q.Node = d.strOpt("node", MaxJID, q.Node)
	q.Page = d.pageQuery(el)
	return d.err
}

// DiscoItem is an item in [DiscoItems].
type DiscoItem struct {
	JID, Node, Name string
}

// DiscoItems answers [DiscoItemsQuery]: the payload of the IQ result.
//
//	<query xmlns='http://jabber.org/protocol/disco#items'>
//	  <item jid='mls.example.org' name='MLS groups'/>
//	</query>
type DiscoItems struct {
	Node  string
	Items []DiscoItem
	Page  *Page
}

// Append appends the element.
func (i *DiscoItems) Append(dst []byte) []byte {
	dst = attrOpt(open(dst, NSDiscoItems, "query"), "node", i.Node)
	if len(i.Items) == 0 && i.Page == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for k := range i.Items {
		dst = attr(start(dst, "item"), "jid", i.Items[k].JID)
		dst = attrOpt(dst, "node", i.Items[k].Node)
		dst = attrOpt(dst, "name", i.Items[k].Name)
		dst = append(dst, "/>"...)
	}
	if i.Page != nil {
		dst = i.Page.Append(dst)
	}
	return end(dst, "query")
}

// Parse reads the element.
func (i *DiscoItems) Parse(el Element) error {
	d := expect(el, NSDiscoItems, "query")
	d.noText()
	i.Node = d.strOpt("node", MaxJID, i.Node)
	i.Items = i.Items[:0]
	for c := range d.list(NSDiscoItems, "item", MaxItems) {
		cd := d.child(c)
		i.Items = append(i.Items, DiscoItem{
			JID: cd.jid("jid", ""), Node: cd.strOpt("node", MaxJID, ""), Name: cd.strOpt("name", MaxText, ""),
		})
		d.done(&cd)
	}
	i.Page = d.page(el)
	return d.err
}
