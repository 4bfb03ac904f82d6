// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// CommitOptions say what a commit does; nil commits the pending proposals, or
// renews the committer's keys when there are none.
type CommitOptions struct {
	// Add adds the owners of key packages.
	Add []*KeyPackage
	// Remove removes members.
	Remove []LeafIndex
	// Update changes the committer's leaf: its identity, its extensions.
	Update *LeafChange
	// PSKs mixes pre-shared keys into the next epoch. A nil nonce is drawn.
	PSKs []PreSharedKeyID
	// AppData changes application data of the GroupContext.
	AppData []*AppDataUpdate
	// ContextExtensions replaces the extensions of the GroupContext; nil leaves
	// them.
	ContextExtensions Extensions
	// ReInit ends the group. It must be the only proposal.
	ReInit *ReInit
	// ByValue are further proposals, after those above.
	ByValue []Proposal
	// ExcludeProposals selects pending proposals that are not committed; nil
	// commits all that are valid together.
	ExcludeProposals func(ProposalInfo) bool
	// ForcePath renews the committer's keys also when the proposals do not demand
	// it: it costs a public-key operation for each node of the path.
	ForcePath bool
	// AAD is the authenticated_data of the commit.
	AAD []byte
	// Wire is the format of the commit: zero means [WireFormatPublicMessage], so that
	// a delivery service can check it.
	Wire WireFormat
	// InlineTree puts the ratchet tree into the Welcome and the GroupInfo.
	// Without, joiners need it from elsewhere.
	InlineTree bool
	// GroupInfo asks for a GroupInfo of the next epoch, GroupInfoExternalPub for one
	// by which others can join.
	GroupInfo            bool
	GroupInfoExternalPub bool
	// WelcomeExtensions are further extensions of the GroupInfo in the Welcome, and
	// of the one beside it.
	WelcomeExtensions Extensions
}

// A LeafChange says how a member's leaf node changes besides its keys.
type LeafChange struct {
	// Identity replaces credential and signature key; nil keeps them.
	Identity *Identity
	// Extensions replaces the leaf's extensions; nil keeps them. Their types are
	// added to its capabilities.
	Extensions Extensions
	// Capabilities renews the capabilities from the configuration.
	Capabilities bool
}

// A PendingCommit is a commit of this client that the delivery service has not
// accepted yet. It holds the group as it would be afterwards, and prints as
// [redacted].
type PendingCommit struct {
	redacted
	message   *Message
	welcome   *Message
	groupInfo *Message
	change    *Change
	unused    []ProposalInfo
	next      *Group

	// base and baseTree are where a member's commit starts from; nil for an external
	// commit. stored is the rest of a commit that was restored without its group.
	base     *GroupContext
	baseTree *ratchetTree
	stored   []byte
}

// Message returns the commit, to be sent to the members.
func (p *PendingCommit) Message() *Message { return p.message }

// Welcome returns the Welcome for all members that the commit adds, nil when it
// adds none. It must not reach them before the commit was accepted
// (RFC 9420 §14).
func (p *PendingCommit) Welcome() *Message { return p.welcome }

// GroupInfo returns the GroupInfo of the next epoch, nil unless the options asked
// for it.
func (p *PendingCommit) GroupInfo() *Message { return p.groupInfo }

// Change returns what the commit does. It is nil for a commit that was restored
// by [UnmarshalPendingCommit].
func (p *PendingCommit) Change() *Change { return p.change }

// Added returns the members that the commit adds by Add, with their places.
func (p *PendingCommit) Added() []Member {
	if p.change == nil {
		return nil
	}
	return p.change.Added
}

// Unused returns the pending proposals that the commit leaves out because they
// are not valid, not valid together, or were excluded.
func (p *PendingCommit) Unused() []ProposalInfo { return p.unused }

// Merge returns the group with the commit in effect. Call it once the delivery
// service has accepted the commit.
func (p *PendingCommit) Merge() (*Group, error) {
	if p.next == nil {
		return nil, errors.New("mls: the pending commit was discarded, or restored without its group: see Bind")
	}
	return p.next, nil
}

// Discard wipes the secrets of a commit that lost its race.
func (p *PendingCommit) Discard() {
	if p.next != nil {
		p.next.keys.wipe()
		p.next = nil
	}
	wipe(p.stored)
	p.stored = nil
}

// wireFormat resolves the format of a handshake message.
func wireFormat(f WireFormat) (WireFormat, error) {
	switch f {
	case 0, WireFormatPublicMessage:
		return WireFormatPublicMessage, nil
	case WireFormatPrivateMessage:
		return f, nil
	}
	return 0, fmt.Errorf("mls: a handshake message cannot be sent as %v", f)
}

// proposals returns the proposals that the options ask for by value.
func (o *CommitOptions) proposals(g *Group) ([]Proposal, error) {
	var list []Proposal
	if o.ContextExtensions != nil {
		list = append(list, &GroupContextExtensions{o.ContextExtensions})
	}
	for _, i := range o.Remove {
		list = append(list, &Remove{i})
	}
	for _, kp := range o.Add {
		if kp == nil {
			return nil, errors.New("mls: CommitOptions.Add has a nil key package")
		}
		list = append(list, &Add{kp})
	}
	for _, id := range o.PSKs {
		if id.Nonce == nil {
			id.Nonce = make([]byte, g.s.nh)
			if err := readRandom(g.cfg.rand, id.Nonce); err != nil {
				return nil, err
			}
		}
		list = append(list, &PreSharedKey{id})
	}
	if o.ReInit != nil {
		list = append(list, o.ReInit)
	}
	for _, p := range o.AppData {
		list = append(list, p)
	}
	return append(list, o.ByValue...), nil
}

// Commit makes a commit, which ends the epoch once it is accepted
// (RFC 9420 §12.4.1). The group does not change: the result's Merge gives the next
// one. Only a commit that is sent as a PrivateMessage uses up a message key of
// the group, so that the group must be stored before it is sent.
func (g *Group) Commit(o *CommitOptions) (*PendingCommit, error) {
	if o == nil {
		o = &CommitOptions{}
	}
	return g.commit(o, pskUseCommit, nil)
}

func (g *Group) commit(o *CommitOptions, use pskUse, psks PSKStore) (*PendingCommit, error) {
	format, err := wireFormat(o.Wire)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(g.frozen(), g.checkAAD(o.AAD)); err != nil {
		return nil, err
	}
	byValue, err := o.proposals(g)
	if err != nil {
		return nil, err
	}
	c := &committing{g: g, o: o, use: use, psks: psks, byValue: byValue}
	t, err := c.choose()
	if err != nil {
		return nil, err
	}
	return c.make(t, format)
}

// A committing is a commit in the making.
type committing struct {
	g       *Group
	o       *CommitOptions
	use     pskUse
	psks    PSKStore
	byValue []Proposal
	unused  []ProposalInfo
	path    *newPath
	me      *Identity
}

// choose decides which pending proposals are committed. Those that make the list
// invalid are left out; a proposal by value that does is an error
// (RFC 9420 §12.2, §12.4).
func (c *committing) choose() (*transition, error) {
	candidates := c.candidates()
	t, err := c.try(candidates)
	if err == nil || len(candidates) == 0 {
		c.leaveOut(candidates)
		return t, err
	}
	// Some proposal is wrong together with the others. It must not be by value.
	if _, err := c.try(nil); err != nil {
		return nil, err
	}
	var good []*pendingProposal
	for _, p := range candidates {
		if _, err := c.try(append(slices.Clip(good), p)); err == nil {
			good = append(good, p)
		}
	}
	c.leaveOut(good)
	return c.try(good)
}

// leaveOut notes what is not committed.
func (c *committing) leaveOut(used []*pendingProposal) {
	for _, p := range c.g.pending {
		if !slices.Contains(used, p) {
			c.unused = append(c.unused, p.info())
		}
	}
}

// candidates returns the pending proposals that may be committed as far as it can
// be seen from the list: what the RFC tells a committer to prefer is preferred.
func (c *committing) candidates() []*pendingProposal {
	g := c.g
	gone := make(map[LeafIndex]bool)  // removed
	byNew := make(map[LeafIndex]bool) // updated by a later Update
	self := Sender{SenderMember, uint32(g.self)}
	alone := false
	hasContext := false
	for _, p := range c.byValue {
		switch v := p.(type) {
		case *Remove:
			gone[v.Removed] = true
		case *ReInit:
			alone = true
		case *GroupContextExtensions:
			hasContext = true
		}
	}
	if alone {
		return nil
	}
	excluded := func(p *pendingProposal) bool {
		return c.o.ExcludeProposals != nil && c.o.ExcludeProposals(p.info())
	}
	// SelfRemove goes before Remove, Remove before Update.
	var list []*pendingProposal
	for _, p := range g.pending {
		if _, ok := p.proposal.(*SelfRemove); ok && p.sender != self && !gone[LeafIndex(p.sender.Index)] && !excluded(p) {
			gone[LeafIndex(p.sender.Index)] = true
			list = append(list, p)
		}
	}
	for _, p := range g.pending {
		if v, ok := p.proposal.(*Remove); ok && v.Removed != g.self && !gone[v.Removed] && !excluded(p) {
			gone[v.Removed] = true
			list = append(list, p)
		}
	}
	var reinit *pendingProposal
	for _, p := range slices.Backward(g.pending) {
		if excluded(p) {
			continue
		}
		switch p.proposal.(type) {
		case *Update:
			at := LeafIndex(p.sender.Index)
			if p.sender != self && !gone[at] && !byNew[at] {
				byNew[at] = true
				list = append(list, p)
			}
		case *GroupContextExtensions:
			if !hasContext {
				hasContext = true
				list = append(list, p)
			}
		case *ReInit:
			reinit = p
		case *Remove, *SelfRemove:
		default:
			list = append(list, p)
		}
	}
	if len(list) == 0 && len(c.byValue) == 0 && reinit != nil {
		return []*pendingProposal{reinit}
	}
	// Back to the order of arrival, which decides the places of new members and
	// the order of pre-shared keys.
	return slices.DeleteFunc(slices.Clone(g.pending), func(p *pendingProposal) bool { return !slices.Contains(list, p) })
}

// try validates the list and applies it to the tree, up to the point where keys
// are made.
func (c *committing) try(byRef []*pendingProposal) (*transition, error) {
	g := c.g
	l := &proposalList{committer: Sender{SenderMember, uint32(g.self)}}
	for _, p := range byRef {
		l.all = append(l.all, listedProposal{p.info(), true})
	}
	for _, p := range c.byValue {
		l.all = append(l.all, listedProposal{ProposalInfo{Proposal: p, Sender: l.committer}, false})
	}
	if n := len(l.all); n > g.cfg.limits.MaxProposals {
		return nil, invalid(RuleLimit, "the commit covers %d proposals, the limit is %d", n, g.cfg.limits.MaxProposals)
	}
	t, err := g.begin(l, c.use, sent)
	if err != nil {
		return nil, err
	}
	t.change.AAD = c.o.AAD
	if !l.needsPath() && !c.o.ForcePath && c.o.Update == nil {
		return t, t.finish()
	}
	if err := c.makePath(t); err != nil {
		return nil, err
	}
	return t, t.finish()
}

// makePath gives the committer fresh keys.
func (c *committing) makePath(t *transition) error {
	leaf, me, err := c.g.changeLeaf(c.o.Update)
	if err != nil {
		return err
	}
	c.path, err = t.edit.makePath(c.g.cfg.rand, t.committer, leaf, me.Key, c.g.ctx.GroupID)
	if err != nil {
		return err
	}
	t.path, t.steps, c.me = c.path.path, c.path.steps, me
	return nil
}

// changeLeaf returns an unsigned copy of this client's leaf with a change in
// effect, and who signs it.
func (g *Group) changeLeaf(change *LeafChange) (*LeafNode, *Identity, error) {
	old := g.tree.leaf(g.self)
	l := &LeafNode{SignatureKey: old.SignatureKey, Credential: old.Credential, Capabilities: old.Capabilities, Extensions: old.Extensions}
	me := g.me
	if change == nil {
		return l, me, nil
	}
	if change.Identity != nil {
		me = change.Identity
		if err := me.check(g.s); err != nil {
			return nil, nil, err
		}
		l.SignatureKey, l.Credential = me.Key.Public(), me.Credential
	}
	if change.Extensions != nil {
		l.Extensions = change.Extensions
	}
	if change.Capabilities {
		l.Capabilities = g.cfg.capabilities(g.s.cipher)
	}
	for i := range l.Extensions {
		if t := l.Extensions[i].Type; !l.Capabilities.SupportsExtension(t) {
			l.Capabilities.Extensions = append(slices.Clip(l.Capabilities.Extensions), t)
		}
	}
	if t := l.Credential.Type; !l.Capabilities.SupportsCredential(t) {
		l.Capabilities.Credentials = append(slices.Clip(l.Capabilities.Credentials), t)
	}
	if err := g.s.checkCertificate(&l.Credential, l.SignatureKey); err != nil {
		return nil, nil, err
	}
	if err := g.cfg.auth.ValidateCredential(l.Credential, l.SignatureKey, UseMember); err != nil {
		return nil, nil, broken(RuleLeafCredential, err, "own new credential")
	}
	return l, me, nil
}

// make seals, signs and frames the commit (RFC 9420 §12.4.1).
func (c *committing) make(t *transition, format WireFormat) (*PendingCommit, error) {
	g, s := c.g, c.g.s
	content := &Commit{}
	for i := range t.list.all {
		p := &t.list.all[i]
		if p.Ref != nil {
			content.Proposals = append(content.Proposals, ProposalOrRef{Ref: p.Ref})
		} else {
			content.Proposals = append(content.Proposals, ProposalOrRef{Proposal: p.Proposal})
		}
	}
	private, me := g.private, g.me
	var commitSecret []byte
	if c.path != nil {
		if err := t.edit.encryptPath(g.cfg.rand, c.path, t.ctxBytes); err != nil {
			return nil, err
		}
		content.Path, private, me, commitSecret = c.path.path, c.path.private, c.me, c.path.commitSecret
		defer c.path.wipe()
	}
	pskSecret, err := g.pskSecret(t.list.psks, c.psks)
	if err != nil {
		return nil, err
	}
	a := g.content(format, ContentCommit, c.o.AAD)
	a.content.Commit = content
	if err := s.signContent(a, g.me.Key, g.ctxBytes); err != nil {
		return nil, err
	}
	t.confirm(a)
	p := &PendingCommit{change: t.change, unused: c.unused, base: g.ctx, baseTree: g.tree}
	k := &keying{g.cfg, t, a, c.path, g.keys.secrets.initSecret, commitSecret, pskSecret}
	err = k.begin(p, c.o, func(st publicState, e *epochSecrets) *Group { return g.advance(st, me, private, e) })
	wipe(pskSecret)
	if err != nil {
		return nil, err
	}
	// Last, since it may use up a message key.
	if p.message, err = g.protect(a); err != nil {
		return nil, err
	}
	return p, nil
}

// keying is what the keys of a new epoch are made of.
type keying struct {
	cfg  *config
	t    *transition
	a    *authenticatedContent
	path *newPath

	initSecret, commitSecret, pskSecret []byte
}

// begin runs the key schedule of the new epoch, tags the commit and makes what
// joiners need.
func (k *keying) begin(p *PendingCommit, o *CommitOptions, enter func(publicState, *epochSecrets) *Group) error {
	t, s := k.t, k.t.from.s
	joiner := s.joinerSecret(k.initSecret, k.commitSecret, t.ctxBytes)
	defer wipe(joiner)
	secrets := s.epochSecretsFromJoiner(joiner, k.pskSecret, t.ctxBytes)
	k.a.auth.confirmationTag = s.confirmationTag(secrets.confirmationKey, t.ctx.ConfirmedTranscriptHash)
	welcomeSecret := bytes.Clone(secrets.welcomeSecret)
	defer wipe(welcomeSecret)
	p.next = enter(t.next(k.a.auth.confirmationTag), secrets)
	if len(t.list.adds) > 0 {
		gi, err := p.next.groupInfo(&GroupInfoOptions{InlineTree: o.InlineTree, Extensions: o.WelcomeExtensions})
		if err != nil {
			return err
		}
		w, err := s.sealWelcome(k.cfg, gi, welcomeSecret, joiner, t, k.path)
		if err != nil {
			return err
		}
		p.welcome = w.Message()
	}
	if !o.GroupInfo && !o.GroupInfoExternalPub {
		return nil
	}
	var err error
	p.groupInfo, err = p.next.GroupInfo(&GroupInfoOptions{ExternalPub: o.GroupInfoExternalPub, InlineTree: o.InlineTree, Extensions: o.WelcomeExtensions})
	return err
}
