// SPDX-License-Identifier: Apache-2.0

package stanza

// Welcome tells a device that it was added to a group, and carries the Welcome
// object where it is asked for. One element, three uses:
//
// A pointer, in a message to the device or its account:
//
//	<welcome xmlns='urn:xmpp:mls:ds:0' group='ops@mls.example.org' epoch='43' seq='1208' kp-ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=' inviter='alice@example.org'/>
//
// The result of a [WelcomeQuery], with the object, or a piece of it that has
// offset and total:
//
//	<welcome xmlns='urn:xmpp:mls:ds:0' group='ops@mls.example.org' epoch='43' seq='1208' kp-ref='…' inviter='alice@example.org'>AAEAAw…</welcome>
//
// The notice of a hosting DS to the home DS of the device, in an IQ set with
// the object and the user, answered with an empty result. The home DS keeps it
// if the key package was claimed for that group, and refuses it with
// not-allowed otherwise:
//
//	<welcome xmlns='urn:xmpp:mls:ds:0' group='ops@mls.example.org' epoch='43' seq='1208' kp-ref='…' inviter='alice@example.org' user='carol@other.example'>AAEAAw…</welcome>
//
// Source: xep/mls-delivery.xml#welcomes.
type Welcome struct {
	// Group is the group's JID.
	Group string
	// Epoch and Seq are the epoch that begins with the commit that added the
	// device, and the commit's log entry.
	Epoch, Seq uint64
	// KeyPackageRef names the key package (RFC 9420 §5.2): the device knows by
	// it that it is meant.
	KeyPackageRef []byte
	// Inviter is the bare JID of the committer, empty if not told.
	Inviter string
	// User is the bare JID of the invited user, between DSs only.
	User string
	// Bytes is the Welcome as one joiner needs it, or a piece at Offset; empty
	// in a pointer. Total is the size of the whole, zero if Bytes is the whole.
	Bytes         []byte
	Offset, Total uint64
}

// Append appends the element.
func (w *Welcome) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "welcome"), "group", w.Group)
	dst = attrUint(dst, "epoch", w.Epoch)
	dst = attrUint(dst, "seq", w.Seq)
	dst = attrBase64(dst, "kp-ref", w.KeyPackageRef)
	dst = attrOpt(dst, "inviter", w.Inviter)
	dst = attrOpt(dst, "user", w.User)
	dst = attrUintOpt(dst, "offset", w.Offset)
	dst = attrUintOpt(dst, "total", w.Total)
	if len(w.Bytes) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = AppendBase64(dst, w.Bytes)
	return end(dst, "welcome")
}

// Parse reads the element.
func (w *Welcome) Parse(el Element) error {
	d := expect(el, NSDelivery, "welcome")
	w.Group = d.jid("group", w.Group)
	w.Epoch = d.uint64("epoch")
	w.Seq = d.uint64("seq")
	w.KeyPackageRef = d.base64("kp-ref", MaxKeyPackageRef, w.KeyPackageRef)
	w.Inviter = d.jidOpt("inviter", w.Inviter)
	w.User = d.jidOpt("user", w.User)
	w.Bytes = d.contentOpt(w.Bytes)
	w.Offset, w.Total = d.piece(len(w.Bytes))
	return d.err
}

// WelcomeQuery fetches a Welcome: the payload of an IQ get to the group or to
// the home DS, answered with a [Welcome].
//
//	<welcome xmlns='urn:xmpp:mls:ds:0' kp-ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='/>
//
// It stays there until it is acknowledged, see [Ack]. To list what waits, ask
// with [WelcomesQuery].
//
// Source: xep/mls-delivery.xml#welcomes.
type WelcomeQuery struct {
	KeyPackageRef []byte
	// Offset and MaxBytes ask for a piece of a large one, in bytes of the
	// object. Zero MaxBytes means the DS's choice.
	Offset, MaxBytes uint64
}

// Append appends the element.
func (q *WelcomeQuery) Append(dst []byte) []byte {
	dst = attrBase64(open(dst, NSDelivery, "welcome"), "kp-ref", q.KeyPackageRef)
	dst = attrUintOpt(dst, "offset", q.Offset)
	dst = attrUintOpt(dst, "max-bytes", q.MaxBytes)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (q *WelcomeQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "welcome")
	d.noText()
	q.KeyPackageRef = d.base64("kp-ref", MaxKeyPackageRef, q.KeyPackageRef)
	q.Offset = d.uint64Opt("offset")
	q.MaxBytes = d.uint64Opt("max-bytes")
	return d.err
}

// WelcomesQuery lists the Welcomes that wait for a device: the payload of an
// IQ get to a DS, answered with [Welcomes].
//
//	<welcomes xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592'/>
//
// Source: xep/mls-delivery.xml#welcomes: the group index tells that a Welcome waits, not
// for which key package.
type WelcomesQuery struct {
	Device DeviceID
	Page   *PageQuery
}

// Append appends the element.
func (q *WelcomesQuery) Append(dst []byte) []byte {
	dst = attrDevice(open(dst, NSDelivery, "welcomes"), "device", &q.Device)
	if q.Page == nil {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = q.Page.Append(dst)
	return end(dst, "welcomes")
}

// Parse reads the element.
func (q *WelcomesQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "welcomes")
	d.noText()
	q.Device = d.device("device")
	q.Page = d.pageQuery(el)
	return d.err
}

// Welcomes answers [WelcomesQuery]: the payload of the IQ result, with
// pointers.
//
//	<welcomes xmlns='urn:xmpp:mls:ds:0'>
//	  <welcome group='ops@mls.example.org' epoch='43' seq='1208' kp-ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=' inviter='alice@example.org'/>
//	</welcomes>
type Welcomes struct {
	Items []Welcome
	Page  *Page
}

// Append appends the element.
func (w *Welcomes) Append(dst []byte) []byte {
	dst = append(open(dst, NSDelivery, "welcomes"), '>')
	for i := range w.Items {
		it := &w.Items[i]
		dst = attr(start(dst, "welcome"), "group", it.Group)
		dst = attrUint(dst, "epoch", it.Epoch)
		dst = attrUint(dst, "seq", it.Seq)
		dst = attrBase64(dst, "kp-ref", it.KeyPackageRef)
		dst = attrOpt(dst, "inviter", it.Inviter)
		dst = append(dst, "/>"...)
	}
	if w.Page != nil {
		dst = w.Page.Append(dst)
	}
	return end(dst, "welcomes")
}

// Parse reads the element.
func (w *Welcomes) Parse(el Element) error {
	d := expect(el, NSDelivery, "welcomes")
	d.noText()
	w.Items = w.Items[:0]
	for c := range d.list(NSDelivery, "welcome", MaxItems) {
		cd := d.child(c)
		w.Items = append(w.Items, Welcome{
			Group: cd.jid("group", ""), Epoch: cd.uint64("epoch"), Seq: cd.uint64("seq"),
			KeyPackageRef: cd.base64("kp-ref", MaxKeyPackageRef, nil), Inviter: cd.jidOpt("inviter", ""),
		})
		d.done(&cd)
	}
	w.Page = d.page(el)
	return d.err
}
