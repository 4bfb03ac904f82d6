// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"time"
)

// A Group is one client's view of a group in one epoch, with its secrets
// (RFC 9420 §11).
//
// A Group is a value: merging a proposal or a commit gives the next one, which
// shares all that did not change, and the old one stays as it was. What the values
// of one epoch have in common are the message keys: a message that was sealed or
// opened with one of them has used up its key for all.
//
// A Group, and Groups that come from each other, are not safe for concurrent use.
type Group struct {
	redacted
	publicState

	me      *Identity
	self    LeafIndex
	private *treePrivate
	keys    *epochKeys
	// past holds the epochs whose late messages can still be read, the newest
	// first; resumption the resumption PSKs of past epochs, likewise.
	past       []*pastEpoch
	resumption []resumptionPSK
	// ownUpdates are the keys of own Update proposals that are pending.
	ownUpdates []ownUpdate

	stored *storedRows
}

// epochKeys are the secrets of an epoch, which all Groups of the epoch share.
type epochKeys struct {
	redacted
	secrets  *epochSecrets
	messages *secretTree
	exporter *exporterTree
	// prepared are the messages of the last Prepare that were not processed yet, by
	// their encoding.
	prepared map[string]*preparedMessage
}

// An ownUpdate is what becomes of this client's keys when its Update is committed.
type ownUpdate struct {
	ref ProposalRef
	key *hpkePrivateKey
	me  *Identity
}

type resumptionPSK struct {
	epoch uint64
	psk   []byte
}

// GroupOptions are choices for a new group; nil means the defaults.
type GroupOptions struct {
	// Extensions are the extensions of the GroupContext.
	Extensions Extensions
	// DeviceID is the content of the creator's application_id extension; nil: none.
	DeviceID []byte
	// LeafExtensions are further extensions of the creator's leaf node.
	LeafExtensions Extensions
	// Lifetime of the creator's leaf node. Zero means [DefaultLifetime].
	Lifetime time.Duration
}

// NewGroup creates a group with one member, me (RFC 9420 §11). The group id must
// be unique among the groups of all who may ever join; nil means a random one.
func NewGroup(cfg *Config, cs CipherSuite, id GroupID, me *Identity, o *GroupOptions) (*Group, error) {
	c := cfg.resolve()
	s, err := c.suite(cs)
	if err != nil {
		return nil, err
	}
	return c.newGroup(s, id, me, o)
}

func (c *config) newGroup(s *suite, id GroupID, me *Identity, o *GroupOptions) (*Group, error) {
	if err := me.check(s); err != nil {
		return nil, err
	}
	if o == nil {
		o = &GroupOptions{}
	}
	if id == nil {
		id = make(GroupID, 32)
		if err := readRandom(c.rand, id); err != nil {
			return nil, err
		}
	}
	leaf, err := c.newLeaf(s, me, o.DeviceID, o.LeafExtensions)
	if err != nil {
		return nil, fmt.Errorf("mls: creating group: %w", err)
	}
	leaf.Source, leaf.Lifetime = LeafNodeKeyPackage, c.lifetime(o.Lifetime)
	leaf.Capabilities.cover(o.Extensions)
	priv, pub, err := s.generateHPKEKeyPair(c.rand)
	if err != nil {
		return nil, fmt.Errorf("mls: creating group: %w", err)
	}
	leaf.EncryptionKey = pub
	if err := leaf.sign(s, me.Key, nil, 0); err != nil {
		return nil, err
	}
	ctx := &GroupContext{Version: MLS10, CipherSuite: s.cipher, GroupID: bytes.Clone(id), ConfirmedTranscriptHash: []byte{}, Extensions: o.Extensions}
	if err := c.validateLeaf(s, leaf, leafPlace{origin: sent}); err != nil {
		return nil, fmt.Errorf("mls: creating group: %w", err)
	}
	if err := c.validateContextExtensions(s, ctx.Extensions); err != nil {
		return nil, fmt.Errorf("mls: creating group: %w", err)
	}
	t := newRatchetTree(s, leaf)
	ctx.TreeHash = t.treeHash()
	demands, err := ctx.Extensions.demands()
	if err != nil {
		return nil, err
	}
	if err := t.checkSupport(&demands); err != nil {
		return nil, fmt.Errorf("mls: creating group: %w", err)
	}
	secrets, err := s.newGroupSecrets(c.rand)
	if err != nil {
		return nil, err
	}
	tag := s.confirmationTag(secrets.confirmationKey, ctx.ConfirmedTranscriptHash)
	st, err := newPublicState(c, s, ctx, t, tag)
	if err != nil {
		return nil, err
	}
	g := &Group{publicState: st, me: me, private: &treePrivate{leaf: priv}, stored: new(storedRows)}
	g.setKeys(secrets)
	return g, nil
}

// setKeys begins an epoch with its secrets. Those that are not needed any more
// are wiped.
func (g *Group) setKeys(e *epochSecrets) {
	k := &epochKeys{secrets: e, exporter: newExporterTree(g.s, e.epochSecret)}
	k.messages = newSecretTree(g.s, e.encryptionSecret, g.tree.width)
	g.cfg.limitSecretTree(k.messages)
	wipe(e.epochSecret)
	wipe(e.joinerSecret)
	wipe(e.welcomeSecret)
	g.keys = k
}

// enter returns the group of a new member.
func enter(st publicState, me *Identity, private *treePrivate, e *epochSecrets) *Group {
	g := &Group{publicState: st, me: me, self: private.self, private: private.matching(st.tree), stored: new(storedRows)}
	g.setKeys(e)
	return g
}

// advance returns the group in its next epoch.
func (g *Group) advance(st publicState, me *Identity, private *treePrivate, e *epochSecrets) *Group {
	next := enter(st, me, private, e)
	next.stored = g.stored
	next.keepPast(g)
	return next
}

func (k *epochKeys) wipe() {
	k.secrets.wipe()
	k.messages.wipe()
	k.exporter.wipe()
	k.prepared = nil
}

// Self returns this client's own member entry.
func (g *Group) Self() Member {
	m, _ := g.Member(g.self)
	return m
}

// Identity returns who this client signs as.
func (g *Group) Identity() *Identity { return g.me }

// EpochAuthenticator returns a secret that all members of the epoch share and
// nobody else knows: comparing it out of band detects who is between them
// (RFC 9420 §8.7).
func (g *Group) EpochAuthenticator() []byte { return bytes.Clone(g.keys.secrets.epochAuthenticator) }

// ResumptionPSK returns the epoch's resumption secret (RFC 9420 §8.6), for a
// [PSKStore] that serves other groups.
func (g *Group) ResumptionPSK() []byte { return bytes.Clone(g.keys.secrets.resumptionPSK) }

// Export derives n octets from a label and a context, the same for all members of
// the epoch (RFC 9420 §8.5). n is at most 255 times the size of the suite's hash.
func (g *Group) Export(label string, context []byte, n int) ([]byte, error) {
	return g.s.exporter(g.keys.secrets.exporterSecret, label, context, n)
}

// SafeExport returns the exported secret of a component, once: afterwards nobody
// who gets hold of this Group can compute it again (draft-ietf-mls-extensions,
// Exported Secrets).
func (g *Group) SafeExport(id ComponentID) ([]byte, error) { return g.keys.exporter.take(id) }

// ExternalPub returns the key to which external commits of the epoch are
// encrypted (RFC 9420 §12.4.3.2).
func (g *Group) ExternalPub() ([]byte, error) {
	priv, pub, err := g.s.externalKeyPair(g.keys.secrets.externalSecret)
	if err != nil {
		return nil, err
	}
	priv.wipe()
	return pub, nil
}

// Public returns the group as an outsider sees it.
func (g *Group) Public() *PublicGroup { return &PublicGroup{g.publicState} }

// ClearProposals returns the group without the pending proposals that drop
// selects.
func (g *Group) ClearProposals(drop func(ProposalInfo) bool) *Group {
	next := *g
	next.publicState = g.withoutPending(drop)
	return &next
}

// GroupInfoOptions are choices for a GroupInfo; nil means neither.
type GroupInfoOptions struct {
	// ExternalPub lets whoever has the GroupInfo join by an external commit.
	ExternalPub bool
	// InlineTree includes the ratchet tree.
	InlineTree bool
	// Extensions are further extensions.
	Extensions Extensions
}

// GroupInfo returns a signed GroupInfo of the epoch (RFC 9420 §12.4.3).
func (g *Group) GroupInfo(o *GroupInfoOptions) (*Message, error) {
	if o == nil {
		o = &GroupInfoOptions{}
	}
	gi, err := g.groupInfo(o)
	if err != nil {
		return nil, err
	}
	return gi.Message(), nil
}

func (g *Group) groupInfo(o *GroupInfoOptions) (*GroupInfo, error) {
	gi := &GroupInfo{Context: *g.ctx, ConfirmationTag: g.confirmationTag, Signer: g.self}
	if o.InlineTree {
		gi.Extensions = append(gi.Extensions, Extension{ExtensionRatchetTree, g.Tree()})
	}
	if o.ExternalPub {
		pub, err := g.ExternalPub()
		if err != nil {
			return nil, err
		}
		gi.Extensions = append(gi.Extensions, Extension{ExtensionExternalPub, appendOpaque(nil, pub)})
	}
	gi.Extensions = g.cfg.withGREASE(append(gi.Extensions, o.Extensions...))
	if err := g.cfg.checkExtensions(gi.Extensions, "GroupInfo"); err != nil {
		return nil, err
	}
	if err := gi.sign(g.s, g.me.Key); err != nil {
		return nil, err
	}
	return gi, nil
}

// sealer returns what the group encrypts with.
func (g *Group) sealer() sealer {
	return sealer{g.s, g.cfg, g.keys.messages, g.keys.secrets.senderDataSecret}
}

// Seal encrypts data to the members (RFC 9420 §6.3, §15). aad is authenticated
// and readable by all who see the message. Sealing uses up a message key: store
// the group (see [Group.Delta]) before the message is sent, so that a crash
// cannot use the key again. While proposals are pending it fails with
// [ErrPendingProposals]: who is to be removed must not read on.
func (g *Group) Seal(data, aad []byte) (*Message, error) {
	if err := g.frozen(); err != nil {
		return nil, err
	}
	if len(g.pending) > 0 && !g.cfg.sealPending {
		return nil, ErrPendingProposals
	}
	if err := g.checkAAD(aad); err != nil {
		return nil, err
	}
	if err := g.cfg.checkSize(len(data)); err != nil {
		return nil, err
	}
	a := g.content(WireFormatPrivateMessage, ContentApplication, aad)
	a.content.Application = data
	return g.protect(a)
}

func (g *Group) checkAAD(aad []byte) error {
	if err := g.cfg.checkSize(len(aad)); err != nil {
		return err
	}
	if !g.safeAAD {
		return nil
	}
	if _, err := ParseSafeAAD(aad); err != nil {
		return broken(RuleSafeAAD, err, "the group wants its authenticated_data framed, see SafeAAD")
	}
	return nil
}

// content begins a message of this member.
func (g *Group) content(f WireFormat, t ContentType, aad []byte) *authenticatedContent {
	return &authenticatedContent{wireFormat: f, content: FramedContent{
		GroupID: g.ctx.GroupID, Epoch: g.ctx.Epoch, Sender: Sender{SenderMember, uint32(g.self)},
		AuthenticatedData: aad, ContentType: t,
	}}
}

// protect signs a, unless it is signed, and frames it (RFC 9420 §6.2, §6.3).
func (g *Group) protect(a *authenticatedContent) (*Message, error) {
	if a.auth.signature == nil {
		if err := g.s.signContent(a, g.me.Key, g.ctxBytes); err != nil {
			return nil, err
		}
	}
	if a.wireFormat == WireFormatPublicMessage {
		m := &PublicMessage{Content: a.content, auth: a.auth}
		m.membershipTag = g.s.membershipTag(g.keys.secrets.membershipKey, a, g.ctxBytes)
		out := newMessage(&Message{Public: m})
		if err := g.cfg.checkSize(len(out.raw)); err != nil {
			return nil, err
		}
		return out, nil
	}
	return g.sealer().seal(a)
}
