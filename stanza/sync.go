// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// LogQuery asks a group for a page of its log: the payload of an IQ get,
// answered with a [Log].
//
//	<log xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592' max-bytes='49152'>
//	  <ack seq='1207'/>
//	  <set xmlns='http://jabber.org/protocol/rsm'><max>200</max><after>1207</after></set>
//	</log>
//
// Source: xep/mls-delivery.xml#log.
type LogQuery struct {
	// Device is the asking device: what it may read, and what its ack is for,
	// depends on it. Zero lets the DS take the device of the live session.
	Device DeviceID
	// After is the seq behind which the page begins.
	After uint64
	// Max is the number of entries wanted at most, 0 for the DS's choice.
	Max uint32
	// MaxBytes bounds the sum of the entries' sizes, in bytes before base64, 0
	// for the DS's choice.
	MaxBytes uint64
	// Ack acknowledges the log, as [Ack] does, if it is not zero.
	Ack uint64
}

// Append appends the element.
func (q *LogQuery) Append(dst []byte) []byte {
	dst = attrDeviceOpt(open(dst, NSDelivery, "log"), "device", &q.Device)
	dst = attrUintOpt(dst, "max-bytes", q.MaxBytes)
	dst = append(dst, '>')
	if q.Ack != 0 {
		dst = attrUint(start(dst, "ack"), "seq", q.Ack)
		dst = append(dst, "/>"...)
	}
	dst = append(open(dst, NSRSM, "set"), '>')
	if q.Max != 0 {
		dst = append(start(dst, "max"), '>')
		dst = appendUint(dst, uint64(q.Max))
		dst = end(dst, "max")
	}
	dst = append(start(dst, "after"), '>')
	dst = appendUint(dst, q.After)
	dst = end(dst, "after")
	dst = end(dst, "set")
	return end(dst, "log")
}

// Parse reads the element.
func (q *LogQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "log")
	d.noText()
	*q = LogQuery{Device: d.deviceOpt("device"), MaxBytes: d.uint64Opt("max-bytes")}
	if c := d.only(el, NSDelivery, "ack"); c.Valid() {
		cd := d.child(c)
		q.Ack = cd.uint64("seq")
		d.done(&cd)
	}
	if p := d.pageQuery(el); p != nil {
		if p.Last {
			d.fail("the log is read forwards")
		}
		if p.Max != nil {
			q.Max = *p.Max
		}
		if p.After != "" {
			q.After = d.number("after", []byte(p.After), 1<<64-1)
		}
	}
	return d.err
}

// Entry is one entry of a log: an item of a [Log], and, with a namespace of its
// own, the answer to an [EntryQuery].
//
//	<entry seq='1208' epoch='42' kind='commit' chain='…' stamp='2026-08-20T09:15:00.123Z'>AAEAAQ…</entry>
//
// An entry that is too large for a page comes with size and sha-256 instead of
// its content, and is fetched in pieces with [EntryQuery]. An entry that was
// deleted leaves a tombstone, which has the sha-256 that the chain needs:
//
//	<entry seq='1209' epoch='43' kind='commit' size='131072' sha-256='…' stamp='2026-08-20T09:15:00.123Z'/>
//	<entry seq='1210' epoch='43' kind='application' gone='true' sha-256='…' stamp='2026-08-20T09:15:01.000Z'/>
//
// Source: xep/mls-delivery.xml#log.
type Entry struct {
	Seq uint64
	// Epoch is the epoch that the entry was made in: of a commit, the one that
	// it ends.
	Epoch uint64
	Kind  EntryKind
	// ID is the stanza id of an application message, else empty.
	ID string
	// Chain is the chain value after the entry, the zero hash if not told: it
	// can be computed.
	Chain Hash
	// Stamp is when the DS accepted the entry, with milliseconds.
	Stamp time.Time
	// Bytes is the MLSMessage or the [Control] content, or a piece at Offset;
	// empty if the entry is too large for the page or gone.
	Bytes []byte
	// Size is the size of the whole if Bytes is not the whole, else 0.
	Size   uint64
	Offset uint64
	// SHA256 is the hash of the whole if Bytes is not the whole.
	SHA256 Hash
	// Gone marks a tombstone.
	Gone bool
}

func (e *Entry) append(dst []byte) []byte {
	dst = attrUint(dst, "seq", e.Seq)
	dst = attrUint(dst, "epoch", e.Epoch)
	dst = attr(dst, "kind", e.Kind.String())
	dst = attrOpt(dst, "id", e.ID)
	dst = attrHash(dst, "chain", &e.Chain)
	dst = attrTrue(dst, "gone", e.Gone)
	dst = attrUintOpt(dst, "size", e.Size)
	dst = attrUintOpt(dst, "offset", e.Offset)
	dst = attrHash(dst, "sha-256", &e.SHA256)
	dst = attrStamp(dst, "stamp", e.Stamp)
	if len(e.Bytes) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = AppendBase64(dst, e.Bytes)
	return end(dst, "entry")
}

func (e *Entry) parse(d *dec) {
	e.Seq = d.uint64("seq")
	e.Epoch = d.uint64("epoch")
	e.Kind = d.entryKind()
	e.ID = d.strOpt("id", MaxID, e.ID)
	e.Chain = d.hashOpt("chain")
	e.Gone = d.boolean("gone")
	e.Size = d.uint64Opt("size")
	e.Offset = d.uintOpt("offset", e.Size)
	e.SHA256 = d.hashOpt("sha-256")
	e.Stamp = d.stampOpt("stamp")
	e.Bytes = d.contentOpt(e.Bytes)
	switch {
	case d.err != nil:
	case e.Gone && (len(e.Bytes) > 0 || e.SHA256.IsZero()):
		d.fail("a tombstone has a sha-256 and no content")
	case !e.Gone && len(e.Bytes) == 0 && (e.Size == 0 || e.SHA256.IsZero()):
		d.fail("content, or size and sha-256, are needed")
	case e.Size > 0 && uint64(len(e.Bytes)) > e.Size-e.Offset:
		d.fail("the piece ends behind the size")
	}
}

// Append appends the element, as the payload of an IQ.
func (e *Entry) Append(dst []byte) []byte { return e.append(open(dst, NSDelivery, "entry")) }

// Parse reads the element.
func (e *Entry) Parse(el Element) error {
	d := expect(el, NSDelivery, "entry")
	e.parse(&d)
	return d.err
}

// Log answers [LogQuery]: the payload of the IQ result. Seqs are without gaps;
// a page holds at least one entry, unless there is none behind After.
//
//	<log xmlns='urn:xmpp:mls:ds:0' epoch='44' head='1342' complete='false'>
//	  <entry seq='1208' epoch='42' kind='commit' stamp='2026-08-20T09:15:00.123Z'>AAEAAQ…</entry>
//	  <entry seq='1209' epoch='43' kind='application' id='8c7e…' stamp='2026-08-20T09:15:01.000Z'>AAEAAg…</entry>
//	  <set xmlns='http://jabber.org/protocol/rsm'><first>1208</first><last>1209</last></set>
//	</log>
//
// Source: xep/mls-delivery.xml#log.
type Log struct {
	// Epoch is the group's epoch now, Head the seq of its last entry.
	Epoch, Head uint64
	// Complete says that no entry that the device may read lies behind the
	// page.
	Complete bool
	Entries  []Entry
	// Page repeats the first and last seq for RSM, nil for an empty page.
	Page *Page
}

// Append appends the element.
func (l *Log) Append(dst []byte) []byte {
	dst = attrUint(open(dst, NSDelivery, "log"), "epoch", l.Epoch)
	dst = attrUint(dst, "head", l.Head)
	dst = attrBool(dst, "complete", l.Complete)
	dst = append(dst, '>')
	for i := range l.Entries {
		dst = l.Entries[i].append(start(dst, "entry"))
	}
	if l.Page != nil {
		dst = l.Page.Append(dst)
	}
	return end(dst, "log")
}

// Parse reads the element. It refuses entries whose seqs have gaps.
func (l *Log) Parse(el Element) error {
	d := expect(el, NSDelivery, "log")
	d.noText()
	l.Epoch = d.uint64("epoch")
	l.Head = d.uint64("head")
	l.Complete = d.boolean("complete")
	used := l.Entries[:cap(l.Entries)]
	l.Entries = l.Entries[:0]
	for c := range d.list(NSDelivery, "entry", MaxItems) {
		n := len(l.Entries)
		var e Entry
		if n < len(used) {
			e = used[n]
		}
		cd := d.textChild(c)
		e.parse(&cd)
		d.done(&cd)
		if n > 0 && d.err == nil && e.Seq != l.Entries[n-1].Seq+1 {
			d.fail("entry %d follows entry %d", e.Seq, l.Entries[n-1].Seq)
		}
		l.Entries = append(l.Entries, e)
	}
	l.Page = d.page(el)
	return d.err
}

// EntryQuery asks a group for a piece of one log entry: the payload of an IQ
// get, answered with an [Entry].
//
//	<entry xmlns='urn:xmpp:mls:ds:0' seq='1209' offset='36864' max-bytes='36864'/>
//
// Source: xep/mls-delivery.xml#large.
type EntryQuery struct {
	Seq uint64
	// Offset and MaxBytes are in bytes of the entry. Zero MaxBytes means the
	// DS's choice.
	Offset, MaxBytes uint64
	// Device is the asking device, as in [LogQuery].
	Device DeviceID
}

// Append appends the element.
func (q *EntryQuery) Append(dst []byte) []byte {
	dst = attrUint(open(dst, NSDelivery, "entry"), "seq", q.Seq)
	dst = attrUintOpt(dst, "offset", q.Offset)
	dst = attrUintOpt(dst, "max-bytes", q.MaxBytes)
	dst = attrDeviceOpt(dst, "device", &q.Device)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (q *EntryQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "entry")
	d.noText()
	*q = EntryQuery{
		Seq: d.uint64("seq"), Offset: d.uint64Opt("offset"), MaxBytes: d.uint64Opt("max-bytes"), Device: d.deviceOpt("device"),
	}
	return d.err
}

// Ack tells a DS that a device has safely stored something: the payload of an
// IQ set, answered with an empty result. To a group, it acknowledges the log
// up to seq, which the DS may forget when all devices have:
//
//	<ack xmlns='urn:xmpp:mls:ds:0' device='5d41402abc4b2a76b9719d911017c592' seq='1209'/>
//
// and, to the group or the home DS, a Welcome that the device has joined with
// or can never open:
//
//	<ack xmlns='urn:xmpp:mls:ds:0' kp-ref='n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='/>
//
// In a [LogQuery] the first form is piggybacked.
//
// Source: xep/mls-delivery.xml#ack.
type Ack struct {
	// Device is the device, zero for that of the live session.
	Device DeviceID
	// Seq is the last entry stored, KeyPackageRef the Welcome; one of them is
	// set.
	Seq           uint64
	KeyPackageRef []byte
}

// Append appends the element.
func (a *Ack) Append(dst []byte) []byte {
	dst = attrDeviceOpt(open(dst, NSDelivery, "ack"), "device", &a.Device)
	if len(a.KeyPackageRef) > 0 {
		dst = attrBase64(dst, "kp-ref", a.KeyPackageRef)
	} else {
		dst = attrUint(dst, "seq", a.Seq)
	}
	return append(dst, "/>"...)
}

// Parse reads the element.
func (a *Ack) Parse(el Element) error {
	d := expect(el, NSDelivery, "ack")
	d.noText()
	a.Device = d.deviceOpt("device")
	a.KeyPackageRef = d.base64Opt("kp-ref", MaxKeyPackageRef, a.KeyPackageRef)
	a.Seq = 0
	_, seq := el.Attr("seq")
	if seq == (len(a.KeyPackageRef) > 0) {
		d.fail("seq or kp-ref is needed, and only one of them")
	}
	if seq {
		a.Seq = d.uint64("seq")
	}
	return d.err
}
