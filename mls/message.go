// SPDX-License-Identifier: Apache-2.0

// MLSMessage, the frame of everything on the wire (RFC 9420 §6).

package mls

import (
	"bytes"
	"fmt"
)

// A Message is an MLSMessage (RFC 9420 §6): exactly one field is set. A message
// that was decoded or made by this package is immutable.
type Message struct {
	Public     *PublicMessage
	Private    *PrivateMessage
	Welcome    *Welcome
	GroupInfo  *GroupInfo
	KeyPackage *KeyPackage

	raw []byte
}

// ParseMessage decodes an MLSMessage. It copies b, verifies nothing and needs no
// group; what it accepts, it encodes to the same bytes.
func ParseMessage(b []byte) (*Message, error) {
	b = bytes.Clone(b)
	m, err := decode(b, "MLSMessage", readMessage)
	if err != nil {
		return nil, err
	}
	m.raw = b
	return m, nil
}

func readMessage(r *reader) *Message {
	if v := ProtocolVersion(r.u16()); v != MLS10 {
		r.fail(fmt.Errorf("mls: protocol version %d is unknown", v))
		return nil
	}
	f := WireFormat(r.u16())
	if f == WireFormatPrivateMessage { // the most frequent one: one piece of memory
		var m struct {
			Message
			private PrivateMessage
		}
		m.private.readFrom(r)
		m.Private = &m.private
		return &m.Message
	}
	m := &Message{}
	switch f {
	case WireFormatPublicMessage:
		m.Public = readPublicMessage(r)
	case WireFormatWelcome:
		m.Welcome = readWelcome(r)
	case WireFormatGroupInfo:
		m.GroupInfo = readGroupInfo(r)
	case WireFormatKeyPackage:
		m.KeyPackage = readKeyPackage(r)
	default:
		r.fail(fmt.Errorf("mls: wire format %s is unknown", f))
	}
	return m
}

// newMessage fixes the encoding of m.
func newMessage(m *Message) *Message {
	m.raw = m.appendTo(nil)
	return m
}

func (m *Message) appendTo(b []byte) []byte {
	b = appendU16(appendU16(b, uint16(MLS10)), uint16(m.WireFormat()))
	switch {
	case m.Public != nil:
		return m.Public.appendTo(b)
	case m.Private != nil:
		return m.Private.appendTo(b)
	case m.Welcome != nil:
		return m.Welcome.appendTo(b)
	case m.GroupInfo != nil:
		return m.GroupInfo.appendTo(b)
	case m.KeyPackage != nil:
		return m.KeyPackage.appendTo(b)
	}
	return b
}

// Bytes returns the encoding of the message. The caller must not change it.
func (m *Message) Bytes() []byte {
	if m.raw != nil {
		return m.raw
	}
	return m.appendTo(nil)
}

// WireFormat says which field is set.
func (m *Message) WireFormat() WireFormat {
	switch {
	case m.Public != nil:
		return WireFormatPublicMessage
	case m.Private != nil:
		return WireFormatPrivateMessage
	case m.Welcome != nil:
		return WireFormatWelcome
	case m.GroupInfo != nil:
		return WireFormatGroupInfo
	case m.KeyPackage != nil:
		return WireFormatKeyPackage
	}
	return 0
}

// GroupID returns the group that the message belongs to, nil for a Welcome or a
// key package, which do not say.
func (m *Message) GroupID() GroupID {
	switch {
	case m.Public != nil:
		return m.Public.Content.GroupID
	case m.Private != nil:
		return m.Private.GroupID
	case m.GroupInfo != nil:
		return m.GroupInfo.Context.GroupID
	}
	return nil
}

// Epoch returns the epoch that the message belongs to, false for a Welcome or a
// key package, which do not say.
func (m *Message) Epoch() (uint64, bool) {
	switch {
	case m.Public != nil:
		return m.Public.Content.Epoch, true
	case m.Private != nil:
		return m.Private.Epoch, true
	case m.GroupInfo != nil:
		return m.GroupInfo.Context.Epoch, true
	}
	return 0, false
}

// ContentType returns what a public or private message carries, 0 for others.
func (m *Message) ContentType() ContentType {
	switch {
	case m.Public != nil:
		return m.Public.Content.ContentType
	case m.Private != nil:
		return m.Private.ContentType
	}
	return 0
}

// Sender returns the claimed sender of a public message. Nothing vouches for it
// before a group has processed the message.
func (m *Message) Sender() (Sender, bool) {
	if m.Public == nil {
		return Sender{}, false
	}
	return m.Public.Content.Sender, true
}

// AuthenticatedData returns the authenticated_data of a public or private
// message, which anybody can read and, before processing, could have written.
func (m *Message) AuthenticatedData() []byte {
	switch {
	case m.Public != nil:
		return m.Public.Content.AuthenticatedData
	case m.Private != nil:
		return m.Private.AuthenticatedData
	}
	return nil
}
