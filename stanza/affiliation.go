// SPDX-License-Identifier: Apache-2.0

package stanza

// Role is a user's role in a group, which XMPP calls affiliation. The truth is
// the roles component of the GroupContext; the elements here are a view of it
// (xep/mls-delivery.xml#affiliations).
type Role string

// Roles, from the most to the least powerful. RoleNone is nobody in
// particular, RoleOutcast is banned.
const (
	RoleOwner   Role = "owner"
	RoleAdmin   Role = "admin"
	RoleMember  Role = "member"
	RoleVisitor Role = "visitor"
	RoleNone    Role = "none"
	RoleOutcast Role = "outcast"
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool {
	switch r {
	case RoleOwner, RoleAdmin, RoleMember, RoleVisitor, RoleNone, RoleOutcast:
		return true
	}
	return false
}

// role returns a required role.
func (d *dec) role(name string) Role {
	v := d.attr(name)
	if d.err != nil {
		return ""
	}
	switch string(v) {
	case "owner":
		return RoleOwner
	case "admin":
		return RoleAdmin
	case "member":
		return RoleMember
	case "visitor":
		return RoleVisitor
	case "none":
		return RoleNone
	case "outcast":
		return RoleOutcast
	}
	d.fail("%s is not an affiliation: %.32q", name, v)
	return ""
}

func (d *dec) roleOpt(name string) Role {
	if _, ok := d.el.Attr(name); !ok {
		return ""
	}
	return d.role(name)
}

// Affiliation is one user's role: the payload of an IQ set to a group, an item
// of [Affiliations], and the content of a [Control] entry that tells of a
// change.
//
//	<affiliation xmlns='urn:xmpp:mls:ds:0' jid='mallory@example.org' affiliation='outcast'>
//	  <reason>spam</reason>
//	</affiliation>
//
// In a notice it has the entry's id:
//
//	<affiliation xmlns='urn:xmpp:mls:ds:0' id='71c0d5d9' jid='mallory@example.org' affiliation='outcast'/>
//
// The DS serves a set to outcast itself, by external Remove proposals, and
// answers with an empty result; any other set is refused with
// feature-not-implemented and a text that names the commit to make instead
// (xep/mls-delivery.xml#affiliations).
type Affiliation struct {
	// ID is that of the entry, in a [Control] only: it makes equal notices
	// different entries, which are known by the hash of their bytes.
	ID string
	// JID is the bare JID of the user, or a domain that is banned.
	JID         string
	Affiliation Role
	// Devices is how many leaves the user has in the tree, in lists only.
	Devices uint32
	// Reason is for humans, and may be empty.
	Reason string
}

func (a *Affiliation) append(dst []byte) []byte {
	dst = attrOpt(dst, "id", a.ID)
	dst = attr(dst, "jid", a.JID)
	dst = attr(dst, "affiliation", string(a.Affiliation))
	dst = attrUintOpt(dst, "devices", uint64(a.Devices))
	if a.Reason == "" {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = text(dst, "reason", a.Reason)
	return end(dst, "affiliation")
}

// Append appends the element.
func (a *Affiliation) Append(dst []byte) []byte {
	return a.append(open(dst, NSDelivery, "affiliation"))
}

// Parse reads the element.
func (a *Affiliation) Parse(el Element) error {
	d := expect(el, NSDelivery, "affiliation")
	a.parse(&d)
	return d.err
}

func (a *Affiliation) parse(d *dec) {
	d.noText()
	a.ID = d.strOpt("id", MaxID, a.ID)
	a.JID = d.jid("jid", a.JID)
	a.Affiliation = d.role("affiliation")
	a.Devices = d.uint32Opt("devices")
	reason, seen := a.Reason, false
	a.Reason = ""
	for c := d.el.First(); c.Valid(); c = c.Next() {
		if c.Is(NSDelivery, "reason") && d.once(&seen, c) {
			a.Reason = d.textOf(c, MaxText, reason)
		}
	}
}

// AffiliationsQuery asks a group for its affiliations: the payload of an IQ get.
//
//	<affiliations xmlns='urn:xmpp:mls:ds:0' affiliation='admin'>
//	  <set xmlns='http://jabber.org/protocol/rsm'><max>100</max></set>
//	</affiliations>
//
// Source: xep/mls-delivery.xml#affiliations.
type AffiliationsQuery struct {
	// Affiliation limits the answer to one role. Empty means all but none.
	Affiliation Role
	// Page is the page wanted; nil means the first, of a size that the DS
	// chooses.
	Page *PageQuery
}

// Append appends the element.
func (q *AffiliationsQuery) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "affiliations")
	dst = attrOpt(dst, "affiliation", string(q.Affiliation))
	if q.Page == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = q.Page.Append(dst)
	return end(dst, "affiliations")
}

// Parse reads the element.
func (q *AffiliationsQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "affiliations")
	d.noText()
	q.Affiliation = d.roleOpt("affiliation")
	q.Page = d.pageQuery(el)
	return d.err
}

// Affiliations answers [AffiliationsQuery]: the payload of the IQ result.
//
//	<affiliations xmlns='urn:xmpp:mls:ds:0'>
//	  <affiliation jid='juliet@capulet.lit' affiliation='owner' devices='2'/>
//	  <affiliation jid='romeo@montague.lit' affiliation='member' devices='1'/>
//	  <set xmlns='http://jabber.org/protocol/rsm'><first index='0'>juliet@capulet.lit</first><last>romeo@montague.lit</last><count>2</count></set>
//	</affiliations>
//
// Source: xep/mls-delivery.xml#affiliations.
type Affiliations struct {
	Items []Affiliation
	// Page describes the page, nil if the list is complete.
	Page *Page
}

// Append appends the element.
func (a *Affiliations) Append(dst []byte) []byte {
	dst = append(open(dst, NSDelivery, "affiliations"), '>')
	for i := range a.Items {
		dst = a.Items[i].append(start(dst, "affiliation"))
	}
	if a.Page != nil {
		dst = a.Page.Append(dst)
	}
	return end(dst, "affiliations")
}

// Parse reads the element.
func (a *Affiliations) Parse(el Element) error {
	d := expect(el, NSDelivery, "affiliations")
	d.noText()
	a.Items = a.Items[:0]
	for c := range d.list(NSDelivery, "affiliation", MaxItems) {
		var item Affiliation
		cd := d.child(c)
		item.parse(&cd)
		d.done(&cd)
		a.Items = append(a.Items, item)
	}
	a.Page = d.page(el)
	return d.err
}
