// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file is what the service knows of a group that is in use, and what it
// tells those who are behind.

// groupState is what is cached of a group.
type groupState struct {
	row     store.Group
	conf    groupConfig
	pub     *mls.PublicGroup // nil in private mode
	data    groupdata.State  // nil pointers in private mode if no GroupInfo was given
	members map[string][]leafDevice
	leaves  int
	pending []pendingProposal
	banned  map[string]bool // outcasts, of the roles component or of the service

	// Recipients of live deliveries, made when sessions.gen was gen.
	to     []string
	absent []string
	gen    uint64
	haveTo bool
	nudges uint64          // nudger.gen when all absent accounts were scheduled
	muted  map[string]bool // "user/device" of devices that are leaving: no live deliveries
}

// loadGroup reads everything about a group.
func (s *Service) loadGroup(ctx context.Context, jid string) (*groupState, error) {
	var (
		st      *groupState
		snap    *store.Snapshot
		nodes   []store.Node
		pending []store.Entry
	)
	err := s.store.View(ctx, func(r store.Reader) error {
		row, err := r.Group(jid)
		if err != nil {
			return s.noGroup(r, jid, err)
		}
		st = &groupState{row: *row, members: make(map[string][]leafDevice), banned: make(map[string]bool)}
		if st.conf, err = decodeConfig(row.Config); err != nil {
			return err
		}
		if snap, err = r.Snapshot(row.Key, row.Epoch); err != nil {
			return err
		}
		if nodes, err = r.Nodes(row.Key, row.Epoch); err != nil {
			return err
		}
		if row.Pending > 0 {
			if pending, err = r.Pending(row.Key); err != nil {
				return err
			}
		}
		members, err := r.Members(row.Key)
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.InTree() {
				st.addMember(m.User, leafDevice{device: m.Device, leaf: mls.LeafIndex(m.Leaf), joined: m.Joined})
			}
		}
		return eachAffiliation(r, row.Key, func(a store.Affiliation) {
			if a.Value == store.AffiliationOutcast {
				st.banned[a.User] = true
			}
		})
	})
	if err != nil {
		return nil, err
	}
	if st.private() {
		if st.data, err = agreedAt(&st.row, snap); err != nil {
			return nil, err
		}
		for _, e := range pending {
			st.pending = append(st.pending, pendingProposal{entry: e})
		}
		return st, nil
	}
	if st.pub, err = s.loadPublic(snap.Header, nodes); err != nil {
		return nil, err
	}
	if st.data, err = agreed(st.pub.Context()); err != nil {
		return nil, err
	}
	for _, e := range pending {
		m, err := mls.ParseMessage(e.Bytes)
		if err != nil {
			return nil, fmt.Errorf("component: group %q: stored proposal %d: %w", jid, e.Seq, err)
		}
		if err := st.stagePending(m, e); err != nil {
			return nil, fmt.Errorf("component: group %q: stored proposal %d: %w", jid, e.Seq, err)
		}
	}
	return st, nil
}

// stagePending adds an accepted proposal to the public state.
func (st *groupState) stagePending(m *mls.Message, e store.Entry) error {
	got, err := st.pub.Process(m)
	if err != nil {
		return err
	}
	p, ok := got.(*mls.StagedPublicProposal)
	if !ok {
		return errors.New("component: the message is no proposal")
	}
	st.pending = append(st.pending, newPending(e, p.Ref(), p.Info()))
	st.pub = p.Merge()
	return nil
}

// eachAffiliation visits a group's affiliations.
func eachAffiliation(r store.Reader, key store.GroupKey, f func(store.Affiliation)) error {
	after := ""
	for {
		page, err := r.Affiliations(key, after, 1000)
		if err != nil {
			return err
		}
		for _, a := range page {
			f(a)
		}
		if len(page) < 1000 {
			return nil
		}
		after = page[len(page)-1].User
	}
}

// noGroup refuses a request for a group that is not there: gone if it was
// destroyed, moved if it went elsewhere.
func (s *Service) noGroup(r store.Reader, jid string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	t, terr := r.Tombstone(jid)
	if terr != nil {
		return stanza.NewError(stanza.ItemNotFound, "There is no such group.")
	}
	e := stanza.NewError(stanza.Gone, "The group was destroyed.")
	if t.Reason != "" {
		e.Text = "The group was destroyed: " + t.Reason
	}
	if t.NewJID != "" {
		e.Address = "xmpp:" + t.NewJID
	}
	return e
}

func (st *groupState) private() bool { return st.row.Mode == groupdata.Private.String() }

func (st *groupState) addMember(user string, d leafDevice) {
	st.members[user] = append(st.members[user], d)
	st.leaves++
	st.haveTo = false
}

func (st *groupState) dropMember(user, device string) {
	list := slices.DeleteFunc(st.members[user], func(d leafDevice) bool { return d.device == device })
	st.leaves -= len(st.members[user]) - len(list)
	if len(list) == 0 {
		delete(st.members, user)
	} else {
		st.members[user] = list
	}
	delete(st.muted, user+"/"+device) // it hears everything again if it comes back
	st.haveTo = false
}

func (st *groupState) inTree(user string) bool { return len(st.members[user]) > 0 }

func (st *groupState) hasDevice(user, device string) bool {
	return slices.ContainsFunc(st.members[user], func(d leafDevice) bool { return d.device == device })
}

// userOfLeaf finds who a leaf is, in either mode.
func (st *groupState) userOfLeaf(leaf mls.LeafIndex) (user, device string, ok bool) {
	if st.pub != nil {
		m, ok := st.pub.Member(leaf)
		if !ok {
			return "", "", false
		}
		user, device, err := leafIdentity(m.Leaf)
		return user, device, err == nil
	}
	for user, list := range st.members {
		for _, d := range list {
			if d.leaf == leaf {
				return user, d.device, true
			}
		}
	}
	return "", "", false
}

// role gives an account's role, with the service's own bans.
func (st *groupState) role(user string) groupdata.Role {
	if st.outcast(user) {
		return groupdata.Outcast
	}
	if st.data.Roles == nil {
		if st.inTree(user) {
			return groupdata.Member
		}
		return groupdata.None
	}
	return st.data.Roles.Of(user, st.inTree(user))
}

func domainOf(bare string) string {
	if _, d, ok := strings.Cut(bare, "@"); ok {
		return d
	}
	return bare
}

// mustBeMember refuses those who are not in the tree.
func (st *groupState) mustBeMember(user string) error {
	if st.outcast(user) {
		return masked()
	}
	if !st.inTree(user) {
		return st.outsider()
	}
	return nil
}

// outcast reports whether an account is banned, by itself or with its domain.
func (st *groupState) outcast(user string) bool {
	return st.banned[user] || st.banned[domainOf(user)]
}

// outsider refuses somebody who has no business with the group. A hidden group
// does not even exist for them.
func (st *groupState) outsider() error { return outsider(&st.conf) }

func outsider(c *groupConfig) error {
	if c.Hidden {
		return stanza.NewError(stanza.ItemNotFound, "There is no such group.")
	}
	return &stanza.NotAMember{}
}

// masked is the answer to those who are not to learn more (xep/mls-delivery.xml#errors).
func masked() error { return stanza.NewError(stanza.ServiceUnavailable, "") }

// mustCommit lists the removals that the next commit must carry out, as far as
// they concern others than the given leaf, which cannot commit its own removal
// (RFC 9420 §12.4).
func (st *groupState) mustCommit(except mls.LeafIndex, hasLeaf bool) []*pendingProposal {
	var out []*pendingProposal
	for i := range st.pending {
		p := &st.pending[i]
		if !p.remove || hasLeaf && p.target == except {
			continue
		}
		out = append(out, p)
	}
	return out
}

// selfRemoves lists pending SelfRemoves, as many as an answer has room for.
func (st *groupState) selfRemoves() []*pendingProposal {
	var out []*pendingProposal
	room := staleInline
	for i := range st.pending {
		p := &st.pending[i]
		if _, ok := p.info.Proposal.(*mls.SelfRemove); !ok {
			continue
		}
		if room -= len(p.entry.Bytes); room < 0 {
			break
		}
		out = append(out, p)
	}
	return out
}

func mustCommitError(list []*pendingProposal) error {
	e := &stanza.MustCommit{}
	room := staleInline
	// Whoever has committed these is told of the others.
	for _, p := range list[:min(len(list), mustNamed)] {
		pe := p.past()
		if room -= len(pe.Bytes); room < 0 {
			pe.Bytes = nil
		}
		e.Proposals = append(e.Proposals, pe)
	}
	return e
}

// staleEpoch makes the refusal of a message of a past epoch, with everything
// that the sender needs to try again at once.
func (s *Service) staleEpoch(ctx context.Context, st *groupState, submitted uint64, own store.Ref) (*stanza.StaleEpoch, *store.Entry, error) {
	e := &stanza.StaleEpoch{Submitted: submitted, Current: st.row.Epoch, Head: st.row.Head}
	var commits, pending []store.Entry
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		if commits, err = r.Commits(st.row.Key, submitted, staleCommits, 0); err != nil {
			var te *store.TruncatedError
			if !errors.As(err, &te) {
				return err
			}
			commits = nil
			e.More = true
		}
		pending, err = r.Pending(st.row.Key)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	room := staleInline
	for i := range commits {
		c := &commits[i]
		if c.Ref == own {
			return nil, c, nil
		}
		pe := pastEntry(c)
		if room -= len(pe.Bytes); room < 0 {
			pe.Bytes, e.More = nil, true
		}
		e.Commits = append(e.Commits, pe)
	}
	if len(commits) > 0 && commits[len(commits)-1].Epoch+1 < st.row.Epoch {
		e.More = true
	}
	for i := range pending {
		if len(e.Proposals) >= staleCommits {
			e.More = true
			break
		}
		pe := pastEntry(&pending[i])
		if room -= len(pe.Bytes); room < 0 {
			pe.Bytes, e.More = nil, true
		}
		e.Proposals = append(e.Proposals, pe)
	}
	return e, nil, nil
}

// checkSubmission holds a submission against what it says of itself.
func checkSubmission(b []byte, ref stanza.Ref, limit int) error {
	if len(b) > limit {
		return &stanza.TooLarge{MaxBytes: uint64(limit)}
	}
	if stanza.MessageRef(b) != ref {
		return &stanza.InvalidMessage{Part: "message", Reason: "the ref is not the SHA-256 of the message"}
	}
	return nil
}

// checkHeader holds an MLS message against the group and epoch that it is for.
func (st *groupState) checkHeader(m *mls.Message, epoch uint64) error {
	if !bytes.Equal(m.GroupID(), st.row.GroupID) {
		return &stanza.InvalidMessage{Part: "message", Reason: "the message is of another group"}
	}
	if e, ok := m.Epoch(); !ok || e != epoch {
		return &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("the message is of epoch %d, submitted for %d", e, epoch)}
	}
	return nil
}
