// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file decides which commit ends an epoch (xep/mls-delivery.xml#accepting, RFC 9420 §14).
//
// Everything is checked against the state of one revision, then written in one
// transaction that holds only if the group still has that revision. The answer
// goes out when the transaction is durable, the fan-out after the answer.

// submittedCommit is a commit with its parts at hand.
type submittedCommit struct {
	stanza.Commit
	ref       store.Ref
	message   []byte
	msg       *mls.Message
	welcome   *mls.Welcome
	groupInfo *mls.GroupInfo
	infoBytes []byte
	stages    []string // uploads that are used up
	unsure    error    // the store lost an answer by it: the commit may be in the log already
}

func (g *group) commit(r *request) (stanza.Payload, error) {
	c, err := g.s.readCommit(r)
	if err != nil {
		return nil, err
	}
	for range commitRetries {
		st, err := g.load(r.ctx)
		if err != nil {
			return nil, c.outcome(err)
		}
		p, err := g.tryCommit(r, st, c)
		switch {
		case g.conflict(err):
			continue // somebody else moved the group: look again
		case errors.Is(err, store.ErrUnknownOutcome):
			g.st, c.unsure = nil, err
			continue // the log says whether it was accepted
		}
		return p, c.outcome(err)
	}
	return nil, c.outcome(&stanza.RetryAfter{After: time.Second})
}

// outcome makes sure that nobody is told "nothing was changed" who was unlucky
// twice: the store lost an answer, and then could not say what became of it.
func (c *submittedCommit) outcome(err error) error { return unsureOutcome(err, c.unsure) }

// unsure is how the answer was lost, nil if none was.
func unsureOutcome(err, unsure error) error {
	if err == nil || unsure == nil || errors.Is(err, store.ErrUnknownOutcome) {
		return err
	}
	var retry *stanza.RetryAfter
	if inTrouble(err) || errors.As(err, &retry) {
		return fmt.Errorf("%w; then: %w", unsure, err)
	}
	return err
}

// readCommit parses a commit and gets its staged parts.
func (s *Service) readCommit(r *request) (*submittedCommit, error) {
	in, err := stanza.Parse[stanza.Commit](r.payload)
	if err != nil {
		return nil, err
	}
	c := &submittedCommit{Commit: in, ref: store.Ref(in.Ref)}
	if c.message, err = s.object(r, in.Message, stanza.StageMessage, c); err != nil {
		return nil, err
	}
	if err := checkSubmission(c.message, in.Ref, s.limits.MaxArtifact); err != nil {
		return nil, err
	}
	if c.msg, err = mls.ParseMessage(c.message); err != nil {
		s.metrics.invalid.WithLabelValues("commit").Inc()
		return nil, invalid("message", err)
	}
	if c.msg.ContentType() != mls.ContentCommit {
		return nil, &stanza.InvalidMessage{Part: "message", Reason: "the message is no commit"}
	}
	welcome, err := s.object(r, in.Welcome, stanza.StageWelcome, c)
	if err != nil {
		return nil, err
	}
	if len(welcome) > 0 {
		m, err := mls.ParseMessage(welcome)
		if err != nil {
			return nil, invalid("welcome", err)
		}
		if c.welcome = m.Welcome; c.welcome == nil {
			return nil, &stanza.InvalidMessage{Part: "welcome", Reason: "it is no Welcome"}
		}
	}
	if c.infoBytes, err = s.object(r, in.GroupInfo, stanza.StageGroupInfo, c); err != nil {
		return nil, err
	}
	if len(c.infoBytes) > 0 {
		if c.groupInfo, err = parseGroupInfo(c.infoBytes); err != nil {
			return nil, invalid("group-info", err)
		}
	}
	return c, nil
}

// object gives the bytes of a part of a submission, wherever they are.
func (s *Service) object(r *request, o stanza.Object, part stanza.StagePart, c *submittedCommit) ([]byte, error) {
	if o.Stage == "" {
		return o.Bytes, nil
	}
	var b []byte
	err := s.store.View(r.ctx, func(rd store.Reader) error {
		// Reading and parsing it is as much work as if it came again: it counts
		// among the bytes that the account may send.
		p, err := rd.UploadProgress(r.from.bare, o.Stage, s.now())
		if err != nil {
			return err
		}
		if p.Part != string(part) {
			p.Total = int64(s.limits.MaxArtifact) // another part of that id, which is to be of one
		}
		if err := s.charge(r.from.bare, int(p.Total)); err != nil {
			return err
		}
		b, err = rd.Upload(r.from.bare, o.Stage, string(part), s.now())
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, stanza.NewError(stanza.ItemNotFound, fmt.Sprintf("The stage %q of the %s is unknown, incomplete or expired. Upload it again.", bound(o.Stage, 64), part))
	case errors.Is(err, store.ErrChecksum):
		return nil, &stanza.InvalidMessage{Part: string(part), Reason: "the staged bytes do not match their sha-256"}
	case err != nil:
		return nil, err
	}
	if c != nil {
		c.stages = append(c.stages, o.Stage)
	}
	return b, nil
}

// parseGroupInfo reads a GroupInfo as an MLSMessage.
func parseGroupInfo(b []byte) (*mls.GroupInfo, error) {
	m, err := mls.ParseMessage(b)
	if err != nil {
		return nil, err
	}
	if m.GroupInfo == nil {
		return nil, errors.New("component: it is no GroupInfo")
	}
	return m.GroupInfo, nil
}

// mayCommit refuses those who have no say in the group before they are told
// anything of it: its epoch, its commits, whether it is there.
func (st *groupState) mayCommit(user string, external bool) error {
	if st.outcast(user) || st.role(user) == groupdata.Outcast {
		return masked()
	}
	if st.inTree(user) {
		return nil
	}
	if !external || st.data.Roles == nil {
		return st.outsider()
	}
	if err := st.data.Roles.CanJoin(user, false); err != nil {
		if st.conf.Hidden {
			return st.outsider()
		}
		return err
	}
	return nil
}

// ownCommit answers a member that was removed after its commit was accepted:
// what was answered once is answered again.
func (g *group) ownCommit(r *request, st *groupState, c *submittedCommit) (*stanza.Accepted, bool) {
	var e *store.Entry
	err := g.s.store.View(r.ctx, func(rd store.Reader) (err error) {
		e, err = rd.EntryByRef(st.row.Key, c.ref)
		return err
	})
	if err != nil || e.Kind != store.KindCommit || e.Sender != r.from.bare {
		return nil, false
	}
	return accepted(e, e.Epoch+1), true
}

// tryCommit checks a commit against one state of the group and submits it.
func (g *group) tryCommit(r *request, st *groupState, c *submittedCommit) (stanza.Payload, error) {
	if err := st.mayCommit(r.from.bare, c.External); err != nil {
		if a, ok := g.ownCommit(r, st, c); ok {
			return a, nil
		}
		return nil, err
	}
	switch {
	case c.Epoch < st.row.Epoch:
		stale, own, err := g.s.staleEpoch(r.ctx, st, c.Epoch, c.ref)
		if err != nil {
			return nil, err
		}
		if own != nil { // the answer to an earlier submission was lost
			r.respond(accepted(own, own.Epoch+1))
			if c.unsure != nil { // nobody has been told
				g.fanout(r.ctx, st, own, r.from.full, nil)
			}
			return nil, nil
		}
		g.s.metrics.stale.Inc()
		if !st.inTree(r.from.bare) { // the log is for members: a joiner begins with the GroupInfo
			stale.Commits, stale.Proposals, stale.More = nil, nil, false
		}
		return nil, stale
	case c.Epoch > st.row.Epoch:
		return nil, &stanza.FutureEpoch{Submitted: c.Epoch, Current: st.row.Epoch, Head: st.row.Head}
	}
	if err := st.checkHeader(c.msg, c.Epoch); err != nil {
		return nil, err
	}
	if st.conf.reinit() {
		return nil, stanza.NewError(stanza.NotAllowed, "The group has been reinitialised: it goes on as a new one, under the same JID.")
	}
	var change *store.Commit
	var e *commitEffect
	var next func(*groupState)
	var err error
	if st.private() {
		change, e, err = g.checkPrivateCommit(r, st, c)
		if err == nil {
			next = func(st *groupState) { st.data = e.rules.New }
		}
	} else {
		change, e, next, err = g.checkPublicCommit(r, st, c)
	}
	if err != nil {
		var im *stanza.InvalidMessage
		if errors.As(err, &im) {
			g.s.metrics.invalid.WithLabelValues("commit").Inc()
		}
		return nil, err
	}
	if err := g.s.addWelcomes(r.ctx, g.jid, r.from.bare, c, e, change); err != nil {
		return nil, err
	}
	change.UploadOwner, change.Uploads = r.from.bare, c.stages
	acc, err := g.s.store.AcceptCommit(r.ctx, change)
	if err != nil {
		return nil, err
	}
	entry := &store.Entry{Seq: acc.Seq, Epoch: c.Epoch, Kind: store.KindCommit, Ref: c.ref, ID: acc.ID, Stamp: acc.Stamp, Chain: acc.Chain, Bytes: c.message}
	r.respond(accepted(entry, acc.Epoch))
	if acc.Duplicate {
		g.st = nil
		return nil, nil
	}
	g.s.metrics.accepted.WithLabelValues("commit").Inc()
	g.afterCommit(r, st, c, e, change, acc, entry, next)
	return nil, nil
}

// afterCommit brings the cached state up to date and tells everybody.
func (g *group) afterCommit(r *request, st *groupState, c *submittedCommit, e *commitEffect, change *store.Commit, acc store.Accepted, entry *store.Entry, next func(*groupState)) {
	g.s.missed.spoke(g.jid, acc.Seq, r.from.bare, g.s.now())
	old := g.recipients(r.ctx, st)
	leavers := st.leavers()
	head, tail := g.s.envelope(g.jid, entry)
	g.s.deliver(r.ctx, head, tail, old, escapeAttr(r.from.full), g.s.sessionsOf(r.ctx, e.left))

	// An answer that came late is of a revision that others have made since.
	alone := acc.Rev == st.row.Rev+1
	st.row.Epoch, st.row.Head, st.row.Chain, st.row.Rev, st.row.Pending = acc.Epoch, acc.Seq, acc.Chain, acc.Rev, 0
	if change.Config != nil {
		st.row.Config = change.Config
		st.conf, _ = decodeConfig(change.Config)
	}
	st.pending = nil
	for _, l := range e.left {
		st.dropMember(l.User, l.Device)
	}
	for _, j := range e.joined {
		st.addMember(j.User, leafDevice{device: j.Device, leaf: mls.LeafIndex(j.Leaf), joined: acc.Seq})
	}
	for _, a := range change.Roles {
		if a.Value == store.AffiliationOutcast {
			st.banned[a.User] = true
		} else {
			delete(st.banned, a.User)
		}
	}
	if next != nil {
		next(st)
	}
	g.s.nudger.absent(g.jid, st, r.from.bare)
	g.s.announceWelcomes(r.ctx, g.jid, change, acc)
	if !alone {
		g.st = nil
		return
	}
	// Removals that the commit did not carry out are void with their epoch;
	// for those who were leaving we ask again.
	g.removeAgain(r.ctx, st, leavers)
}

// leavers lists whose removal is pending.
func (st *groupState) leavers() []store.Leaver {
	var out []store.Leaver
	for _, p := range st.pending {
		if !p.remove {
			continue
		}
		if user, device, ok := st.userOfLeaf(p.target); ok {
			out = append(out, store.Leaver{User: user, Device: device})
		}
	}
	return out
}

func accepted(e *store.Entry, epoch uint64) *stanza.Accepted {
	return &stanza.Accepted{Seq: e.Seq, Epoch: epoch, ID: e.ID, Ref: stanza.Ref(e.Ref), Chain: stanza.Hash(e.Chain), Stamp: e.Stamp}
}

// checkPublicCommit does what members will do, as far as an outsider can: it
// verifies the commit against the public group and the rules.
func (g *group) checkPublicCommit(r *request, st *groupState, c *submittedCommit) (*store.Commit, *commitEffect, func(*groupState), error) {
	sender, ok := c.msg.Sender()
	if !ok {
		return nil, nil, nil, &stanza.InvalidMessage{Part: "message", Reason: "this group's handshakes are PublicMessages"}
	}
	external := sender.Type == mls.SenderNewMemberCommit
	if external != c.External {
		return nil, nil, nil, &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("external='%v' does not fit a sender of type %v", c.External, sender.Type)}
	}
	if !external {
		if err := st.checkSender(r.from.bare, sender); err != nil {
			return nil, nil, nil, err
		}
		for _, p := range st.pending {
			if p.own() && p.target == mls.LeafIndex(sender.Index) {
				return nil, nil, nil, stanza.NewError(stanza.NotAllowed, "You are leaving: another member has to commit that.")
			}
		}
	}
	got, err := st.pub.Process(c.msg)
	if err != nil {
		return nil, nil, nil, g.commitError(st, c, err)
	}
	staged, ok := got.(*mls.StagedPublicCommit)
	if !ok {
		return nil, nil, nil, &stanza.InvalidMessage{Part: "message", Reason: "the message is no commit"}
	}
	e, err := st.effectOf(staged.Change())
	if err != nil {
		return nil, nil, nil, invalid("message", err)
	}
	if e.rules.Committer != r.from.bare {
		return nil, nil, nil, &stanza.CredentialMismatch{}
	}
	if err := g.checkPolicy(st, e); err != nil {
		return nil, nil, nil, err
	}
	// A member has seen every pending removal; a joiner from outside can take no
	// proposals along but SelfRemoves (mls-extensions), and gets them here.
	must := st.mustCommit(mls.LeafIndex(sender.Index), true)
	if external {
		must = st.selfRemoves()
	}
	if err := checkMustCommit(st, staged, e, must); err != nil {
		return nil, nil, nil, err
	}
	merged := staged.Merge()
	if err := g.s.checkGroupInfo(merged, c); err != nil {
		return nil, nil, nil, err
	}
	change := &store.Commit{
		Group: st.row.Key, Rev: st.row.Rev, Epoch: c.Epoch,
		Ref: c.ref, ID: g.s.entryID(), Sender: r.from.bare, Device: g.s.sessions.device(r.ctx, r.from), Stamp: g.s.stamp(), Bytes: c.message,
		Header: merged.State(), GroupInfo: c.infoBytes, Nodes: changedNodes(staged.ChangedNodes()),
		Left: e.left, Joined: e.joined, Roles: roleRows(st.data.Roles, e.rules.New.Roles),
	}
	if e.reinit {
		conf := st.conf
		conf.ReInit = staged.Change().ReInit.GroupID
		change.Config = conf.encode()
	}
	return change, e, func(st *groupState) {
		st.pub, st.data = merged, e.rules.New
	}, nil
}

// checkSender holds a member's message against who sent it.
func (st *groupState) checkSender(from string, sender mls.Sender) error {
	leaf, ok := sender.Leaf()
	if !ok {
		return &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("a member cannot send as %v", sender.Type)}
	}
	user, _, known := st.userOfLeaf(leaf)
	switch {
	case known && user == from:
		return nil
	case !st.inTree(from):
		return st.outsider()
	case known:
		return &stanza.CredentialMismatch{}
	}
	return &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("leaf %d is blank", leaf)}
}

// commitError says why a commit is refused.
func (g *group) commitError(st *groupState, c *submittedCommit, err error) error {
	if !errors.Is(err, mls.ErrMissingProposal) {
		return invalid("message", err)
	}
	e := &stanza.UnknownProposal{}
	if c.msg.Public != nil && c.msg.Public.Content.Commit != nil {
		for _, p := range c.msg.Public.Content.Commit.Proposals {
			if p.Ref == nil || len(e.ProposalRefs) >= stanza.MaxRefs {
				continue
			}
			known := false
			for i := range st.pending {
				known = known || bytes.Equal(st.pending[i].ref, p.Ref)
			}
			if !known {
				e.ProposalRefs = append(e.ProposalRefs, p.Ref)
			}
		}
	}
	return e
}

// checkMustCommit refuses a commit that leaves one of the removals that it must
// carry out undone (RFC 9420 §12.4).
func checkMustCommit(st *groupState, staged *mls.StagedPublicCommit, e *commitEffect, must []*pendingProposal) error {
	var missing []*pendingProposal
	used := staged.UsedProposals()
next:
	for _, p := range must {
		for _, ref := range used {
			if bytes.Equal(ref, p.ref) {
				continue next
			}
		}
		user, device, ok := st.userOfLeaf(p.target)
		if !ok {
			continue // the leaf is gone already
		}
		for _, l := range e.left {
			if l.User == user && l.Device == device {
				continue next
			}
		}
		missing = append(missing, p)
	}
	if missing == nil {
		return nil
	}
	return mustCommitError(missing)
}

// checkGroupInfo holds the GroupInfo for later joiners against the group that
// the commit makes.
func (s *Service) checkGroupInfo(merged *mls.PublicGroup, c *submittedCommit) error {
	if c.groupInfo == nil {
		return &stanza.InvalidMessage{Part: "group-info", Reason: "the commit comes without a GroupInfo"}
	}
	if c.groupInfo.RatchetTree() != nil {
		return &stanza.InvalidMessage{Part: "group-info", Reason: "the GroupInfo holds the ratchet tree, which this service keeps itself"}
	}
	if n := len(c.groupInfo.Context.Bytes()); n > s.limits.MaxContextBytes {
		return &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxContextBytes)}
	}
	if err := merged.CheckGroupInfo(c.groupInfo); err != nil {
		s.metrics.invalid.WithLabelValues("group-info").Inc()
		e := stanza.NewAppError(&stanza.GroupInfoMismatch{})
		e.Text = "The GroupInfo does not describe the group after the commit: " + bound(err.Error(), 256)
		return e
	}
	return nil
}
