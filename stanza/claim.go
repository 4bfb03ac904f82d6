// SPDX-License-Identifier: Apache-2.0

package stanza

// ClaimKeyPackages takes one key package of each device of some users, to add
// them to a group: the payload of an IQ set, which a client sends to the
// users' home DS itself, answered with [Claimed]. A package is handed out
// once; the same claim-id gives the same answer for ten minutes.
//
//	<claim xmlns='urn:xmpp:mls:kp:0' claim-id='0f8fad5b-d9cb-469f-a165-70867728950e' for='ops@mls.example.org' cipher-suite='0x0001'>
//	  <user jid='carol@other.example'/>
//	  <user jid='dave@other.example'><device id='7d793037a0760186574b0282f2f435e7'/></user>
//	  <require extensions='0xf001 0xf002' credentials='0x0001'/>
//	  <set xmlns='http://jabber.org/protocol/rsm'><after>carol@other.example</after></set>
//	</claim>
//
// With <device/> children only these devices are meant. The <set/> continues an
// answer that had more='true', behind the last user that it held.
//
// Source: xep/mls-key-packages.xml#claim.
type ClaimKeyPackages struct {
	// ClaimID makes the claim idempotent.
	ClaimID string
	// For is the JID of the group: the home DS accepts a Welcome from there.
	For         string
	CipherSuite uint16
	Users       []ClaimUser
	// Extensions, Proposals and Credentials are types that the leaf must
	// support, as in RequiredCapabilities (RFC 9420 §11.1).
	Extensions, Proposals, Credentials []uint16
	// After is the last user of the page before, empty for the first page.
	After string
}

// ClaimUser is one user in a [ClaimKeyPackages].
type ClaimUser struct {
	// JID is a bare JID.
	JID string
	// Devices limits the claim to these devices. Empty means all.
	Devices []DeviceID
}

// Append appends the element.
func (c *ClaimKeyPackages) Append(dst []byte) []byte {
	dst = open(dst, NSKeyPackages, "claim")
	dst = attr(dst, "claim-id", c.ClaimID)
	dst = attr(dst, "for", c.For)
	dst = attrCode(dst, "cipher-suite", c.CipherSuite)
	dst = append(dst, '>')
	for i := range c.Users {
		u := &c.Users[i]
		dst = attr(start(dst, "user"), "jid", u.JID)
		if len(u.Devices) == 0 {
			dst = append(dst, "/>"...)
			continue
		}
		dst = append(dst, '>')
		for j := range u.Devices {
			dst = attrDevice(start(dst, "device"), "id", &u.Devices[j])
			dst = append(dst, "/>"...)
		}
		dst = end(dst, "user")
	}
	if len(c.Extensions)+len(c.Proposals)+len(c.Credentials) > 0 {
		dst = start(dst, "require")
		dst = attrCodes(dst, "extensions", c.Extensions)
		dst = attrCodes(dst, "proposals", c.Proposals)
		dst = attrCodes(dst, "credentials", c.Credentials)
		dst = append(dst, "/>"...)
	}
	if c.After != "" {
		dst = (&PageQuery{After: c.After}).Append(dst)
	}
	return end(dst, "claim")
}

// Parse reads the element.
func (c *ClaimKeyPackages) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "claim")
	d.noText()
	c.ClaimID = d.str("claim-id", MaxID, c.ClaimID)
	c.For = d.jid("for", c.For)
	c.CipherSuite = d.code("cipher-suite")
	c.Users, c.After = c.Users[:0], ""
	var require bool
	c.Extensions, c.Proposals, c.Credentials = c.Extensions[:0], c.Proposals[:0], c.Credentials[:0]
	for e := el.First(); e.Valid(); e = e.Next() {
		switch {
		case e.Is(NSKeyPackages, "user") && d.room(len(c.Users), MaxItems):
			cd := d.child(e)
			u := ClaimUser{JID: cd.jid("jid", "")}
			for f := range cd.list(NSKeyPackages, "device", MaxRefs) {
				fd := cd.child(f)
				u.Devices = append(u.Devices, fd.device("id"))
				cd.done(&fd)
			}
			d.done(&cd)
			c.Users = append(c.Users, u)
		case e.Is(NSKeyPackages, "require") && d.once(&require, e):
			cd := d.child(e)
			c.Extensions = cd.codes("extensions", c.Extensions)
			c.Proposals = cd.codes("proposals", c.Proposals)
			c.Credentials = cd.codes("credentials", c.Credentials)
			d.done(&cd)
		}
	}
	if len(c.Users) == 0 {
		d.fail("no <user/>")
	}
	if q := d.pageQuery(el); q != nil {
		c.After = q.After
	}
	return d.err
}

// ClaimStatus says how a claim went, for a user or for a device. Statuses that
// this package does not know count as unavailable.
type ClaimStatus string

const (
	// ClaimOK is a package for the device, or for each device of the user. It
	// is the default and not written.
	ClaimOK ClaimStatus = ""
	// ClaimPartial is a package for some devices of the user, but not for all.
	ClaimPartial ClaimStatus = "partial"
	// ClaimUnavailable is a user who is unknown, or does not consent, or has
	// blocked the requester: which of them is not told.
	ClaimUnavailable ClaimStatus = "unavailable"
	// ClaimExhausted is no package left, and no last resort. Of a user it
	// means each device.
	ClaimExhausted ClaimStatus = "exhausted"
	// ClaimIncompatible is no package of the suite and with the capabilities
	// wanted. Of a user it means each device.
	ClaimIncompatible ClaimStatus = "incompatible"
)

func (d *dec) claimStatus() ClaimStatus {
	v, _ := d.el.Attr("status")
	switch string(v) {
	case "", "ok":
		return ClaimOK
	case "partial":
		return ClaimPartial
	case "exhausted":
		return ClaimExhausted
	case "incompatible":
		return ClaimIncompatible
	}
	return ClaimUnavailable
}

// ClaimedUser is one user in a [Claimed].
type ClaimedUser struct {
	JID     string
	Status  ClaimStatus
	Devices []ClaimedDevice
}

// ClaimedDevice is one device in a [ClaimedUser].
type ClaimedDevice struct {
	ID     DeviceID
	Status ClaimStatus
	// KeyPackage is set if and only if Status is [ClaimOK].
	KeyPackage KeyPackage
}

// Claimed answers [ClaimKeyPackages]: the payload of the IQ result.
//
//	<claimed xmlns='urn:xmpp:mls:kp:0' claim-id='0f8fad5b-d9cb-469f-a165-70867728950e'>
//	  <user jid='carol@other.example' status='partial'>
//	    <device id='5d41402abc4b2a76b9719d911017c592'><key-package>AAEABQ…</key-package></device>
//	    <device id='7d793037a0760186574b0282f2f435e7' status='exhausted'/>
//	  </user>
//	  <user jid='dave@other.example' status='unavailable'/>
//	</claimed>
//
// With more='true' the remaining users did not fit: the client asks again with
// the same claim-id and After set to the last user.
//
// Source: xep/mls-key-packages.xml#claim.
type Claimed struct {
	ClaimID string
	More    bool
	Users   []ClaimedUser
}

// Append appends the element.
func (c *Claimed) Append(dst []byte) []byte {
	dst = open(dst, NSKeyPackages, "claimed")
	dst = attr(dst, "claim-id", c.ClaimID)
	dst = attrTrue(dst, "more", c.More)
	dst = append(dst, '>')
	for i := range c.Users {
		u := &c.Users[i]
		dst = attr(start(dst, "user"), "jid", u.JID)
		dst = attrOpt(dst, "status", string(u.Status))
		if len(u.Devices) == 0 {
			dst = append(dst, "/>"...)
			continue
		}
		dst = append(dst, '>')
		for j := range u.Devices {
			dev := &u.Devices[j]
			dst = attrDevice(start(dst, "device"), "id", &dev.ID)
			if dev.Status != ClaimOK {
				dst = attr(dst, "status", string(dev.Status))
				dst = append(dst, "/>"...)
				continue
			}
			dst = append(dst, '>')
			dst = dev.KeyPackage.append(dst)
			dst = end(dst, "device")
		}
		dst = end(dst, "user")
	}
	return end(dst, "claimed")
}

// Parse reads the element.
func (c *Claimed) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "claimed")
	d.noText()
	c.ClaimID = d.str("claim-id", MaxID, c.ClaimID)
	c.More = d.boolean("more")
	c.Users = c.Users[:0]
	for e := range d.list(NSKeyPackages, "user", MaxItems) {
		c.Users = append(c.Users, claimedUser(&d, e))
	}
	return d.err
}

func claimedUser(parent *dec, e Element) ClaimedUser {
	d := parent.child(e)
	u := ClaimedUser{JID: d.jid("jid", ""), Status: d.claimStatus()}
	for c := range d.list(NSKeyPackages, "device", MaxRefs) {
		cd := d.child(c)
		dev := ClaimedDevice{ID: cd.device("id"), Status: cd.claimStatus()}
		if k := cd.only(c, NSKeyPackages, "key-package"); k.Valid() {
			dev.KeyPackage.parse(&cd, k)
		}
		if (dev.Status == ClaimOK) != (len(dev.KeyPackage.Bytes) > 0) {
			cd.fail("a device has a key package or a status that says why not")
		}
		d.done(&cd)
		u.Devices = append(u.Devices, dev)
	}
	parent.done(&d)
	return u
}
