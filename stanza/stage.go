// SPDX-License-Identifier: Apache-2.0

package stanza

import "time"

// Stage uploads a piece of an object that is too large for one stanza: the
// payload of an IQ set to the group (or, for a [CreateGroup], to the DS),
// answered with [Staged]. Later the object is named by its stage, see
// [Object]. Stages belong to the account, expire after five minutes without a
// piece, and count against a quota.
//
//	<stage xmlns='urn:xmpp:mls:ds:0' id='u-7f3a' part='welcome' offset='0' total='131072' sha-256='RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='>AAEAAw…</stage>
//
// Pieces come in order: offset is the number of bytes sent before. A piece at
// or before the end of what the DS has is accepted and overlaps are ignored, so
// that a piece whose answer was lost can be sent again; a gap is a bad-request
// whose cure is to ask with [StageQuery].
//
// Source: xep/mls-delivery.xml#stage.
type Stage struct {
	// ID is chosen by the client, unique for the account.
	ID string
	// Part is what the object is.
	Part StagePart
	// Offset is the position of the piece, Total the size of the object, in
	// bytes of the object, not of base64.
	Offset, Total uint64
	// SHA256 is the hash of the whole object.
	SHA256 Hash
	// Bytes is the piece.
	Bytes []byte
}

// StagePart says what a staged object is.
type StagePart string

// Parts of a [Commit] or [CreateGroup] that can be staged.
const (
	StageMessage   StagePart = "message"
	StageWelcome   StagePart = "welcome"
	StageGroupInfo StagePart = "group-info"
)

// Append appends the element.
func (s *Stage) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "stage"), "id", s.ID)
	dst = attr(dst, "part", string(s.Part))
	dst = attrUint(dst, "offset", s.Offset)
	dst = attrUint(dst, "total", s.Total)
	dst = attrBase64(dst, "sha-256", s.SHA256[:])
	dst = append(dst, '>')
	dst = AppendBase64(dst, s.Bytes)
	return end(dst, "stage")
}

// Parse reads the element.
func (s *Stage) Parse(el Element) error {
	d := expect(el, NSDelivery, "stage")
	s.ID = d.str("id", MaxID, s.ID)
	switch v := d.attr("part"); string(v) {
	case "message":
		s.Part = StageMessage
	case "welcome":
		s.Part = StageWelcome
	case "group-info":
		s.Part = StageGroupInfo
	default:
		d.fail("part is not message, welcome or group-info: %.32q", v)
	}
	s.Total = d.uint64("total")
	s.Offset = d.uint("offset", s.Total)
	s.SHA256 = d.hash("sha-256")
	s.Bytes = d.content(s.Bytes)
	if d.err == nil && uint64(len(s.Bytes)) > s.Total-s.Offset {
		d.fail("the piece ends behind the total")
	}
	return d.err
}

// StageQuery asks how much of a stage has arrived: the payload of an IQ get,
// answered with [Staged], or item-not-found if the stage does not exist.
//
//	<stage xmlns='urn:xmpp:mls:ds:0' id='u-7f3a'/>
//
// Source: xep/mls-delivery.xml#stage.
type StageQuery struct {
	ID string
}

// Append appends the element.
func (q *StageQuery) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "stage"), "id", q.ID)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (q *StageQuery) Parse(el Element) error {
	d := expect(el, NSDelivery, "stage")
	d.noText()
	q.ID = d.str("id", MaxID, q.ID)
	return d.err
}

// Staged answers [Stage] and [StageQuery]: the payload of the IQ result.
//
//	<staged xmlns='urn:xmpp:mls:ds:0' id='u-7f3a' offset='36864' total='131072' expires='2026-08-20T09:20:00Z'/>
//
// Source: xep/mls-delivery.xml#stage.
type Staged struct {
	ID string
	// Offset is the number of bytes that have arrived, and so the offset of
	// the next piece. The stage is complete when it equals Total.
	Offset, Total uint64
	Expires       time.Time
}

// Append appends the element.
func (s *Staged) Append(dst []byte) []byte {
	dst = attr(open(dst, NSDelivery, "staged"), "id", s.ID)
	dst = attrUint(dst, "offset", s.Offset)
	dst = attrUint(dst, "total", s.Total)
	dst = attrDate(dst, "expires", s.Expires)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (s *Staged) Parse(el Element) error {
	d := expect(el, NSDelivery, "staged")
	d.noText()
	s.ID = d.str("id", MaxID, s.ID)
	s.Total = d.uint64("total")
	s.Offset = d.uint("offset", s.Total)
	s.Expires = d.stampOpt("expires")
	return d.err
}
