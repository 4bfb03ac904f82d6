// SPDX-License-Identifier: Apache-2.0

// The stored form of what everybody may know of a group.

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
)

const publicStateVersion = 1

// State returns all of the group but the nodes of its tree, to be stored with
// [PublicGroup.TreeNodes] or, after a commit, [StagedPublicCommit.ChangedNodes].
func (g *PublicGroup) State() []byte { return g.appendState(appendU8(nil, publicStateVersion)) }

func (st *publicState) appendState(b []byte) []byte {
	b = appendOpaque(b, st.ctxBytes)
	b = appendOpaque(b, st.confirmationTag)
	b = appendOptional(b, st.reinit != nil, func(b []byte) []byte { return st.reinit.appendBody(b) })
	return appendVector(b, st.pending, func(b []byte, p *pendingProposal) []byte { return p.appendTo(b) })
}

// A storedState is what appendState wrote.
type storedState struct {
	ctx             GroupContext
	confirmationTag []byte
	reinit          *ReInit
	pending         []*pendingProposal
}

func readState(r *reader) *storedState {
	v := &storedState{}
	c := r.vector()
	v.ctx = readGroupContext(&c)
	r.end(&c)
	v.confirmationTag = r.opaque()
	if r.optional() {
		v.reinit = readReInit(r)
	}
	v.pending = readVector(r, readPending)
	return v
}

// restore makes a state of what was stored. The tree hash is compared, signatures
// are not verified again.
func (v *storedState) restore(c *config, nodes iter.Seq[TreeNode]) (publicState, error) {
	s, err := v.ctx.CipherSuite.suite()
	if err != nil {
		return publicState{}, err
	}
	t, err := treeFromNodes(s, c.limits.MaxMembers, nodes)
	if err != nil {
		return publicState{}, err
	}
	if !bytes.Equal(t.treeHash(), v.ctx.TreeHash) {
		return publicState{}, errors.New("mls: stored group: the stored nodes are not those of the stored tree hash")
	}
	st, err := newPublicState(c, s, &v.ctx, t, v.confirmationTag)
	st.reinit, st.pending = v.reinit, v.pending
	return st, err
}

// LoadPublicGroup restores a group from State and the nodes of its tree in the
// order of their index. The storage is trusted: hashes are computed again,
// signatures not verified.
func LoadPublicGroup(cfg *Config, state []byte, nodes iter.Seq[TreeNode]) (*PublicGroup, error) {
	r := reader{b: bytes.Clone(state)}
	if v := r.u8(); r.err == nil && v != publicStateVersion {
		return nil, fmt.Errorf("mls: stored group has version %d, this is a program for version %d", v, publicStateVersion)
	}
	v := readState(&r)
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("mls: decoding stored group: %w", err)
	}
	st, err := v.restore(cfg.resolve(), nodes)
	if err != nil {
		return nil, err
	}
	return &PublicGroup{st}, nil
}
