// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"slices"
)

// Received is the outcome of [Group.Process]: an *[ApplicationMessage], a
// *[StagedProposal], a *[StagedCommit], an *[OwnMessage], an *[OwnCommit] or a
// *[PastEpoch].
type Received interface{ received() }

// An ApplicationMessage is what a member has sent with Seal.
type ApplicationMessage struct {
	// Sender as it was in the epoch of the message.
	Sender Member
	Epoch  uint64
	// Generation counts the messages of the sender in the epoch. It is bound to the
	// key by which the message was encrypted; another member could have chosen
	// another one for its own message.
	Generation uint32
	Data       []byte
	AAD        []byte
}

// An OwnMessage is the echo of a proposal or an application message of this
// client. What was encrypted cannot be read again, its key is gone; and any
// member can make a PrivateMessage that seems to be one: compare it with what
// was sent.
type OwnMessage struct {
	ContentType ContentType
	Epoch       uint64
	// Generation of a PrivateMessage.
	Generation uint32
}

// An OwnCommit is the echo of a commit of this client: the one of its
// [PendingCommit]s whose message is the same is to be merged. One that is not
// among them was made by this client's former or other self; the group cannot
// follow it, and must be joined again.
type OwnCommit struct{ Epoch uint64 }

// A PastEpoch is a proposal or a commit of an epoch that ended: somebody lost a
// race, or the message was delivered twice. Nothing of it was verified.
type PastEpoch struct {
	ContentType ContentType
	Epoch       uint64
}

// A StagedProposal is a valid proposal that is not yet pending.
type StagedProposal struct {
	redacted
	g      *Group
	p      *pendingProposal
	change *Change
	next   publicState
	key    *messageKey
}

// Ref returns the reference by which a commit covers the proposal.
func (s *StagedProposal) Ref() ProposalRef { return s.p.ref }

// Info returns the proposal and its sender.
func (s *StagedProposal) Info() ProposalInfo { return s.p.info() }

// Change returns what the proposal asks for.
func (s *StagedProposal) Change() *Change { return s.change }

// Merge returns the group in which the proposal is pending.
func (s *StagedProposal) Merge() *Group {
	next := *s.g
	next.publicState = s.next
	s.g.spend(&s.key)
	return &next
}

// A StagedCommit is a valid commit that is not yet in effect.
type StagedCommit struct {
	redacted
	g      *Group
	change *Change
	refs   []ProposalRef
	next   *Group // nil: this client is removed, or the commit was discarded
	key    *messageKey

	removed, merged bool
}

// Change returns what the commit does.
func (s *StagedCommit) Change() *Change { return s.change }

// UsedProposals returns the references of the proposals that the commit covers.
func (s *StagedCommit) UsedProposals() []ProposalRef { return s.refs }

// Removed reports whether the commit removes this client.
func (s *StagedCommit) Removed() bool { return s.removed }

// ErrRemoved says that this client is no longer a member.
var ErrRemoved = errors.New("mls: this client was removed from the group")

// Merge returns the group with the commit in effect, or [ErrRemoved].
func (s *StagedCommit) Merge() (*Group, error) {
	if s.next == nil && !s.removed {
		return nil, errors.New("mls: the staged commit was discarded")
	}
	s.merged = true
	s.g.spend(&s.key)
	if s.removed {
		return nil, ErrRemoved
	}
	return s.next, nil
}

// Discard wipes the secrets of the epoch to which the commit would lead: for one
// that the application does not accept. After Merge it does nothing.
func (s *StagedCommit) Discard() {
	if s.merged {
		return
	}
	if s.key != nil {
		s.key.wipe()
		s.key = nil
	}
	if s.next == nil {
		return
	}
	s.next.keys.wipe()
	keep := *s.g.private
	keep.path = slices.Clone(keep.path)
	for _, u := range s.g.ownUpdates { // it may yet be committed
		keep.path = append(keep.path, u.key)
	}
	s.next.private.wipeBut(&keep)
	s.next = nil
}

// spend consumes the key of a handshake message that has taken effect.
func (g *Group) spend(key **messageKey) {
	if *key != nil {
		// A key that is gone already was spent for the same message.
		_ = g.keys.messages.consume(*key)
		*key = nil
	}
}

func (*ApplicationMessage) received() {}
func (*OwnMessage) received()         {}
func (*OwnCommit) received()          {}
func (*PastEpoch) received()          {}
func (*StagedProposal) received()     {}
func (*StagedCommit) received()       {}

// Process checks, and if need be decrypts, a message of the group
// (RFC 9420 §6, §12). The group does not change but for the key of an application
// message, which is used up if and only if Process succeeds: proposals and
// commits take effect by the Merge of the result. After an error the group is as
// it was; see [Retryable].
func (g *Group) Process(m *Message) (Received, error) {
	if err := g.checkFrame(m); err != nil {
		return nil, err
	}
	epoch, _ := m.Epoch()
	t := m.ContentType()
	if m.Public != nil && t == ContentApplication {
		return nil, invalid(RuleApplicationPublic, "application data in a PublicMessage")
	}
	if epoch > g.ctx.Epoch {
		return nil, g.checkEpoch(t, epoch)
	}
	if epoch < g.ctx.Epoch {
		if t == ContentApplication {
			return g.openPast(m.Private)
		}
		return &PastEpoch{t, epoch}, nil
	}
	if err := g.frozen(); err != nil {
		return nil, err
	}
	if m.Private != nil {
		return g.processPrivate(m.Private)
	}
	return g.processPublic(m.Public)
}

func (g *Group) processPublic(m *PublicMessage) (Received, error) {
	a := m.authenticated()
	if a.content.Sender.Type == SenderMember {
		if !g.s.verifyMembershipTag(g.keys.secrets.membershipKey, a, g.ctxBytes, m.membershipTag) {
			return nil, invalid(a.membershipRule(), "the membership_tag of a %v by %v is wrong", a.content.ContentType, a.content.Sender)
		}
	}
	return g.processHandshake(a, nil)
}

func (g *Group) processPrivate(m *PrivateMessage) (Received, error) {
	if g.keys.messages.root == nil {
		return nil, errNoKeys
	}
	if p := g.keys.takePrepared(m); p != nil {
		return g.processPrepared(m, p)
	}
	keys := g.sealer()
	d, err := keys.openSenderData(m)
	if err != nil {
		return nil, err
	}
	leaf := g.tree.leaf(d.leaf)
	if leaf == nil {
		return nil, invalid(RuleSenderDataLeaf, "the sender %d of a PrivateMessage is no member", d.leaf)
	}
	if d.leaf == g.self {
		if m.ContentType == ContentCommit {
			return &OwnCommit{m.Epoch}, nil
		}
		return &OwnMessage{m.ContentType, m.Epoch, d.generation}, nil
	}
	a, key, err := keys.open(m, d)
	if err != nil {
		return nil, err
	}
	if m.ContentType != ContentApplication {
		r, err := g.processHandshake(a, key)
		if err != nil {
			key.wipe()
		}
		return r, err
	}
	if err := g.verifySender(a); err != nil {
		key.wipe()
		return nil, err
	}
	return g.take(m, a, leaf, key)
}

// take uses up the key of an application message that was decrypted and verified.
func (g *Group) take(m *PrivateMessage, a *authenticatedContent, sender *LeafNode, key *messageKey) (Received, error) {
	leaf, generation := key.leaf, key.generation()
	if err := g.keys.messages.consume(key); err != nil {
		return nil, err
	}
	return &ApplicationMessage{Member{leaf, sender}, m.Epoch, generation, a.content.Application, m.AuthenticatedData}, nil
}

// processHandshake stages a proposal or a commit of the current epoch. key is
// the key of a PrivateMessage.
func (g *Group) processHandshake(a *authenticatedContent, key *messageKey) (Received, error) {
	if err := g.verifySender(a); err != nil {
		return nil, err
	}
	own := a.content.Sender == Sender{SenderMember, uint32(g.self)}
	if a.content.ContentType == ContentProposal {
		if own {
			return &OwnMessage{ContentType: ContentProposal, Epoch: g.ctx.Epoch}, nil
		}
		p, ch, err := g.stageProposal(a)
		if err != nil {
			return nil, err
		}
		next, err := g.withPending(p)
		if err != nil {
			return nil, err
		}
		return &StagedProposal{g: g, p: p, change: ch, next: next, key: key}, nil
	}
	if own {
		return &OwnCommit{g.ctx.Epoch}, nil
	}
	t, err := g.stageCommit(a)
	if err != nil {
		return nil, err
	}
	s := &StagedCommit{g: g, change: t.change, refs: t.list.refs(), key: key}
	for i := range t.change.Removed {
		if t.change.Removed[i].Index == g.self {
			t.confirm(a)
			s.change, s.removed = t.change, true
			return s, nil
		}
	}
	if s.next, err = g.follow(t, a); err != nil {
		return nil, err
	}
	return s, nil
}

// follow derives the secrets of the epoch to which a commit leads, and checks
// them by its confirmation tag (RFC 9420 §12.4.2).
func (g *Group) follow(t *transition, a *authenticatedContent) (*Group, error) {
	private, me, err := g.ownKeysAfter(t)
	if err != nil {
		return nil, err
	}
	// Before the expensive part: are all pre-shared keys at hand?
	pskSecret, err := g.pskSecret(t.list.psks, nil)
	if err != nil {
		return nil, err
	}
	defer wipe(pskSecret)
	initSecret := g.keys.secrets.initSecret
	if t.list.externalInit != nil {
		if initSecret, err = g.s.externalInitReceive(g.keys.secrets.externalSecret, t.list.externalInit); err != nil {
			return nil, broken(RuleExternalInitOnce, err, "kem_output of the ExternalInit")
		}
		defer wipe(initSecret)
	}
	var commitSecret []byte
	if t.path != nil {
		if private, commitSecret, err = t.edit.openPath(private, t.steps, t.path, t.ctxBytes); err != nil {
			return nil, err
		}
		defer wipe(commitSecret)
	}
	t.confirm(a)
	secrets := g.s.epochSecretsFromInit(initSecret, commitSecret, pskSecret, t.ctxBytes)
	want := g.s.confirmationTag(secrets.confirmationKey, t.ctx.ConfirmedTranscriptHash)
	if !equalMAC(want, a.auth.confirmationTag) {
		secrets.wipe()
		return nil, invalid(RuleConfirmationTag, "the confirmation_tag of the commit is wrong")
	}
	return g.advance(t.next(a.auth.confirmationTag), me, private, secrets), nil
}

// ownKeysAfter returns this client's keys with those of its own Update, if the
// commit covers one.
func (g *Group) ownKeysAfter(t *transition) (*treePrivate, *Identity, error) {
	for i := range t.list.all {
		p := &t.list.all[i]
		if _, ok := p.Proposal.(*Update); !ok || p.Sender != (Sender{SenderMember, uint32(g.self)}) {
			continue
		}
		for _, u := range g.ownUpdates {
			if bytes.Equal(u.ref, p.Ref) {
				private := *g.private
				private.leaf, private.path = u.key, nil
				return &private, u.me, nil
			}
		}
		return nil, nil, errors.New("mls: the commit covers an Update of this client whose keys are not here: join the group again")
	}
	return g.private, g.me, nil
}
