// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file takes proposals, of members and of the service itself
// (xep/mls-delivery.xml#proposals, RFC 9420 §12.1).

func (g *group) proposal(r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Proposal](r.payload)
	if err != nil {
		return nil, err
	}
	e, epoch, err := g.propose(r, &in)
	if err != nil {
		return nil, err
	}
	return accepted(e, epoch), nil
}

// propose checks a member's proposal and puts it into the log.
func (g *group) propose(r *request, in *stanza.Proposal) (*store.Entry, uint64, error) {
	if err := checkSubmission(in.Bytes, in.Ref, g.s.limits.MaxPage); err != nil {
		return nil, 0, err
	}
	m, err := mls.ParseMessage(in.Bytes)
	if err != nil {
		g.s.metrics.invalid.WithLabelValues("proposal").Inc()
		return nil, 0, invalid("message", err)
	}
	if m.ContentType() != mls.ContentProposal {
		return nil, 0, &stanza.InvalidMessage{Part: "message", Reason: "the message is no proposal"}
	}
	var unsure error // how the store lost an answer
	for range commitRetries {
		st, err := g.load(r.ctx)
		if err != nil {
			return nil, 0, unsureOutcome(err, unsure)
		}
		known := st.isPending(store.Ref(in.Ref))
		e, err := g.tryPropose(r, st, in, m)
		if g.conflict(err) {
			continue
		}
		if errors.Is(err, store.ErrUnknownOutcome) {
			g.st, unsure = nil, err
			continue
		}
		if err != nil {
			return nil, 0, unsureOutcome(err, unsure)
		}
		if unsure != nil && known { // it was written, and nobody has been told
			g.fanout(r.ctx, st, e, r.from.full, nil)
		}
		return e, st.row.Epoch, nil
	}
	return nil, 0, unsureOutcome(&stanza.RetryAfter{After: time.Second}, unsure)
}

func (st *groupState) isPending(ref store.Ref) bool {
	return slices.ContainsFunc(st.pending, func(p pendingProposal) bool { return p.entry.Ref == ref })
}

func (g *group) tryPropose(r *request, st *groupState, in *stanza.Proposal, m *mls.Message) (*store.Entry, error) {
	if err := st.mustBeMember(r.from.bare); err != nil {
		return nil, err
	}
	ref := store.Ref(in.Ref)
	if st.conf.reinit() {
		if e, ok := g.known(r, st, ref); ok {
			return e, nil
		}
		return nil, stanza.NewError(stanza.NotAllowed, "The group has been reinitialised: it goes on as a new one, under the same JID.")
	}
	for i := range st.pending {
		if st.pending[i].entry.Ref == ref {
			return &st.pending[i].entry, nil
		}
	}
	switch {
	case in.Epoch < st.row.Epoch:
		if e, ok := g.known(r, st, ref); ok {
			return e, nil
		}
		stale, _, err := g.s.staleEpoch(r.ctx, st, in.Epoch, store.Ref{})
		if err != nil {
			return nil, err
		}
		return nil, stale
	case in.Epoch > st.row.Epoch:
		return nil, &stanza.FutureEpoch{Submitted: in.Epoch, Current: st.row.Epoch, Head: st.row.Head}
	}
	if err := st.checkHeader(m, in.Epoch); err != nil {
		return nil, err
	}
	if len(st.pending) >= g.s.limits.MaxPending {
		return nil, mustCommitError(pointers(st.pending))
	}
	var staged *mls.StagedPublicProposal
	if st.private() {
		if m.Private == nil && (m.Public == nil || m.Public.Content.Proposal.ProposalType() != mls.ProposalSelfRemove) {
			return nil, &stanza.InvalidMessage{Part: "message", Reason: "this group's handshakes are PrivateMessages"}
		}
	} else {
		var err error
		if staged, err = g.checkProposal(st, m, r.from.bare); err != nil {
			var im *stanza.InvalidMessage
			if errors.As(err, &im) {
				g.s.metrics.invalid.WithLabelValues("proposal").Inc()
			}
			return nil, err
		}
	}
	return g.addProposal(r.ctx, st, staged, ref, in.Bytes, r.from.bare, r.from.full)
}

func pointers(list []pendingProposal) []*pendingProposal {
	out := make([]*pendingProposal, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// checkProposal verifies a member's proposal and applies the rules to it.
func (g *group) checkProposal(st *groupState, m *mls.Message, from string) (*mls.StagedPublicProposal, error) {
	sender, ok := m.Sender()
	if !ok {
		return nil, &stanza.InvalidMessage{Part: "message", Reason: "this group's handshakes are PublicMessages"}
	}
	if err := st.checkSender(from, sender); err != nil {
		return nil, err
	}
	got, err := st.pub.Process(m)
	if err != nil {
		return nil, invalid("message", err)
	}
	staged, ok := got.(*mls.StagedPublicProposal)
	if !ok {
		return nil, &stanza.InvalidMessage{Part: "message", Reason: "the message is no proposal"}
	}
	op, err := opOf(st.pub, staged.Info(), "")
	if err != nil {
		return nil, invalid("message", err)
	}
	if add, ok := staged.Info().Proposal.(*mls.Add); ok {
		// No commit could take it along.
		if user, device, err := leafIdentity(add.KeyPackage.LeafNode); err != nil {
			return nil, invalid("message", err)
		} else if st.hasDevice(user, device) && !slices.Contains(st.leavers(), store.Leaver{User: user, Device: device}) {
			return nil, &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("device %s of %s is in the group already", device, user)}
		}
		if st.role(op.Target) == groupdata.Outcast {
			return nil, &groupdata.RuleError{Rule: "role-add", Reason: op.Target + " is banned from the group"}
		}
		if st.leaves >= g.s.limits.MaxMembers {
			return nil, tooManyMembers(g.s.limits.MaxMembers)
		}
	}
	return staged, groupdata.Check(&groupdata.Change{Ops: []groupdata.Op{op}, Old: st.data, InTree: st.inTree})
}

// addProposal puts a checked proposal into the log, and tells everybody. skip is
// the full JID that needs no copy.
func (g *group) addProposal(ctx context.Context, st *groupState, staged *mls.StagedPublicProposal, ref store.Ref, b []byte, sender, skip string) (*store.Entry, error) {
	ne := &store.NewEntry{
		Group: st.row.Key, Rev: st.row.Rev, Kind: store.KindProposal, Epoch: st.row.Epoch,
		Ref: ref, ID: g.s.entryID(), Sender: sender, Stamp: g.s.stamp(), Bytes: b,
	}
	acc, err := g.s.store.Append(ctx, ne)
	if err != nil {
		return nil, err
	}
	e := &store.Entry{Seq: acc.Seq, Epoch: ne.Epoch, Kind: ne.Kind, Ref: ref, ID: acc.ID, Sender: sender, Stamp: acc.Stamp, Chain: acc.Chain, Bytes: b}
	if acc.Duplicate {
		return e, nil
	}
	if acc.Rev != st.row.Rev+1 {
		g.st = nil // the answer came late: others have changed the group since
		g.fanout(ctx, st, e, skip, nil)
		return e, nil
	}
	st.row.Head, st.row.Chain, st.row.Rev = acc.Seq, acc.Chain, acc.Rev
	st.row.Pending++
	p := pendingProposal{entry: *e}
	if staged != nil {
		p = newPending(*e, staged.Ref(), staged.Info())
		st.pub = staged.Merge()
	}
	st.pending = append(st.pending, p)
	g.s.metrics.accepted.WithLabelValues("proposal").Inc()
	g.fanout(ctx, st, e, skip, nil)
	return e, nil
}

// leave takes an account or one of its devices out (xep/mls-delivery.xml#leave): it submits
// the proposals that came along, and asks for the removal of the rest itself.
func (g *group) leave(r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Leave](r.payload)
	if err != nil {
		return nil, err
	}
	st, err := g.load(r.ctx)
	if err != nil {
		return nil, err
	}
	if err := st.mustBeMember(r.from.bare); err != nil {
		return nil, err
	}
	var last *store.Entry
	for i := range in.Proposals {
		e, _, err := g.propose(r, &in.Proposals[i])
		if err != nil {
			return nil, err
		}
		last = e
	}
	if st, err = g.load(r.ctx); err != nil {
		return nil, err
	}
	for _, d := range st.members[r.from.bare] {
		if !in.Device.IsZero() && d.device != in.Device.String() {
			continue
		}
		e, err := g.proposeRemoval(r.ctx, r.from.bare, d.device, "left")
		switch {
		case errors.Is(err, errNoSender):
			if last == nil {
				return nil, stanza.NewError(stanza.FeatureNotImplemented, "This service is no external sender of the group and cannot propose your removal. Send a SelfRemove or Remove proposal of your own.")
			}
		case err != nil:
			return nil, err
		case e != nil:
			last = e
		case last == nil:
			last = st.pendingRemoval(d.leaf) // asked for before
		}
	}
	if last == nil {
		return nil, &stanza.NotAMember{}
	}
	g.mute(st, r.from.bare, in.Device)
	return accepted(last, st.row.Epoch), nil
}

// pendingRemoval finds the entry that asks for the removal of a leaf.
func (st *groupState) pendingRemoval(leaf mls.LeafIndex) *store.Entry {
	for i := range st.pending {
		if p := &st.pending[i]; p.remove && p.target == leaf {
			return &p.entry
		}
	}
	return nil
}

// mute ends the fan-out to devices that are leaving, until they are removed.
func (g *group) mute(st *groupState, user string, device stanza.DeviceID) {
	if st.muted == nil {
		st.muted = make(map[string]bool)
	}
	for _, d := range st.members[user] {
		if device.IsZero() || d.device == device.String() {
			st.muted[user+"/"+d.device] = true
		}
	}
	st.haveTo = false
}
