// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"time"
)

// A pastEpoch is what is kept of an epoch to read messages that come late
// (RFC 9420 §15.3): the ratchets, and what the signatures are checked with.
type pastEpoch struct {
	redacted
	epoch    uint64
	ended    int64 // Unix seconds
	context  []byte
	sender   []byte // sender_data_secret
	messages *secretTree
	self     LeafIndex
	// former are the leaves that were different in the next epoch, nil for a blank
	// one: with it the tree of the epoch need not be kept.
	former map[LeafIndex]*LeafNode
}

// keepPast takes the past epochs of the group over from the one before, the
// current epoch of which becomes a past one, within the limits.
func (g *Group) keepPast(old *Group) {
	limits := &g.cfg.limits
	if limits.ResumptionPSKs > 0 {
		list := append([]resumptionPSK{{old.ctx.Epoch, bytes.Clone(old.keys.secrets.resumptionPSK)}}, old.resumption...)
		g.resumption = list[:min(len(list), limits.ResumptionPSKs)]
	}
	now := g.cfg.now()
	if limits.PastEpochs > 0 {
		g.past = append(g.past, &pastEpoch{
			epoch: old.ctx.Epoch, ended: now.Unix(), context: old.ctxBytes, self: old.self,
			sender: bytes.Clone(old.keys.secrets.senderDataSecret), messages: old.keys.messages,
			former: changedLeaves(old.tree, g.tree),
		})
	}
	for _, p := range old.past {
		if len(g.past) < limits.PastEpochs && !p.expired(now, limits.PastEpochAge) {
			g.past = append(g.past, p)
		}
	}
}

// expired reports whether an epoch ended too long ago.
func (p *pastEpoch) expired(now time.Time, age time.Duration) bool {
	return age > 0 && now.Unix()-p.ended > int64(age.Seconds())
}

// pastLeaf returns the leaf that a member had in past epoch number k (0: the last).
func (g *Group) pastLeaf(k int, i LeafIndex) *LeafNode {
	for ; k >= 0; k-- {
		if leaf, ok := g.past[k].former[i]; ok {
			return leaf
		}
	}
	return g.tree.leaf(i)
}

// changedLeaves returns the leaves of old that differ in next.
func changedLeaves(old, next *ratchetTree) map[LeafIndex]*LeafNode {
	m := make(map[LeafIndex]*LeafNode)
	a, b, wa, wb := old.root, next.root, old.width, next.width
	for wa < wb {
		a, wa = joinSubtrees(a, blankSubtree(levelOf(wa), 0), nil, levelOf(wa)+1, 0), wa*2
	}
	for wb < wa {
		b, wb = joinSubtrees(b, blankSubtree(levelOf(wb), 0), nil, levelOf(wb)+1, 0), wb*2
	}
	diffLeaves(a, b, levelOf(wa), 0, m)
	return m
}

func diffLeaves(a, b *treeNode, level uint, first LeafIndex, m map[LeafIndex]*LeafNode) {
	switch {
	case a == b || a.leaves == 0 && b.leaves == 0:
	case level == 0:
		if a.leaf != b.leaf {
			m[first] = a.leaf
		}
	default:
		al, ar := a.children(level)
		bl, br := b.children(level)
		diffLeaves(al, bl, level-1, first, m)
		diffLeaves(ar, br, level-1, first+1<<(level-1), m)
	}
}

// openPast opens a late application message.
func (g *Group) openPast(m *PrivateMessage) (Received, error) {
	now := g.cfg.now()
	for k, p := range g.past {
		if p.epoch != m.Epoch || p.expired(now, g.cfg.limits.PastEpochAge) {
			continue
		}
		keys := sealer{g.s, g.cfg, p.messages, p.sender}
		d, err := keys.openSenderData(m)
		if err != nil {
			return nil, err
		}
		if d.leaf == p.self {
			return &OwnMessage{ContentType: m.ContentType, Epoch: m.Epoch, Generation: d.generation}, nil
		}
		leaf := g.pastLeaf(k, d.leaf)
		if leaf == nil {
			return nil, invalid(RuleSenderDataLeaf, "sender %d was no member in epoch %d", d.leaf, m.Epoch)
		}
		a, key, err := keys.open(m, d)
		if err != nil {
			return nil, err
		}
		if err := g.s.verifyContent(a, leaf.SignatureKey, p.context); err != nil {
			key.wipe()
			return nil, broken(RulePrivateSignature, err, "late message of member %d", d.leaf)
		}
		generation := key.generation()
		if err := p.messages.consume(key); err != nil {
			return nil, err
		}
		return &ApplicationMessage{Sender: Member{d.leaf, leaf}, Epoch: m.Epoch, Generation: generation, Data: a.content.Application, AAD: m.AuthenticatedData}, nil
	}
	return nil, fmt.Errorf("mls: application message of epoch %d in epoch %d: %w", m.Epoch, g.ctx.Epoch, ErrEpochPast)
}
