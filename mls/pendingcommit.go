// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
)

// The stored form of a pending commit. Of the next epoch it has what the commit
// sets; all else comes from the group that it is based on, which is stored by
// itself and moves on while messages arrive. An external commit, which is based
// on no group of this client, has the whole group.
const (
	pendingStateVersion  = 1
	pendingBasedOnGroup  = 1
	pendingWholeGroup    = 2
	maxStoredPendingKind = pendingWholeGroup
)

// Marshal returns the commit with the secrets of the next epoch, to be stored
// before the commit is sent: a client that is stopped before it learns whether
// the commit was accepted could not follow its own commit otherwise.
func (p *PendingCommit) Marshal() []byte {
	b := appendU8(nil, pendingStateVersion)
	for _, m := range []*Message{p.message, p.welcome, p.groupInfo} {
		b = appendOptional(b, m != nil, func(b []byte) []byte { return appendOpaque(b, m.Bytes()) })
	}
	next := p.next
	if next == nil && p.stored != nil {
		return append(b, p.stored...)
	}
	if next == nil {
		return b
	}
	if p.base == nil {
		return appendOpaque(appendU8(b, pendingWholeGroup), next.Save())
	}
	b = appendU64(appendU8(b, pendingBasedOnGroup), p.base.Epoch)
	b = appendOpaque(b, p.base.TreeHash)
	b = next.appendEpoch(b)
	b = appendOpaque(b, next.keys.exporter.appendTo(nil))
	b = appendOpaque(b, next.keys.messages.appendTo(nil))
	b = appendU32(b, next.tree.width)
	return appendVector(b, next.tree.changedNodes(p.baseTree), func(b []byte, n TreeNode) []byte {
		return appendOptional(appendU32(b, n.Index), n.Data != nil, func(b []byte) []byte { return appendOpaque(b, n.Data) })
	})
}

// UnmarshalPendingCommit restores an external commit, which needs no group. A
// commit of a member is restored by [Group.UnmarshalPendingCommit], or here and
// then completed by [PendingCommit.Bind]; until then it has its messages alone.
func UnmarshalPendingCommit(cfg *Config, b []byte) (*PendingCommit, error) {
	p := &PendingCommit{}
	r := reader{b: bytes.Clone(b)}
	if v := r.u8(); r.err == nil && v != pendingStateVersion {
		return nil, fmt.Errorf("mls: stored commit has version %d, this is a program for version %d", v, pendingStateVersion)
	}
	for _, m := range []**Message{&p.message, &p.welcome, &p.groupInfo} {
		if !r.optional() {
			continue
		}
		raw := r.opaque()
		if r.err != nil {
			break
		}
		var err error
		if *m, err = ParseMessage(raw); err != nil {
			return nil, fmt.Errorf("mls: stored commit: %w", err)
		}
	}
	p.stored = r.b
	kind := r.u8()
	if r.err == nil && (p.message == nil || kind == 0 || kind > maxStoredPendingKind) {
		r.fail(errors.New("its kind is unknown"))
	}
	if kind == pendingWholeGroup {
		whole := r.opaque()
		if err := r.done(); err != nil {
			return nil, fmt.Errorf("mls: decoding stored commit: %w", err)
		}
		var err error
		p.next, err = Load(cfg, whole)
		return p, err
	}
	if r.err != nil {
		return nil, fmt.Errorf("mls: decoding stored commit: %w", r.err)
	}
	return p, nil
}

// UnmarshalPendingCommit restores a commit of this group, which must be in the
// epoch that the commit ends.
func (g *Group) UnmarshalPendingCommit(b []byte) (*PendingCommit, error) {
	p, err := UnmarshalPendingCommit(nil, b)
	if err != nil {
		return nil, err
	}
	return p, p.Bind(g)
}

// Bind completes a commit that was restored without its group.
func (p *PendingCommit) Bind(g *Group) error {
	if p.next != nil {
		return nil
	}
	r := reader{b: bytes.Clone(p.stored)} // secrets are wiped as they are read
	if kind := r.u8(); kind != pendingBasedOnGroup {
		return errors.New("mls: the stored commit is not based on a group")
	}
	if epoch := r.u64(); r.err == nil && epoch != g.ctx.Epoch {
		return fmt.Errorf("mls: the stored commit ends epoch %d, the group is in epoch %d", epoch, g.ctx.Epoch)
	}
	if hash := r.opaque(); r.err == nil && !bytes.Equal(hash, g.ctx.TreeHash) {
		return errors.New("mls: the stored commit belongs to another group or fork")
	}
	l := &loader{c: g.cfg}
	e, err := l.readEpoch(&r)
	if err != nil {
		return err
	}
	exporter, messages, width := r.opaque(), r.opaque(), r.u32()
	nodes := readVector(&r, func(r *reader) TreeNode {
		n := TreeNode{Index: r.u32()}
		if r.optional() {
			n.Data = r.opaque()
		}
		return n
	})
	if err := r.done(); err != nil {
		return fmt.Errorf("mls: decoding stored commit: %w", err)
	}
	if !bytes.Equal(e.ctx.GroupID, g.ctx.GroupID) || e.ctx.Epoch != g.ctx.Epoch+1 || l.s != g.s {
		return errors.New("mls: the stored commit belongs to another group")
	}
	t, err := g.tree.withNodes(nodes, width)
	if err != nil {
		return err
	}
	if !bytes.Equal(t.treeHash(), e.ctx.TreeHash) {
		return errors.New("mls: stored commit: the stored nodes are not those of the stored tree hash")
	}
	st, err := newPublicState(g.cfg, g.s, &e.ctx, t, e.confirmationTag)
	if err != nil {
		return err
	}
	st.reinit = e.reinit
	next := e.group(st)
	next.stored = g.stored
	if next.keys.exporter, err = decode(exporter, "stored exporter tree", func(r *reader) *exporterTree { return readExporterTree(r, g.s) }); err != nil {
		return err
	}
	if next.keys.messages, err = restoreSecretTree(g.s, messages); err != nil {
		return err
	}
	wipe(messages)
	next.keys.messages.changes.all = true
	g.cfg.limitSecretTree(next.keys.messages)
	next.keepPast(g)
	p.next, p.base, p.baseTree, p.basePrivate = next, g.ctx, g.tree, g.private
	wipe(p.stored)
	p.stored = nil
	return nil
}
