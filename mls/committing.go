// SPDX-License-Identifier: Apache-2.0

// How a commit is made (RFC 9420 §12.4.1): which proposals it covers, fresh keys for
// the committer, the key schedule of the next epoch, and what joiners need.

package mls

import (
	"bytes"
	"slices"
)

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
	// What is valid with those before it is kept. Halving finds a few bad ones among
	// thousands in a few steps.
	var good []*pendingProposal
	var sift func(list []*pendingProposal)
	sift = func(list []*pendingProposal) {
		if _, err := c.try(append(slices.Clip(good), list...)); err == nil {
			good = append(good, list...)
			return
		}
		if n := len(list) / 2; n > 0 {
			sift(list[:n])
			sift(list[n:])
		}
	}
	sift(candidates)
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
	var err error
	if change.Capabilities {
		l.Capabilities = g.cfg.capabilities(g.s.cipher)
		if l.Extensions, err = l.Extensions.withoutComponents(); err != nil {
			return nil, nil, err
		}
	}
	if l.Extensions, err = g.cfg.withComponents(l.Extensions); err != nil {
		return nil, nil, err
	}
	l.Capabilities.cover(l.Extensions)
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
	p := &PendingCommit{change: t.change, unused: c.unused, base: g.ctx, baseTree: g.tree, basePrivate: g.private}
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
