// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"slices"
)

// ProposeOptions are choices for a proposal; nil means the defaults.
type ProposeOptions struct {
	// AAD is the authenticated_data of the message.
	AAD []byte
	// Wire is its format: zero means [WireFormatPublicMessage].
	Wire WireFormat
}

// Propose sends a proposal on its own, to be committed by anybody
// (RFC 9420 §12.1). It returns the message and the group in which the proposal is
// pending. An Update is made by [Group.ProposeUpdate], which has its keys.
func (g *Group) Propose(p Proposal, o *ProposeOptions) (*Message, *Group, error) {
	if _, ok := p.(*Update); ok {
		return nil, nil, errors.New("mls: use ProposeUpdate for an Update")
	}
	return g.propose(p, o, nil)
}

func (g *Group) propose(p Proposal, o *ProposeOptions, own *ownUpdate) (*Message, *Group, error) {
	if o == nil {
		o = &ProposeOptions{}
	}
	format, err := wireFormat(o.Wire)
	if err != nil {
		return nil, nil, err
	}
	if err := g.checkAAD(o.AAD); err != nil {
		return nil, nil, err
	}
	if _, ok := p.(*SelfRemove); ok && g.isLeaving() {
		return nil, nil, errors.New("mls: this client has proposed to leave already in this epoch")
	}
	a := g.content(format, ContentProposal, o.AAD)
	if a.content.Proposal, err = g.s.withNonce(g.cfg.rand, p); err != nil {
		return nil, nil, err
	}
	if err := g.s.signContent(a, g.me.Key, g.ctxBytes); err != nil {
		return nil, nil, err
	}
	if add, ok := p.(*Add); ok { // what is sent is checked against the clock
		if err := g.cfg.checkLifetime(add.KeyPackage.LeafNode, sent); err != nil {
			return nil, nil, err
		}
	}
	pending, _, err := g.stageProposal(a)
	if err != nil {
		return nil, nil, err
	}
	next := *g
	if next.publicState, err = g.withPending(pending); err != nil {
		return nil, nil, err
	}
	if own != nil {
		own.ref = pending.ref
		next.ownUpdates = append(g.ownUpdates[:len(g.ownUpdates):len(g.ownUpdates)], *own)
	}
	m, err := g.protect(a)
	if err != nil {
		return nil, nil, err
	}
	return m, &next, nil
}

// isLeaving reports whether a SelfRemove of this client is pending: it must not send
// a second one (draft-ietf-mls-extensions, SelfRemove Proposal).
func (g *Group) isLeaving() bool {
	return slices.ContainsFunc(g.pending, func(p *pendingProposal) bool {
		_, ok := p.proposal.(*SelfRemove)
		return ok && p.sender == Sender{SenderMember, uint32(g.self)}
	})
}

// ProposeAdd proposes to add the owner of a key package.
func (g *Group) ProposeAdd(kp *KeyPackage, o *ProposeOptions) (*Message, *Group, error) {
	if kp == nil {
		return nil, nil, errors.New("mls: no key package")
	}
	return g.Propose(&Add{kp}, o)
}

// ProposeRemove proposes to remove a member.
func (g *Group) ProposeRemove(i LeafIndex, o *ProposeOptions) (*Message, *Group, error) {
	return g.Propose(&Remove{i}, o)
}

// ProposeSelfRemove proposes that this client leaves
// (draft-ietf-mls-extensions, SelfRemove Proposal). All members must support it.
func (g *Group) ProposeSelfRemove(o *ProposeOptions) (*Message, *Group, error) {
	if !g.tree.allSupportProposal(ProposalSelfRemove) {
		return nil, nil, invalid(RuleProposalSupport, "self_remove is not supported by all members: propose a Remove")
	}
	return g.Propose(&SelfRemove{}, o)
}

// ProposePSK proposes to mix a pre-shared key into the next epoch. A nil nonce is
// drawn.
func (g *Group) ProposePSK(id PreSharedKeyID, o *ProposeOptions) (*Message, *Group, error) {
	return g.Propose(&PreSharedKey{id}, o)
}

// ProposeReInit proposes to end the group in favour of another.
func (g *Group) ProposeReInit(r *ReInit, o *ProposeOptions) (*Message, *Group, error) {
	if r == nil {
		return nil, nil, errors.New("mls: no ReInit")
	}
	return g.Propose(r, o)
}

// ProposeContextExtensions proposes to replace the extensions of the GroupContext.
// Whether all members support them is for the committer to judge, since the same
// commit may remove those who do not (RFC 9420 §12.1.7): who commits while there is
// such a member leaves the proposal out.
func (g *Group) ProposeContextExtensions(x Extensions, o *ProposeOptions) (*Message, *Group, error) {
	return g.Propose(&GroupContextExtensions{x}, o)
}

// ProposeAppData proposes to change application data of the GroupContext
// (draft-ietf-mls-extensions, AppDataUpdate). All members must support it: one who
// does not cannot even read the proposal.
func (g *Group) ProposeAppData(u *AppDataUpdate, o *ProposeOptions) (*Message, *Group, error) {
	if u == nil {
		return nil, nil, errors.New("mls: no AppDataUpdate")
	}
	if !g.tree.allSupportProposal(ProposalAppDataUpdate) {
		return nil, nil, invalid(RuleProposalSupport, "app_data_update is not supported by all members: remove them first, in a commit of its own")
	}
	return g.Propose(u, o)
}

// ProposeUpdate proposes fresh keys for this client's leaf, and a change of it;
// nil changes the keys alone. The returned group holds the keys.
func (g *Group) ProposeUpdate(change *LeafChange, o *ProposeOptions) (*Message, *Group, error) {
	leaf, me, err := g.changeLeaf(change)
	if err != nil {
		return nil, nil, err
	}
	priv, pub, err := g.s.generateHPKEKeyPair(g.cfg.rand)
	if err != nil {
		return nil, nil, err
	}
	leaf.EncryptionKey, leaf.Source = pub, LeafNodeUpdate
	if err := leaf.sign(g.s, me.Key, g.ctx.GroupID, g.self); err != nil {
		return nil, nil, err
	}
	return g.propose(&Update{leaf}, o, &ownUpdate{key: priv, me: me})
}
