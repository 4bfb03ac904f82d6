// SPDX-License-Identifier: Apache-2.0

package stanza

// GroupInfoQuery asks a group for its GroupInfo: the payload of an IQ get,
// answered with a [GroupInfo]. Members, receivers of a Welcome and those whom
// the policy lets join may ask.
//
//	<group-info xmlns='urn:xmpp:mls:ds:0' epoch='43'/>
//
// Like trees and Welcomes, a GroupInfo may be longer than a page (the roles of
// thousands of users are inside): offset and max-bytes then ask for a piece.
//
// Source: xep/mls-delivery.xml#state.
type GroupInfoQuery struct {
	// Epoch asks for the state of one epoch, which is kept for ten minutes
	// after it ended. Nil means the current one.
	Epoch *uint64
	// Offset and MaxBytes ask for a piece, in bytes of the object. Zero
	// MaxBytes means a page of the DS's choice.
	Offset, MaxBytes uint64
}

// Append appends the element.
func (q *GroupInfoQuery) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "group-info")
	if q.Epoch != nil {
		dst = attrUint(dst, "epoch", *q.Epoch)
	}
	dst = attrUintOpt(dst, "offset", q.Offset)
	dst = attrUintOpt(dst, "max-bytes", q.MaxBytes)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (q *GroupInfoQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "group-info")
	d.noText()
	q.Epoch = nil
	if _, ok := el.Attr("epoch"); ok {
		epoch := d.uint64("epoch")
		q.Epoch = &epoch
	}
	q.Offset = d.uint64Opt("offset")
	q.MaxBytes = d.uint64Opt("max-bytes")
	return d.err
}

// GroupInfo answers [GroupInfoQuery]: the payload of the IQ result.
//
//	<group-info xmlns='urn:xmpp:mls:ds:0' epoch='43' seq='1211' chain='47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' tree-bytes='812345' tree-sha-256='RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='>AAEABA…</group-info>
//
// The tree is fetched with [TreeQuery], or from tree-url if the DS offers one;
// either way the joiner checks it against the tree_hash in the GroupInfo. (The
// URL is an attribute because the content is the object.) A piece of a
// GroupInfo has offset and total.
//
// Source: xep/mls-delivery.xml#state.
type GroupInfo struct {
	Epoch uint64
	// Seq is the last log entry of the state: a joiner reads the log from
	// there. Chain is the chain value after it.
	Seq   uint64
	Chain Hash
	// TreeBytes and TreeSHA256 are size and hash of the serialised
	// ratchet_tree; zero in private mode, where the DS has no tree.
	TreeBytes  uint64
	TreeSHA256 Hash
	// TreeURL is an HTTPS URL of the tree, empty if there is none.
	TreeURL string
	// Bytes is the GroupInfo or the piece of it at Offset. Total is the size
	// of the whole, zero if Bytes is the whole.
	Bytes         []byte
	Offset, Total uint64
}

// Append appends the element.
func (g *GroupInfo) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "group-info")
	dst = attrUint(dst, "epoch", g.Epoch)
	dst = attrUint(dst, "seq", g.Seq)
	dst = attrHash(dst, "chain", &g.Chain)
	dst = attrUintOpt(dst, "tree-bytes", g.TreeBytes)
	dst = attrHash(dst, "tree-sha-256", &g.TreeSHA256)
	dst = attrOpt(dst, "tree-url", g.TreeURL)
	dst = attrUintOpt(dst, "offset", g.Offset)
	dst = attrUintOpt(dst, "total", g.Total)
	dst = append(dst, '>')
	dst = AppendBase64(dst, g.Bytes)
	return end(dst, "group-info")
}

// Parse reads the element.
func (g *GroupInfo) Parse(el Element) error {
	d := expect(el, NSDelivery, "group-info")
	g.Epoch = d.uint64("epoch")
	g.Seq = d.uint64("seq")
	g.Chain = d.hashOpt("chain")
	g.TreeBytes = d.uint64Opt("tree-bytes")
	g.TreeSHA256 = d.hashOpt("tree-sha-256")
	g.TreeURL = d.strOpt("tree-url", MaxURL, g.TreeURL)
	g.Bytes = d.content(g.Bytes)
	g.Offset, g.Total = d.piece(len(g.Bytes))
	return d.err
}

// MaxURL is the longest URL in bytes.
const MaxURL = 8 << 10

// piece reads the place of a piece of n bytes in an object; both numbers are
// zero for a whole object.
func (d *dec) piece(n int) (offset, total uint64) {
	total = d.uint64Opt("total")
	offset = d.uintOpt("offset", total)
	if d.err == nil && total > 0 && uint64(n) > total-offset {
		d.fail("the piece ends behind the total")
	}
	return offset, total
}

// TreeQuery asks for a page of the ratchet tree of an epoch: the payload of an
// IQ get, answered with a [TreePage]. A client keeps at most four of them
// outstanding.
//
//	<tree xmlns='urn:xmpp:mls:ds:0' epoch='43' offset='0' max-bytes='32768'/>
//
// An epoch that is no longer kept is refused with [StaleEpoch]: start again.
//
// Source: xep/mls-delivery.xml#state.
type TreeQuery struct {
	Epoch uint64
	// Offset is the position in the serialised tree. MaxBytes bounds the page,
	// in bytes of the tree; zero means the DS's choice.
	Offset, MaxBytes uint64
}

// Append appends the element.
func (q *TreeQuery) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "tree")
	dst = attrUint(dst, "epoch", q.Epoch)
	dst = attrUint(dst, "offset", q.Offset)
	dst = attrUintOpt(dst, "max-bytes", q.MaxBytes)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (q *TreeQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "tree")
	d.noText()
	q.Epoch = d.uint64("epoch")
	q.Offset = d.uint64("offset")
	q.MaxBytes = d.uint64Opt("max-bytes")
	return d.err
}

// TreePage answers [TreeQuery]: the payload of the IQ result.
//
//	<tree xmlns='urn:xmpp:mls:ds:0' epoch='43' offset='0' total='812345'>AQEB…</tree>
//
// Source: xep/mls-delivery.xml#state.
type TreePage struct {
	Epoch, Offset, Total uint64
	Bytes                []byte
}

// Append appends the element.
func (t *TreePage) Append(dst []byte) []byte {
	dst = open(dst, NSDelivery, "tree")
	dst = attrUint(dst, "epoch", t.Epoch)
	dst = attrUint(dst, "offset", t.Offset)
	dst = attrUint(dst, "total", t.Total)
	dst = append(dst, '>')
	dst = AppendBase64(dst, t.Bytes)
	return end(dst, "tree")
}

// Parse reads the element.
func (t *TreePage) Parse(el Element) error {
	d := expect(el, NSDelivery, "tree")
	t.Epoch = d.uint64("epoch")
	t.Total = d.uint64("total")
	t.Offset = d.uint("offset", t.Total)
	t.Bytes = d.content(t.Bytes)
	if d.err == nil && uint64(len(t.Bytes)) > t.Total-t.Offset {
		d.fail("the page ends behind the total")
	}
	return d.err
}
