// SPDX-License-Identifier: Apache-2.0

// Proposals and commits (RFC 9420 §12.1 and §12.4).

package mls

import (
	"bytes"
	"fmt"
)

// A ProposalType names a kind of proposal (RFC 9420 §17.4).
type ProposalType uint16

// The proposal types of RFC 9420 §12.1, and those of draft-ietf-mls-extensions with
// the code points that it suggests.
const (
	ProposalAdd                    ProposalType = 0x0001
	ProposalUpdate                 ProposalType = 0x0002
	ProposalRemove                 ProposalType = 0x0003
	ProposalPSK                    ProposalType = 0x0004
	ProposalReInit                 ProposalType = 0x0005
	ProposalExternalInit           ProposalType = 0x0006
	ProposalGroupContextExtensions ProposalType = 0x0007
	ProposalAppDataUpdate          ProposalType = 0x0008
	ProposalAppEphemeral           ProposalType = 0x0009
	ProposalSelfRemove             ProposalType = 0x000a
)

var proposalNames = [...]string{
	ProposalAdd:                    "add",
	ProposalUpdate:                 "update",
	ProposalRemove:                 "remove",
	ProposalPSK:                    "psk",
	ProposalReInit:                 "reinit",
	ProposalExternalInit:           "external_init",
	ProposalGroupContextExtensions: "group_context_extensions",
	ProposalAppDataUpdate:          "app_data_update",
	ProposalAppEphemeral:           "app_ephemeral",
	ProposalSelfRemove:             "self_remove",
}

// String returns the registered name of the type, or its number.
func (t ProposalType) String() string {
	if int(t) < len(proposalNames) && proposalNames[t] != "" {
		return proposalNames[t]
	}
	return fmt.Sprintf("0x%04x", uint16(t))
}

// isDefault reports whether RFC 9420 defines the type, so that every client
// supports it and none lists it (RFC 9420 §7.2).
func (t ProposalType) isDefault() bool {
	return t >= ProposalAdd && t <= ProposalGroupContextExtensions
}

// needsPath reports whether a commit that covers such a proposal must have a
// path (RFC 9420 §17.4, column "Path Required").
func (t ProposalType) needsPath() bool {
	switch t {
	case ProposalUpdate, ProposalRemove, ProposalExternalInit, ProposalGroupContextExtensions, ProposalSelfRemove:
		return true
	}
	return false
}

// mayBeExternal reports whether an external sender may send such a proposal
// (RFC 9420 §17.4, column "External"; draft-ietf-mls-extensions).
func (t ProposalType) mayBeExternal() bool {
	switch t {
	case ProposalAdd, ProposalRemove, ProposalPSK, ProposalReInit, ProposalGroupContextExtensions,
		ProposalAppDataUpdate, ProposalAppEphemeral:
		return true
	}
	return false
}

// A Proposal is a change to a group that a commit may put into effect
// (RFC 9420 §12.1): one of *[Add], *[Update], *[Remove], *[PreSharedKey],
// *[ReInit], *[ExternalInit], *[GroupContextExtensions], *[AppDataUpdate],
// *[AppEphemeral] and *[SelfRemove].
type Proposal interface {
	ProposalType() ProposalType
	// appendBody writes what follows the type.
	appendBody(b []byte) []byte
}

// Add adds the owner of a key package (RFC 9420 §12.1.1).
type Add struct{ KeyPackage *KeyPackage }

// Update replaces the sender's leaf (RFC 9420 §12.1.2).
type Update struct{ LeafNode *LeafNode }

// Remove blanks a leaf (RFC 9420 §12.1.3).
type Remove struct{ Removed LeafIndex }

// PreSharedKey mixes a key into the next epoch (RFC 9420 §12.1.4).
type PreSharedKey struct{ ID PreSharedKeyID }

// ReInit freezes the group so that another can follow it (RFC 9420 §12.1.5).
type ReInit struct {
	GroupID     GroupID
	Version     ProtocolVersion
	CipherSuite CipherSuite
	Extensions  Extensions
}

// ExternalInit carries the KEM output from which an external joiner and the
// members derive the init secret (RFC 9420 §12.1.6).
type ExternalInit struct{ KEMOutput []byte }

// GroupContextExtensions replaces the extensions of the GroupContext
// (RFC 9420 §12.1.7).
type GroupContextExtensions struct{ Extensions Extensions }

// SelfRemove removes its sender (draft-ietf-mls-extensions, SelfRemove Proposal).
type SelfRemove struct{}

// ProposalType implements [Proposal].
func (*Add) ProposalType() ProposalType { return ProposalAdd }

// ProposalType implements [Proposal].
func (*Update) ProposalType() ProposalType { return ProposalUpdate }

// ProposalType implements [Proposal].
func (*Remove) ProposalType() ProposalType { return ProposalRemove }

// ProposalType implements [Proposal].
func (*PreSharedKey) ProposalType() ProposalType { return ProposalPSK }

// ProposalType implements [Proposal].
func (*ReInit) ProposalType() ProposalType { return ProposalReInit }

// ProposalType implements [Proposal].
func (*ExternalInit) ProposalType() ProposalType { return ProposalExternalInit }

// ProposalType implements [Proposal].
func (*GroupContextExtensions) ProposalType() ProposalType { return ProposalGroupContextExtensions }

// ProposalType implements [Proposal].
func (*SelfRemove) ProposalType() ProposalType { return ProposalSelfRemove }

func (p *Add) appendBody(b []byte) []byte          { return p.KeyPackage.appendTo(b) }
func (p *Update) appendBody(b []byte) []byte       { return p.LeafNode.appendTo(b) }
func (p *Remove) appendBody(b []byte) []byte       { return appendU32(b, uint32(p.Removed)) }
func (p *PreSharedKey) appendBody(b []byte) []byte { return p.ID.appendTo(b) }
func (p *ExternalInit) appendBody(b []byte) []byte { return appendOpaque(b, p.KEMOutput) }
func (p *SelfRemove) appendBody(b []byte) []byte   { return b }
func (p *GroupContextExtensions) appendBody(b []byte) []byte {
	return p.Extensions.appendTo(b)
}
func (p *ReInit) appendBody(b []byte) []byte {
	b = appendOpaque(b, p.GroupID)
	b = appendU16(appendU16(b, uint16(p.Version)), uint16(p.CipherSuite))
	return p.Extensions.appendTo(b)
}

func appendProposal(b []byte, p Proposal) []byte {
	return p.appendBody(appendU16(b, uint16(p.ProposalType())))
}

func readProposal(r *reader) Proposal {
	switch t := ProposalType(r.u16()); t {
	case ProposalAdd:
		return &Add{readKeyPackage(r)}
	case ProposalUpdate:
		return &Update{readLeafNode(r)}
	case ProposalRemove:
		return &Remove{LeafIndex(r.u32())}
	case ProposalPSK:
		return &PreSharedKey{readPreSharedKeyID(r)}
	case ProposalReInit:
		return &ReInit{r.opaque(), ProtocolVersion(r.u16()), CipherSuite(r.u16()), readExtensions(r)}
	case ProposalExternalInit:
		return &ExternalInit{r.opaque()}
	case ProposalGroupContextExtensions:
		return &GroupContextExtensions{readExtensions(r)}
	case ProposalAppDataUpdate:
		return readAppDataUpdate(r)
	case ProposalAppEphemeral:
		return readAppEphemeral(r)
	case ProposalSelfRemove:
		return &SelfRemove{}
	default:
		// A proposal has no length of its own: what is unknown cannot be skipped.
		r.fail(fmt.Errorf("mls: proposal type %s is unknown", t))
		return nil
	}
}

// ParseProposal decodes a proposal; nothing is verified.
func ParseProposal(b []byte) (Proposal, error) {
	return decode(bytes.Clone(b), "proposal", readProposal)
}

// MarshalProposal returns the encoding of p.
func MarshalProposal(p Proposal) []byte { return appendProposal(nil, p) }

// A ProposalRef identifies a proposal that was sent on its own, by the hash of
// the AuthenticatedContent that carried it (RFC 9420 §5.2).
type ProposalRef []byte

// A ProposalOrRef is an entry of a commit: a proposal by value, or a reference to
// one (RFC 9420 §12.4). Exactly one field is set.
type ProposalOrRef struct {
	Proposal Proposal
	Ref      ProposalRef
}

func readProposalOrRef(r *reader) ProposalOrRef {
	switch t := r.u8(); t {
	case 1:
		return ProposalOrRef{Proposal: readProposal(r)}
	case 2:
		return ProposalOrRef{Ref: r.opaque()}
	default:
		r.fail(fmt.Errorf("mls: ProposalOrRefType %d is unknown", t))
		return ProposalOrRef{}
	}
}

func appendProposalOrRef(b []byte, p ProposalOrRef) []byte {
	if p.Proposal != nil {
		return appendProposal(appendU8(b, 1), p.Proposal)
	}
	return appendOpaque(appendU8(b, 2), p.Ref)
}

// A Commit ends an epoch (RFC 9420 §12.4).
type Commit struct {
	Proposals []ProposalOrRef
	Path      *UpdatePath // nil when absent
}

func readCommit(r *reader) *Commit {
	c := &Commit{Proposals: readVector(r, readProposalOrRef)}
	if r.optional() {
		c.Path = readUpdatePath(r)
	}
	return c
}

func (c *Commit) appendTo(b []byte) []byte {
	b = appendVector(b, c.Proposals, appendProposalOrRef)
	return appendOptional(b, c.Path != nil, func(b []byte) []byte { return c.Path.appendTo(b) })
}

// An HPKECiphertext is an HPKE encapsulation and what was sealed with it
// (RFC 9420 §7.6).
type HPKECiphertext struct {
	KEMOutput  []byte
	Ciphertext []byte
}

func readHPKECiphertext(r *reader) HPKECiphertext {
	return HPKECiphertext{r.opaque(), r.opaque()}
}

func appendHPKECiphertext(b []byte, c HPKECiphertext) []byte {
	return appendOpaque(appendOpaque(b, c.KEMOutput), c.Ciphertext)
}

// An UpdatePathNode gives a node of the committer's direct path a new key, and its
// path secret to the resolution of the copath node (RFC 9420 §7.6).
type UpdatePathNode struct {
	EncryptionKey       []byte
	EncryptedPathSecret []HPKECiphertext
}

// An UpdatePath replaces the committer's leaf and the keys above it
// (RFC 9420 §7.6).
type UpdatePath struct {
	LeafNode *LeafNode
	Nodes    []UpdatePathNode
}

func readUpdatePath(r *reader) *UpdatePath {
	return &UpdatePath{
		LeafNode: readLeafNode(r),
		Nodes: readVector(r, func(r *reader) UpdatePathNode {
			return UpdatePathNode{r.opaque(), readVector(r, readHPKECiphertext)}
		}),
	}
}

func (p *UpdatePath) appendTo(b []byte) []byte {
	b = p.LeafNode.appendTo(b)
	return appendVector(b, p.Nodes, func(b []byte, n UpdatePathNode) []byte {
		return appendVector(appendOpaque(b, n.EncryptionKey), n.EncryptedPathSecret, appendHPKECiphertext)
	})
}
