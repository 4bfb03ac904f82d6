// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file translates between an MLS group, as an outsider sees it, and what
// the rest of the service works with: accounts, devices, rules and rows.

// agreed reads what the group agrees on from its context.
func agreed(c *mls.GroupContext) (groupdata.State, error) {
	var st groupdata.State
	data, err := c.Extensions.AppData()
	if err != nil {
		return st, err
	}
	b, ok := data.Find(groupdata.ComponentGroup)
	if !ok {
		return st, errors.New("component: the group context has no group component")
	}
	if st.Group, err = groupdata.DecodeGroup(b); err != nil {
		return st, err
	}
	if b, ok = data.Find(groupdata.ComponentRoles); !ok {
		return st, errors.New("component: the group context has no roles component")
	}
	st.Roles, err = groupdata.DecodeRoles(b)
	return st, err
}

// agreedLoose is agreed for a context that may lack components: what is missing
// or malformed is nil, which the rules refuse.
func agreedLoose(c *mls.GroupContext) (st groupdata.State) {
	data, err := c.Extensions.AppData()
	if err != nil {
		return st
	}
	if b, ok := data.Find(groupdata.ComponentGroup); ok {
		st.Group, _ = groupdata.DecodeGroup(b)
	}
	if b, ok := data.Find(groupdata.ComponentRoles); ok {
		st.Roles, _ = groupdata.DecodeRoles(b)
	}
	return st
}

// agreedNext is agreedLoose for the group's next context: the very same state if
// the commit leaves it alone, which is told by its bytes.
func (st *groupState) agreedNext(c *mls.GroupContext) groupdata.State {
	before, err := st.pub.Context().Extensions.AppData()
	if err != nil {
		return agreedLoose(c)
	}
	after, err := c.Extensions.AppData()
	if err != nil {
		return groupdata.State{}
	}
	for _, id := range []mls.ComponentID{groupdata.ComponentGroup, groupdata.ComponentRoles} {
		old, ok := before.Find(id)
		if now, there := after.Find(id); !ok || !there || !bytes.Equal(old, now) {
			return agreedLoose(c)
		}
	}
	return st.data
}

// loadPublic rebuilds a group from the store: the tree and header of the epoch,
// and the proposals that wait in it.
func (s *Service) loadPublic(header []byte, nodes []store.Node) (*mls.PublicGroup, error) {
	g, err := mls.LoadPublicGroup(s.mlsConf, header, treeNodes(nodes))
	if err != nil {
		return nil, fmt.Errorf("component: loading a group's public state: %w", err)
	}
	return g, nil
}

func treeNodes(nodes []store.Node) iter.Seq[mls.TreeNode] {
	return func(yield func(mls.TreeNode) bool) {
		for _, n := range nodes {
			if !yield(mls.TreeNode{Index: n.Index, Data: n.Data}) {
				return
			}
		}
	}
}

func storeNodes(nodes iter.Seq[mls.TreeNode]) []store.Node {
	var out []store.Node
	for n := range nodes {
		if n.Data != nil {
			out = append(out, store.Node{Index: n.Index, Data: n.Data})
		}
	}
	return out
}

func changedNodes(nodes []mls.TreeNode) []store.Node {
	out := make([]store.Node, len(nodes))
	for i, n := range nodes {
		out[i] = store.Node{Index: n.Index, Data: n.Data}
	}
	return out
}

// invalid is the refusal of an MLS object that members would refuse too.
func invalid(part string, err error) error {
	e := &stanza.InvalidMessage{Part: part}
	var ve *mls.ValidationError
	if errors.As(err, &ve) {
		e.Rule = string(ve.Rule)
	}
	e.Reason = bound(err.Error(), 512)
	return e
}

// bound cuts a text that may hold something of a stranger's.
func bound(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// A pendingProposal is a proposal of the current epoch.
type pendingProposal struct {
	entry  store.Entry
	ref    mls.ProposalRef
	info   mls.ProposalInfo
	target mls.LeafIndex // of a removal
	remove bool          // it removes target: Remove or SelfRemove
}

func newPending(e store.Entry, ref mls.ProposalRef, info mls.ProposalInfo) pendingProposal {
	p := pendingProposal{entry: e, ref: ref, info: info}
	switch prop := info.Proposal.(type) {
	case *mls.Remove:
		p.target, p.remove = prop.Removed, true
	case *mls.SelfRemove:
		p.target, p.remove = mls.LeafIndex(info.Sender.Index), true
	}
	return p
}

// own reports whether the removal was asked for by the leaf that it removes.
func (p *pendingProposal) own() bool {
	return p.remove && p.info.Sender.Type == mls.SenderMember && mls.LeafIndex(p.info.Sender.Index) == p.target
}

// past is how a refusal tells of the proposal.
func (p *pendingProposal) past() stanza.PastEntry { return pastEntry(&p.entry) }

func pastEntry(e *store.Entry) stanza.PastEntry {
	return stanza.PastEntry{Epoch: e.Epoch, Seq: e.Seq, Ref: stanza.Ref(e.Ref), Chain: stanza.Hash(e.Chain), Stamp: e.Stamp, Bytes: e.Bytes}
}

// userAt gives the account of a leaf.
func userAt(g *mls.PublicGroup, leaf mls.LeafIndex) (string, error) {
	m, ok := g.Member(leaf)
	if !ok {
		return "", fmt.Errorf("component: leaf %d is blank", leaf)
	}
	user, _, err := leafIdentity(m.Leaf)
	return user, err
}

// opOf translates one proposal for the rules. joiner is the account of an
// external committer, for the proposals that it brings along.
func opOf(g *mls.PublicGroup, p mls.ProposalInfo, joiner string) (groupdata.Op, error) {
	var op groupdata.Op
	var err error
	switch p.Sender.Type {
	case mls.SenderMember:
		op.Actor, err = userAt(g, mls.LeafIndex(p.Sender.Index))
	case mls.SenderNewMemberCommit:
		op.Actor = joiner
	case mls.SenderNewMemberProposal:
		add, ok := p.Proposal.(*mls.Add)
		if !ok {
			return op, errors.New("component: a new member may only propose to be added")
		}
		op.Actor, err = credentialUser(&add.KeyPackage.LeafNode.Credential)
	}
	if err != nil {
		return op, err
	}
	switch prop := p.Proposal.(type) {
	case *mls.Add:
		op.Kind = groupdata.OpAdd
		op.Target, _, err = leafIdentity(prop.KeyPackage.LeafNode)
	case *mls.Update:
		op.Kind = groupdata.OpUpdate
		op.Target, _, err = leafIdentity(prop.LeafNode)
	case *mls.Remove:
		op.Kind = groupdata.OpRemove
		op.Target, err = userAt(g, prop.Removed)
	case *mls.SelfRemove:
		op.Kind, op.Target = groupdata.OpSelfRemove, op.Actor
	case *mls.PreSharedKey:
		op.Kind = groupdata.OpPSK
	case *mls.ExternalInit:
		op.Kind = groupdata.OpExternal
	case *mls.AppDataUpdate:
		op.Kind = groupdata.OpAppData
	case *mls.GroupContextExtensions:
		op.Kind = groupdata.OpContext
	case *mls.ReInit:
		op.Kind = groupdata.OpReInit
	default:
		op.Kind = groupdata.OpOther
	}
	return op, err
}

// A commitEffect is what a commit does, in the service's terms.
type commitEffect struct {
	rules  *groupdata.Change
	joined []store.Joiner
	left   []store.Leaver
	// added are the key packages that the commit adds, with who owns them.
	added  []addedPackage
	reinit bool
}

type addedPackage struct {
	ref          []byte
	user, device string
}

// effectOf works out what a staged commit does to st.
func (st *groupState) effectOf(c *mls.Change) (*commitEffect, error) {
	e := &commitEffect{reinit: c.ReInit != nil}
	ch := &groupdata.Change{Old: st.data, New: st.agreedNext(c.NewContext), InTree: st.inTree}
	var err error
	if c.Kind == mls.ChangeExternalCommit {
		if c.Joiner == nil {
			return nil, errors.New("component: internal error: an external commit without a joiner")
		}
		ch.External = true
		ch.Committer, _, err = leafIdentity(c.Joiner.Leaf)
	} else {
		if c.Committer == nil {
			return nil, errors.New("component: internal error: a commit without a committer")
		}
		ch.Committer, err = userAt(st.pub, c.Committer.Index)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range c.Proposals {
		op, err := opOf(st.pub, p, ch.Committer)
		if err != nil {
			return nil, err
		}
		if p.Sender.Type == mls.SenderMember && p.Ref == nil {
			op.Actor = ch.Committer
		}
		ch.Ops = append(ch.Ops, op)
		if add, ok := p.Proposal.(*mls.Add); ok {
			ref, err := add.KeyPackage.Ref()
			if err != nil {
				return nil, err
			}
			user, device, err := leafIdentity(add.KeyPackage.LeafNode)
			if err != nil {
				return nil, err
			}
			e.added = append(e.added, addedPackage{ref, user, device})
		}
	}
	// What the tree gains and loses.
	delta := make(map[string]int)
	gone := make(map[string]bool)
	for _, m := range c.Removed {
		user, device, err := leafIdentity(m.Leaf)
		if err != nil {
			return nil, err
		}
		e.left = append(e.left, store.Leaver{User: user, Device: device})
		gone[user+"/"+device] = true
		delta[user]--
	}
	joiners := c.Added
	if c.Joiner != nil && !containsLeaf(joiners, c.Joiner.Index) {
		joiners = append(joiners[:len(joiners):len(joiners)], *c.Joiner)
	}
	seen := make(map[string]bool)
	for _, m := range joiners {
		user, device, err := leafIdentity(m.Leaf)
		if err != nil {
			return nil, err
		}
		id := user + "/" + device
		if seen[id] || st.hasDevice(user, device) && !gone[id] {
			return nil, fmt.Errorf("component: device %s of %q is in the group already", device, user)
		}
		seen[id] = true
		e.joined = append(e.joined, store.Joiner{User: user, Device: device, Leaf: uint32(m.Index)})
		delta[user]++
	}
	// A leaf may change its keys, not whose it is. The rules compare accounts;
	// the device must stay, too.
	for _, u := range c.Updated {
		oldUser, oldDevice, err := leafIdentity(u.Old.Leaf)
		if err != nil {
			return nil, err
		}
		newUser, newDevice, err := leafIdentity(u.New.Leaf)
		if err != nil {
			return nil, err
		}
		if oldUser != newUser || oldDevice != newDevice {
			return nil, fmt.Errorf("component: leaf %d of device %s of %q cannot become device %s of %q", u.Old.Index, oldDevice, oldUser, newDevice, newUser)
		}
	}
	ch.Devices = func(jid string) int { return len(st.members[jid]) + delta[jid] }
	e.rules = ch
	return e, nil
}

func containsLeaf(list []mls.Member, leaf mls.LeafIndex) bool {
	for _, m := range list {
		if m.Index == leaf {
			return true
		}
	}
	return false
}

// roleRows gives the affiliations that differ between two states.
func roleRows(before, after *groupdata.Roles) []store.Affiliation {
	var out []store.Affiliation
	if after == nil || after == before {
		return nil
	}
	for jid, role := range after.Entries {
		if before == nil || before.Entries[jid] != role {
			out = append(out, store.Affiliation{User: jid, Value: role.String()})
		}
	}
	if before != nil {
		for jid := range before.Entries {
			if _, ok := after.Entries[jid]; !ok {
				out = append(out, store.Affiliation{User: jid})
			}
		}
	}
	return out
}
