// SPDX-License-Identifier: Apache-2.0

package stanza

// Proposal submits a proposal: the payload of an IQ set to a group, answered
// with [Accepted].
//
//	<proposal xmlns='urn:xmpp:mls:ds:0' epoch='43' ref='pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4='>AAEAAQ…</proposal>
//
// It is pending until a commit of the epoch includes it; the DS refuses
// commits that leave it out, see [MustCommit].
//
// Source: xep/mls-delivery.xml#proposals.
type Proposal struct {
	Epoch uint64
	Ref   Ref
	// Bytes is the MLSMessage.
	Bytes []byte
}

// Append appends the element.
func (p *Proposal) Append(dst []byte) []byte { return p.append(open(dst, NSDelivery, "proposal")) }

func (p *Proposal) append(dst []byte) []byte {
	dst = attrUint(dst, "epoch", p.Epoch)
	dst = attrBase64(dst, "ref", p.Ref[:])
	dst = append(dst, '>')
	dst = AppendBase64(dst, p.Bytes)
	return end(dst, "proposal")
}

// Parse reads the element.
func (p *Proposal) Parse(el Element) error {
	d := expect(el, NSDelivery, "proposal")
	p.parse(&d)
	return d.err
}

func (p *Proposal) parse(d *dec) {
	p.Epoch = d.uint64("epoch")
	p.Ref = d.hash("ref")
	p.Bytes = d.content(p.Bytes)
}

// Leave takes the account, or one device, out of a group: the payload of an IQ
// set to a group, answered with [Accepted] for the last entry that it made.
//
//	<leave xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592'>
//	  <proposal epoch='43' ref='pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4='>AAEAAQ…</proposal>
//	</leave>
//
// Fan-out to the devices ends at once. The proposals, SelfRemove or Remove of
// own leaves, become pending like any other; for leaves that none of them
// removes the DS makes external Remove proposals (in private mode it cannot,
// and they must be there). Without a device all devices of the account leave.
// The affiliation that remains in the roles component keeps nobody in: it is
// the admins' to clear.
//
// Source: xep/mls-delivery.xml#leave.
type Leave struct {
	// Device is the device that leaves; zero means the whole account.
	Device    DeviceID
	Proposals []Proposal
}

// Append appends the element.
func (l *Leave) Append(dst []byte) []byte {
	dst = attrDeviceOpt(open(dst, NSDelivery, "leave"), "device", &l.Device)
	if len(l.Proposals) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	for i := range l.Proposals {
		dst = l.Proposals[i].append(start(dst, "proposal"))
	}
	return end(dst, "leave")
}

// Parse reads the element.
func (l *Leave) Parse(el Element) error {
	d := expect(el, NSDelivery, "leave")
	d.noText()
	l.Device = d.deviceOpt("device")
	l.Proposals = l.Proposals[:0]
	for c := range d.list(NSDelivery, "proposal", MaxRefs) {
		var p Proposal
		cd := d.textChild(c)
		p.parse(&cd)
		d.done(&cd)
		l.Proposals = append(l.Proposals, p)
	}
	return d.err
}
