// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file applies the group's own rules (xep/mls.xml#role-rules, groupdata.Check) to
// every commit, received and made: a delivery service that does not is not
// followed.

// mlsConfig is the configuration that all groups share but for the policy.
func (c *Client) mlsConfig() *mls.Config {
	return &mls.Config{
		Time:          c.cfg.Clock,
		Suites:        c.suites(),
		Authenticator: &authenticator{roots: c.cfg.Roots, now: c.cfg.clock},
		// Some member commits what is pending within moments (see maintain.go); until
		// then users may speak.
		SealWithPending: true,
	}
}

// suites are what this client takes part in: its own, those that it is configured
// for, and those of RFC 9420.
func (c *Client) suites() []mls.CipherSuite {
	out := append([]mls.CipherSuite{c.suite}, c.otherSuites()...)
	for s := mls.CipherSuite(1); s <= 7; s++ {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// otherSuites are the suites besides the own one for which there is always a key
// package.
func (c *Client) otherSuites() []mls.CipherSuite {
	want := c.cfg.Suites
	if want == nil {
		want = []mls.CipherSuite{mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519}
	}
	var out []mls.CipherSuite
	for _, s := range want {
		if s != c.suite && s.Known() && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// groupConfig is the configuration for one group.
func (g *Group) groupConfig() *mls.Config {
	cfg := *g.c.mls
	if !g.c.cfg.lawless {
		cfg.Policy = (*groupPolicy)(g)
	}
	return &cfg
}

// groupPolicy is the mls.Policy of one group. It is called while the group's
// lock is held.
type groupPolicy Group

// CheckChange refuses what the group's rules do not allow.
func (p *groupPolicy) CheckChange(ch *mls.Change) error {
	g := (*Group)(p)
	if g.state == nil {
		return nil // an external join: the new state is checked when it is made
	}
	rules, err := g.rulesChange(ch)
	if err != nil {
		return err
	}
	return groupdata.Check(rules)
}

// memberAccount gives the account of a leaf before the change.
func (g *Group) memberAccount(leaf mls.LeafIndex) (string, error) {
	m, ok := g.state.Member(leaf)
	if !ok {
		return "", fmt.Errorf("client: leaf %d is blank", leaf)
	}
	return leafIdentity(m.Leaf), nil
}

func (g *Group) rulesChange(ch *mls.Change) (*groupdata.Change, error) {
	old, err := groupState(ch.OldContext)
	if err != nil {
		return nil, err
	}
	r := &groupdata.Change{Old: old, InTree: func(jid string) bool { return g.accounts[jid] > 0 }}
	switch ch.Kind {
	case mls.ChangeCommit:
		if ch.Committer == nil {
			return nil, errors.New("client: internal error: a commit without a committer")
		}
		r.Committer = leafIdentity(ch.Committer.Leaf)
	case mls.ChangeExternalCommit:
		if ch.Joiner == nil {
			return nil, errors.New("client: internal error: an external commit without a joiner")
		}
		r.External = true
		if r.Committer, err = identityOf(ch.Joiner.Leaf.Credential); err != nil {
			return nil, err
		}
	}
	if ch.NewContext != nil {
		if r.New, err = groupState(ch.NewContext); err != nil {
			return nil, err
		}
	}
	for _, p := range ch.Proposals {
		op, err := g.ruleOp(&p, r.Committer)
		if err != nil {
			return nil, err
		}
		r.Ops = append(r.Ops, op)
	}
	if ch.Kind != mls.ChangeProposal {
		delta := make(map[string]int)
		for _, m := range ch.Removed {
			delta[leafIdentity(m.Leaf)]--
		}
		for _, m := range ch.Added {
			delta[leafIdentity(m.Leaf)]++
		}
		if ch.Joiner != nil {
			delta[r.Committer]++
		}
		r.Devices = func(jid string) int { return g.accounts[jid] + delta[jid] }
	}
	for _, u := range ch.Updated {
		if was, is := u.Old.Leaf.ApplicationID(), u.New.Leaf.ApplicationID(); !bytes.Equal(was, is) {
			return nil, fmt.Errorf("client: leaf %d changes its device id", u.Old.Index)
		}
	}
	return r, nil
}

// ruleOp translates one proposal.
func (g *Group) ruleOp(p *mls.ProposalInfo, committer string) (op groupdata.Op, err error) {
	switch p.Sender.Type {
	case mls.SenderMember:
		if p.Ref == nil && committer != "" {
			op.Actor = committer
		} else if op.Actor, err = g.memberAccount(mls.LeafIndex(p.Sender.Index)); err != nil {
			return op, err
		}
	case mls.SenderNewMemberCommit:
		op.Actor = committer
	case mls.SenderNewMemberProposal:
		add, ok := p.Proposal.(*mls.Add)
		if !ok {
			return op, errors.New("client: a new member may only propose to be added")
		}
		if op.Actor, err = identityOf(add.KeyPackage.LeafNode.Credential); err != nil {
			return op, err
		}
	}
	switch prop := p.Proposal.(type) {
	case *mls.Add:
		op.Kind = groupdata.OpAdd
		op.Target, err = identityOf(prop.KeyPackage.LeafNode.Credential)
	case *mls.Update:
		op.Kind = groupdata.OpUpdate
		op.Target, err = identityOf(prop.LeafNode.Credential)
	case *mls.Remove:
		op.Kind = groupdata.OpRemove
		op.Target, err = g.memberAccount(prop.Removed)
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

// checkState refuses a group whose components do not name it: what a joiner
// must check before it joins.
func checkState(ctx *mls.GroupContext, jid string) (groupdata.State, error) {
	st, err := groupState(ctx)
	if err != nil {
		return st, err
	}
	if st.Group == nil || st.Roles == nil {
		return st, errors.New("client: the group has no group or roles component: it is not one of lockstep's")
	}
	if st.Group.JID != jid {
		return st, fmt.Errorf("client: the group at %s says that it is %s: the delivery service has swapped groups", jid, st.Group.JID)
	}
	return st, nil
}
