// SPDX-License-Identifier: Apache-2.0

// Groups that come from groups: reinitialization and branching (RFC 9420 §11.2,
// §11.3).

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// DeriveOptions are choices for a group that comes from another; nil means the
// defaults.
type DeriveOptions struct {
	// Identity is who this client is in the new group; nil means the same as in the
	// old, which cannot be when the signature scheme changes.
	Identity *Identity
	// Config of the new group; nil means that of the old.
	Config *Config
	// Extensions of a branch's GroupContext. A successor's are those of the ReInit.
	Extensions Extensions
	// DeviceID and LeafExtensions of this client's leaf node; when both are nil, the
	// extensions of its old leaf are kept.
	DeviceID       []byte
	LeafExtensions Extensions
	// ForcePath, InlineTree, GroupInfo and GroupInfoExternalPub are those of
	// [CommitOptions].
	ForcePath, InlineTree, GroupInfo, GroupInfoExternalPub bool
}

// ErrNotReInitialized says that a group has no successor because no commit ended
// it.
var ErrNotReInitialized = errors.New("mls: the group was not reinitialized")

// Successor creates the group that follows this one after a commit with a ReInit
// (RFC 9420 §11.2). members are new key packages of all other members. Any one
// member does this. The commit itself is of no use to anybody: send the
// Welcome; Merge gives the new group in its epoch 1.
func (g *Group) Successor(members []*KeyPackage, o *DeriveOptions) (*PendingCommit, error) {
	if g.reinit == nil {
		return nil, ErrNotReInitialized
	}
	if g.reinit.Version != MLS10 {
		return nil, invalid(RuleGroupVersion, "the ReInit asks for version %d", g.reinit.Version)
	}
	x := g.reinit.Extensions
	if err := g.coveredBy(members); err != nil {
		return nil, err
	}
	return g.derive(g.reinit.CipherSuite, g.reinit.GroupID, x, ResumptionReInit, members, o)
}

// Branch creates a group of some of the members, under a new id
// (RFC 9420 §11.3). members are new key packages of theirs. The commit itself is
// of no use to anybody: send the Welcome; Merge gives the new group in its epoch 1.
func (g *Group) Branch(id GroupID, members []*KeyPackage, o *DeriveOptions) (*PendingCommit, error) {
	if bytes.Equal(id, g.ctx.GroupID) {
		return nil, errors.New("mls: a branch must have an id of its own")
	}
	leaves, err := leavesOf(members)
	if err != nil {
		return nil, err
	}
	if i, ok := g.strangerAmong(leaves); ok {
		return nil, invalid(RuleWelcomeBranch, "key package %d belongs to no member of the group", i)
	}
	var x Extensions
	if o != nil {
		x = o.Extensions
	}
	return g.derive(g.s.cipher, id, x, ResumptionBranch, members, o)
}

// StartSuccessor creates the group that follows this one after a commit with a
// ReInit, in its epoch 0, where this client is alone: for a delivery service that
// wants to have a group before its first commit. [Group.CommitSuccession] then
// adds the others; Successor is both in one. Of the options only Identity,
// Config, DeviceID and LeafExtensions count.
func (g *Group) StartSuccessor(o *DeriveOptions) (*Group, error) {
	if g.reinit == nil {
		return nil, ErrNotReInitialized
	}
	if g.reinit.Version != MLS10 {
		return nil, invalid(RuleGroupVersion, "the ReInit asks for version %d", g.reinit.Version)
	}
	return g.start(g.reinit.CipherSuite, g.reinit.GroupID, g.reinit.Extensions, o)
}

// CommitSuccession is the first commit of a group that StartSuccessor of old has
// made. It adds the owners of o.Add, who must be all other members of old, and
// mixes in the resumption PSK of old, by which they recognise their group
// (RFC 9420 §11.2). Other options are those of [Group.Commit].
func (g *Group) CommitSuccession(old *Group, o *CommitOptions) (*PendingCommit, error) {
	switch {
	case old.reinit == nil:
		return nil, ErrNotReInitialized
	case g.ctx.Epoch != 0 || !bytes.Equal(g.ctx.GroupID, old.reinit.GroupID):
		return nil, errors.New("mls: the group is not the beginning of the old one's successor")
	}
	if err := old.coveredBy(o.Add); err != nil {
		return nil, err
	}
	return g.commitFrom(old, ResumptionReInit, o)
}

func (g *Group) derive(cs CipherSuite, id GroupID, x Extensions, usage ResumptionUsage, members []*KeyPackage, o *DeriveOptions) (*PendingCommit, error) {
	if o == nil {
		o = &DeriveOptions{}
	}
	first, err := g.start(cs, id, x, o)
	if err != nil {
		return nil, err
	}
	return first.commitFrom(g, usage, &CommitOptions{
		Add: members, ForcePath: o.ForcePath, InlineTree: o.InlineTree, GroupInfo: o.GroupInfo, GroupInfoExternalPub: o.GroupInfoExternalPub,
	})
}

// start creates a group that comes from this one, with this client alone.
func (g *Group) start(cs CipherSuite, id GroupID, x Extensions, o *DeriveOptions) (*Group, error) {
	if o == nil {
		o = &DeriveOptions{}
	}
	me := g.me
	if o.Identity != nil {
		me = o.Identity
	}
	c := g.cfg
	if o.Config != nil {
		c = o.Config.resolve()
	}
	s, err := c.suite(cs)
	if err != nil {
		return nil, err
	}
	leafExtensions := o.LeafExtensions
	if o.DeviceID == nil && leafExtensions == nil {
		if leafExtensions, err = g.Self().Leaf.Extensions.withoutComponents(); err != nil {
			return nil, err
		}
	}
	first, err := c.newGroup(s, id, me, &GroupOptions{Extensions: x, DeviceID: o.DeviceID, LeafExtensions: leafExtensions})
	if err != nil {
		return nil, fmt.Errorf("mls: new group: %w", err)
	}
	return first, nil
}

// commitFrom is the first commit of a group that comes from old.
func (g *Group) commitFrom(old *Group, usage ResumptionUsage, o *CommitOptions) (*PendingCommit, error) {
	use := pskUseBranch
	if usage == ResumptionReInit {
		use = pskUseReInit
	}
	parent := PSKFunc(func(id *PreSharedKeyID) ([]byte, error) {
		if id.Type == PSKResumption && bytes.Equal(id.GroupID, old.ctx.GroupID) {
			if psk := old.findResumption(id.Epoch); psk != nil {
				return psk, nil
			}
		}
		return nil, ErrMissingPSK
	})
	with := *o
	with.PSKs = append(slices.Clip(o.PSKs), PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: old.ctx.GroupID, Epoch: old.ctx.Epoch})
	return g.commit(&with, use, parent)
}

// findResumption returns the resumption PSK of an epoch, nil when it is not kept.
func (g *Group) findResumption(epoch uint64) []byte {
	if epoch == g.ctx.Epoch {
		return g.keys.secrets.resumptionPSK
	}
	for i := range g.resumption {
		if g.resumption[i].epoch == epoch {
			return g.resumption[i].psk
		}
	}
	return nil
}

// strangerAmong returns a leaf of another group to which no member of this group
// presents the same identifiers, according to the application.
func (g *Group) strangerAmong(leaves []*LeafNode) (int, bool) {
	same := make(map[string]bool, g.MemberCount())
	for m := range g.Members() {
		same[string(m.Leaf.Credential.appendTo(nil))] = true
	}
	for i, leaf := range leaves {
		known := same[string(leaf.Credential.appendTo(nil))]
		for m := range g.Members() {
			if known {
				break
			}
			known = g.cfg.auth.ValidateSuccessor(m.Leaf, leaf) == nil
		}
		if !known {
			return i, true
		}
	}
	return 0, false
}

func leavesOf(members []*KeyPackage) ([]*LeafNode, error) {
	leaves := make([]*LeafNode, len(members))
	for i, kp := range members {
		if kp == nil {
			return nil, fmt.Errorf("mls: key package %d is nil", i)
		}
		leaves[i] = kp.LeafNode
	}
	return leaves, nil
}

// coveredBy checks that every member but this client has a key package.
func (g *Group) coveredBy(members []*KeyPackage) error {
	leaves, err := leavesOf(members)
	if err != nil {
		return err
	}
	if i, ok := g.missingFrom(leaves, g.self); !ok {
		return invalid(RuleWelcomeReInit, "member %d has no key package for the new group", i)
	}
	return nil
}

// missingFrom returns a member that none of the leaves belongs to, but for one
// that is excepted.
func (g *Group) missingFrom(leaves []*LeafNode, except LeafIndex) (missing LeafIndex, ok bool) {
	same := make(map[string]bool, len(leaves))
	for _, l := range leaves {
		same[string(l.Credential.appendTo(nil))] = true
	}
	ok = true
	g.tree.eachLeaf(func(i LeafIndex, old *LeafNode) bool {
		if i == except || same[string(old.Credential.appendTo(nil))] {
			return true
		}
		for _, l := range leaves {
			if g.cfg.auth.ValidateSuccessor(old, l) == nil {
				return true
			}
		}
		missing, ok = i, false
		return false
	})
	return missing, ok
}

// noMember is no leaf of any tree.
const noMember = LeafIndex(1<<32 - 1)

// checkParent checks a new group against the one that it claims to come from
// (RFC 9420 §11.2, §11.3, §12.4.3.1).
func (j *joining) checkParent(st *publicState) error {
	parent := j.o.Parent
	if j.resumed == nil {
		if parent != nil {
			return invalid(RuleWelcomeReInitPSK, "the Welcome has no resumption PSK with usage reinit or branch")
		}
		return nil
	}
	if st.ctx.Epoch != 1 {
		return invalid(RuleWelcomeEpoch, "a group that comes from another is joined in epoch %d, want 1", st.ctx.Epoch)
	}
	rule := RuleWelcomeBranch
	if j.resumed.Usage == ResumptionReInit {
		rule = RuleWelcomeReInit
	}
	if parent == nil || !bytes.Equal(parent.ctx.GroupID, j.resumed.GroupID) {
		return invalid(rule, "the group comes from group %x: it must be given as JoinOptions.Parent", []byte(j.resumed.GroupID))
	}
	var leaves []*LeafNode
	st.tree.eachLeaf(func(_ LeafIndex, l *LeafNode) bool {
		leaves = append(leaves, l)
		return true
	})
	if rule == RuleWelcomeBranch {
		if st.ctx.Version != parent.ctx.Version || st.s != parent.s {
			return invalid(rule, "the branch has version %d and cipher suite %v, its parent %v", st.ctx.Version, st.s.cipher, parent.s.cipher)
		}
		if i, ok := parent.strangerAmong(leaves); ok {
			return invalid(rule, "member %d of the branch is no member of its parent", i)
		}
		return nil
	}
	want := parent.reinit
	switch {
	case want == nil:
		return invalid(rule, "the last commit of the old group has no ReInit")
	case j.resumed.Epoch != parent.ctx.Epoch:
		return invalid(rule, "the PSK is of epoch %d, the old group ended in epoch %d", j.resumed.Epoch, parent.ctx.Epoch)
	case !bytes.Equal(st.ctx.GroupID, want.GroupID), st.ctx.Version != want.Version, st.s.cipher != want.CipherSuite,
		!st.ctx.Extensions.Equal(want.Extensions):
		return invalid(rule, "the new group does not match the ReInit")
	}
	if i, ok := parent.missingFrom(leaves, noMember); !ok {
		return invalid(rule, "member %d of the old group is not in the new one", i)
	}
	return nil
}
