// SPDX-License-Identifier: Apache-2.0

// Message framing (RFC 9420 §6), from the inside out:
//
//	FramedContent          who says what in which epoch of which group
//	AuthenticatedContent   + wire format, signature, confirmation tag
//	PublicMessage          + membership tag, or
//	PrivateMessage         encrypted
//	MLSMessage             + version and wire format

package mls

import (
	"fmt"
)

// A GroupID identifies a group (RFC 9420 §11).
type GroupID []byte

// A WireFormat says how an MLSMessage is encoded (RFC 9420 §6, §17.2).
type WireFormat uint16

// The wire formats of RFC 9420 §17.2.
const (
	WireFormatPublicMessage  WireFormat = 1
	WireFormatPrivateMessage WireFormat = 2
	WireFormatWelcome        WireFormat = 3
	WireFormatGroupInfo      WireFormat = 4
	WireFormatKeyPackage     WireFormat = 5
)

// String returns the registered name of the format, or its number.
func (f WireFormat) String() string {
	switch f {
	case WireFormatPublicMessage:
		return "mls_public_message"
	case WireFormatPrivateMessage:
		return "mls_private_message"
	case WireFormatWelcome:
		return "mls_welcome"
	case WireFormatGroupInfo:
		return "mls_group_info"
	case WireFormatKeyPackage:
		return "mls_key_package"
	}
	return fmt.Sprintf("0x%04x", uint16(f))
}

// A ContentType says what a message carries (RFC 9420 §6).
type ContentType uint8

// The content types of RFC 9420 §6.
const (
	ContentApplication ContentType = 1
	ContentProposal    ContentType = 2
	ContentCommit      ContentType = 3
)

// String returns the RFC's name of the type.
func (t ContentType) String() string {
	switch t {
	case ContentApplication:
		return "application"
	case ContentProposal:
		return "proposal"
	case ContentCommit:
		return "commit"
	}
	return fmt.Sprintf("ContentType(%d)", uint8(t))
}

func readContentType(r *reader) ContentType {
	t := ContentType(r.u8())
	if t < ContentApplication || t > ContentCommit {
		r.fail(fmt.Errorf("mls: content_type %d is unknown", uint8(t)))
	}
	return t
}

// A SenderType says in which role a message was sent (RFC 9420 §6).
type SenderType uint8

// The sender types of RFC 9420 §6.
const (
	SenderMember            SenderType = 1
	SenderExternal          SenderType = 2
	SenderNewMemberProposal SenderType = 3
	SenderNewMemberCommit   SenderType = 4
)

// String returns the RFC's name of the type.
func (t SenderType) String() string {
	switch t {
	case SenderMember:
		return "member"
	case SenderExternal:
		return "external"
	case SenderNewMemberProposal:
		return "new_member_proposal"
	case SenderNewMemberCommit:
		return "new_member_commit"
	}
	return fmt.Sprintf("SenderType(%d)", uint8(t))
}

// A Sender says who sent a message (RFC 9420 §6).
type Sender struct {
	Type SenderType
	// Index is the leaf index of a member, or the index of an external sender in
	// the external_senders extension; otherwise 0.
	Index uint32
}

// Leaf returns the leaf index of a member.
func (s Sender) Leaf() (LeafIndex, bool) { return LeafIndex(s.Index), s.Type == SenderMember }

func readSender(r *reader) Sender {
	s := Sender{Type: SenderType(r.u8())}
	switch s.Type {
	case SenderMember, SenderExternal:
		s.Index = r.u32()
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		r.fail(fmt.Errorf("mls: sender_type %d is unknown", uint8(s.Type)))
	}
	return s
}

func (s Sender) appendTo(b []byte) []byte {
	b = appendU8(b, uint8(s.Type))
	if s.Type == SenderMember || s.Type == SenderExternal {
		b = appendU32(b, s.Index)
	}
	return b
}

// FramedContent is what a message says (RFC 9420 §6). Exactly one of Application,
// Proposal and Commit counts, by ContentType.
type FramedContent struct {
	GroupID           GroupID
	Epoch             uint64
	Sender            Sender
	AuthenticatedData []byte
	ContentType       ContentType
	Application       []byte
	Proposal          Proposal
	Commit            *Commit
}

func readFramedContent(r *reader) FramedContent {
	c := FramedContent{
		GroupID:           r.opaque(),
		Epoch:             r.u64(),
		Sender:            readSender(r),
		AuthenticatedData: r.opaque(),
		ContentType:       readContentType(r),
	}
	c.readBody(r)
	return c
}

// readBody reads what ContentType announces.
func (c *FramedContent) readBody(r *reader) {
	switch c.ContentType {
	case ContentApplication:
		c.Application = r.opaque()
	case ContentProposal:
		c.Proposal = readProposal(r)
	case ContentCommit:
		c.Commit = readCommit(r)
	}
}

func (c *FramedContent) appendTo(b []byte) []byte {
	b = appendOpaque(b, c.GroupID)
	b = appendU64(b, c.Epoch)
	b = c.Sender.appendTo(b)
	b = appendOpaque(b, c.AuthenticatedData)
	b = appendU8(b, uint8(c.ContentType))
	return c.appendBody(b)
}

func (c *FramedContent) appendBody(b []byte) []byte {
	switch c.ContentType {
	case ContentApplication:
		return appendOpaque(b, c.Application)
	case ContentProposal:
		return appendProposal(b, c.Proposal)
	case ContentCommit:
		return c.Commit.appendTo(b)
	}
	return b
}

// authData is FramedContentAuthData (RFC 9420 §6.1). The confirmation tag is on
// the wire exactly when the content is a commit.
type authData struct {
	signature       []byte
	confirmationTag []byte
}

func readAuthData(r *reader, t ContentType) authData {
	a := authData{signature: r.opaque()}
	if t == ContentCommit {
		a.confirmationTag = r.opaque()
	}
	return a
}

func (a *authData) appendTo(b []byte, t ContentType) []byte {
	b = appendOpaque(b, a.signature)
	if t == ContentCommit {
		b = appendOpaque(b, a.confirmationTag)
	}
	return b
}

// authenticatedContent is AuthenticatedContent (RFC 9420 §6.1).
type authenticatedContent struct {
	wireFormat WireFormat
	content    FramedContent
	auth       authData
}

func (a *authenticatedContent) appendTo(b []byte) []byte {
	b = a.content.appendTo(appendU16(b, uint16(a.wireFormat)))
	return a.auth.appendTo(b, a.content.ContentType)
}

func readAuthenticatedContent(r *reader) *authenticatedContent {
	a := &authenticatedContent{wireFormat: WireFormat(r.u16()), content: readFramedContent(r)}
	a.auth = readAuthData(r, a.content.ContentType)
	return a
}

// appendTBS writes FramedContentTBS (RFC 9420 §6.1). context is the encoded
// GroupContext; it is part of what members and joiners by commit sign.
func (a *authenticatedContent) appendTBS(b []byte, context []byte) []byte {
	b = appendU16(b, uint16(MLS10))
	b = appendU16(b, uint16(a.wireFormat))
	b = a.content.appendTo(b)
	switch a.content.Sender.Type {
	case SenderMember, SenderNewMemberCommit:
		b = append(b, context...)
	}
	return b
}

// confirmedInput returns ConfirmedTranscriptHashInput (RFC 9420 §8.2).
func (a *authenticatedContent) confirmedInput() []byte {
	b := a.content.appendTo(appendU16(nil, uint16(a.wireFormat)))
	return appendOpaque(b, a.auth.signature)
}

// proposalRef returns the reference of the proposal that a carries
// (RFC 9420 §5.2).
func (a *authenticatedContent) proposalRef(s *suite) ProposalRef {
	return s.refHash("MLS 1.0 Proposal Reference", a.appendTo(nil))
}

// A PublicMessage is signed and, from members, authenticated, but not encrypted
// (RFC 9420 §6.2).
type PublicMessage struct {
	Content       FramedContent
	auth          authData
	membershipTag []byte
}

func readPublicMessage(r *reader) *PublicMessage {
	m := &PublicMessage{Content: readFramedContent(r)}
	m.auth = readAuthData(r, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		m.membershipTag = r.opaque()
	}
	return m
}

func (m *PublicMessage) appendTo(b []byte) []byte {
	b = m.Content.appendTo(b)
	b = m.auth.appendTo(b, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		b = appendOpaque(b, m.membershipTag)
	}
	return b
}

// authenticated returns the content as it is signed and hashed.
func (m *PublicMessage) authenticated() *authenticatedContent {
	return &authenticatedContent{WireFormatPublicMessage, m.Content, m.auth}
}

// ConfirmationTag returns the confirmation tag of a commit, nil otherwise.
func (m *PublicMessage) ConfirmationTag() []byte { return m.auth.confirmationTag }

// A PrivateMessage is encrypted to the members of an epoch (RFC 9420 §6.3).
type PrivateMessage struct {
	GroupID             GroupID
	Epoch               uint64
	ContentType         ContentType
	AuthenticatedData   []byte
	EncryptedSenderData []byte
	Ciphertext          []byte
}

func (m *PrivateMessage) readFrom(r *reader) {
	m.GroupID = r.opaque()
	m.Epoch = r.u64()
	m.ContentType = readContentType(r)
	m.AuthenticatedData = r.opaque()
	m.EncryptedSenderData = r.opaque()
	m.Ciphertext = r.opaque()
}

func (m *PrivateMessage) appendTo(b []byte) []byte {
	b = m.appendContentAAD(b)
	b = appendOpaque(b, m.EncryptedSenderData)
	return appendOpaque(b, m.Ciphertext)
}

// appendContentAAD writes PrivateContentAAD (RFC 9420 §6.3.1).
func (m *PrivateMessage) appendContentAAD(b []byte) []byte {
	return appendOpaque(m.appendSenderDataAAD(b), m.AuthenticatedData)
}

// appendSenderDataAAD writes SenderDataAAD (RFC 9420 §6.3.2).
func (m *PrivateMessage) appendSenderDataAAD(b []byte) []byte {
	b = appendU64(appendOpaque(b, m.GroupID), m.Epoch)
	return appendU8(b, uint8(m.ContentType))
}

// senderData is SenderData (RFC 9420 §6.3.2).
type senderData struct {
	leaf       LeafIndex
	generation uint32
	reuseGuard [4]byte
}

func readSenderData(r *reader) senderData {
	d := senderData{leaf: LeafIndex(r.u32()), generation: r.u32()}
	copy(d.reuseGuard[:], r.take(4))
	return d
}

func (d *senderData) appendTo(b []byte) []byte {
	b = appendU32(appendU32(b, uint32(d.leaf)), d.generation)
	return append(b, d.reuseGuard[:]...)
}

// String names the sender, as in "member 3".
func (s Sender) String() string {
	switch s.Type {
	case SenderMember, SenderExternal:
		return s.Type.String() + " " + itoa(uint64(s.Index))
	}
	return s.Type.String()
}
