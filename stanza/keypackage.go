// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// KeyPackage is one key package in a list: an MLSMessage of wire format
// mls_key_package (RFC 9420 §10).
type KeyPackage struct {
	Bytes []byte
	// LastResort marks a package that the service hands out again and again
	// when the others are used up. It carries MLS's last_resort extension.
	LastResort bool
}

func (k *KeyPackage) append(dst []byte) []byte {
	dst = attrTrue(start(dst, "key-package"), "last-resort", k.LastResort)
	dst = append(dst, '>')
	dst = AppendBase64(dst, k.Bytes)
	return end(dst, "key-package")
}

func (k *KeyPackage) parse(parent *dec, c Element) {
	d := parent.textChild(c)
	k.LastResort = d.boolean("last-resort")
	k.Bytes = d.content(nil)
	parent.done(&d)
}

// keyPackages reads the <key-package/> children.
func (d *dec) keyPackages(list []KeyPackage) []KeyPackage {
	for c := range d.list(NSKeyPackages, "key-package", MaxItems) {
		var k KeyPackage
		k.parse(d, c)
		list = append(list, k)
	}
	return list
}

// PublishKeyPackages stores key packages of one device at the user's home DS:
// the payload of an IQ set, answered with [Published]. A package that is there
// already is no error. A new last-resort package replaces the old one of the
// same cipher suite.
//
//	<publish xmlns='urn:xmpp:mls:kp:0' device='5d41402abc4b2a76b9719d911017c592'>
//	  <key-package>AAEABQ…</key-package>
//	  <key-package last-resort='true'>AAEABQ…</key-package>
//	</publish>
//
// A batch whose third package is bad is refused as a whole, with an
// [InvalidMessage] of Index 2.
//
// Source: xep/mls-key-packages.xml#publish.
type PublishKeyPackages struct {
	Device      DeviceID
	KeyPackages []KeyPackage
}

// Append appends the element.
func (p *PublishKeyPackages) Append(dst []byte) []byte {
	dst = attrDevice(open(dst, NSKeyPackages, "publish"), "device", &p.Device)
	dst = append(dst, '>')
	for i := range p.KeyPackages {
		dst = p.KeyPackages[i].append(dst)
	}
	return end(dst, "publish")
}

// Parse reads the element.
func (p *PublishKeyPackages) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "publish")
	d.noText()
	p.Device = d.device("device")
	p.KeyPackages = d.keyPackages(p.KeyPackages[:0])
	if len(p.KeyPackages) == 0 {
		d.fail("no <key-package/>")
	}
	return d.err
}

// Stock tells how many key packages a device has left. It is the answer to
// [PublishKeyPackages] as [Published], part of [Ready], and the payload of a
// headline message to a live session of the user when packages run low or a
// last-resort package was handed out:
//
//	<stock xmlns='urn:xmpp:mls:kp:0' device='5d41402abc4b2a76b9719d911017c592' available='3' last-resort='true' last-resort-used='1' target='50'/>
//
// Source: xep/mls-key-packages.xml#stock.
type Stock struct {
	Device DeviceID
	// Available is the number of one-time packages, Target how many the
	// service likes to have.
	Available, Target uint32
	// LastResort tells whether a last-resort package is there.
	LastResort bool
	// LastResortUsed is not zero when it was handed out: the device replaces it
	// then.
	LastResortUsed uint32
}

func (s *Stock) append(dst []byte) []byte {
	dst = attrDevice(dst, "device", &s.Device)
	dst = attrUint(dst, "available", uint64(s.Available))
	dst = attrBool(dst, "last-resort", s.LastResort)
	dst = attrUintOpt(dst, "last-resort-used", uint64(s.LastResortUsed))
	dst = attrUint(dst, "target", uint64(s.Target))
	return append(dst, "/>"...)
}

func (s *Stock) parse(d *dec) {
	d.noText()
	s.Device = d.device("device")
	s.Available = d.uint32("available")
	s.LastResort = d.boolean("last-resort")
	s.LastResortUsed = d.uint32Opt("last-resort-used")
	s.Target = d.uint32("target")
}

// Append appends the element.
func (s *Stock) Append(dst []byte) []byte { return s.append(open(dst, NSKeyPackages, "stock")) }

// Parse reads the element.
func (s *Stock) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "stock")
	s.parse(&d)
	return d.err
}

// Published answers [PublishKeyPackages] with what the device has now: the
// payload of the IQ result.
//
//	<published xmlns='urn:xmpp:mls:kp:0' device='5d41402abc4b2a76b9719d911017c592' available='50' last-resort='true' target='50'/>
//
// Source: xep/mls-key-packages.xml#publish.
type Published struct{ Stock }

// Append appends the element.
func (p *Published) Append(dst []byte) []byte {
	return p.append(open(dst, NSKeyPackages, "published"))
}

// Parse reads the element.
func (p *Published) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "published")
	p.parse(&d)
	return d.err
}

// RetractKeyPackages removes key packages of one device: the payload of an IQ
// set, answered with an empty result. Without references it removes all of
// them, as at logout.
//
//	<retract xmlns='urn:xmpp:mls:kp:0' device='5d41402abc4b2a76b9719d911017c592'>
//	  <key-package ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='/>
//	</retract>
//
// Source: xep/mls-key-packages.xml#stock.
type RetractKeyPackages struct {
	Device DeviceID
	// Refs are the KeyPackageRefs (RFC 9420 §5.2) of the packages to remove,
	// as long as the hash of their cipher suite. Empty means all.
	Refs [][]byte
}

// Append appends the element.
func (r *RetractKeyPackages) Append(dst []byte) []byte {
	dst = attrDevice(open(dst, NSKeyPackages, "retract"), "device", &r.Device)
	if len(r.Refs) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = appendRefs(dst, "key-package", r.Refs)
	return end(dst, "retract")
}

// Parse reads the element.
func (r *RetractKeyPackages) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "retract")
	d.noText()
	r.Device = d.device("device")
	r.Refs = d.refs(NSKeyPackages, "key-package", MaxItems, r.Refs[:0])
	return d.err
}

// CountQuery asks for the user's own devices and their key packages: the
// payload of an IQ get, answered with [Count].
//
//	<count xmlns='urn:xmpp:mls:kp:0'/>
//
// Source: xep/mls-key-packages.xml#stock.
type CountQuery struct{}

// Append appends the element.
func (*CountQuery) Append(dst []byte) []byte { return appendEmpty(dst, NSKeyPackages, "count") }

// Parse reads the element.
func (*CountQuery) Parse(el Element) error { return parseEmpty(el, NSKeyPackages, "count") }

// DeviceCount is one device in a [Count].
type DeviceCount struct {
	ID         DeviceID
	Available  uint32
	LastResort bool
	// Expires is when the last of the packages expires, zero if there is none.
	Expires time.Time
	// Seen is when the device last spoke to the service, zero if not told.
	Seen time.Time
}

// Count answers [CountQuery]: the payload of the IQ result.
//
//	<count xmlns='urn:xmpp:mls:kp:0'>
//	  <device id='5d41402abc4b2a76b9719d911017c592' available='37' last-resort='true' expires='2026-11-20T00:00:00Z' seen='2026-08-20T09:00:00Z'/>
//	</count>
//
// Source: xep/mls-key-packages.xml#stock.
type Count struct {
	Devices []DeviceCount
}

// Append appends the element.
func (c *Count) Append(dst []byte) []byte {
	dst = append(open(dst, NSKeyPackages, "count"), '>')
	for i := range c.Devices {
		dev := &c.Devices[i]
		dst = attrDevice(start(dst, "device"), "id", &dev.ID)
		dst = attrUint(dst, "available", uint64(dev.Available))
		dst = attrBool(dst, "last-resort", dev.LastResort)
		dst = attrDate(dst, "expires", dev.Expires)
		dst = attrDate(dst, "seen", dev.Seen)
		dst = append(dst, "/>"...)
	}
	return end(dst, "count")
}

// Parse reads the element.
func (c *Count) Parse(el Element) error {
	d := expect(el, NSKeyPackages, "count")
	d.noText()
	c.Devices = c.Devices[:0]
	for e := range d.list(NSKeyPackages, "device", MaxItems) {
		cd := d.child(e)
		c.Devices = append(c.Devices, DeviceCount{
			ID: cd.device("id"), Available: cd.uint32("available"), LastResort: cd.boolean("last-resort"),
			Expires: cd.stampOpt("expires"), Seen: cd.stampOpt("seen"),
		})
		d.done(&cd)
	}
	return d.err
}
