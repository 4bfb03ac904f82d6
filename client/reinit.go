// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file lets a group go on as another MLS group under the same JID, with
// another cipher suite (RFC 9420 §11.2). Each step survives a crash:
//
//	ended      an owner's commit with a ReInit: the old group is frozen
//	begun      the new group is made, stored beside the old, and given to the service
//	adopted    it is the group's state; the old one is kept for its resumption PSK
//	continued  one commit has added the others, who know their group by that PSK
//
// The owner who ended it begins at once, other owners take over when nobody has.
// A member that no Welcome has reached in time comes in from outside.

const (
	// reinitTurn is how long each owner waits for those before it.
	reinitTurn = 20 * time.Second
	// reinitPatience is how long a member waits for its Welcome.
	reinitPatience = 2 * time.Minute
	// reinitTries is how often key packages of everybody are asked for before the
	// group goes on without those who have none.
	reinitTries = 4
)

// Rows of a group between its two lives.
const (
	rowBegun = "next" // a startedGroup
	rowOld   = "old"  // the old state, as mls.Group.Save writes it
)

// startedGroup is a new group whose creation at the service has an open outcome.
type startedGroup struct {
	State     []byte `json:"state"`
	GroupInfo []byte `json:"group-info"`
}

// ReInitError says that a group was not reinitialised because some of its members
// could not come along: invite newer clients of theirs, or remove them.
type ReInitError struct {
	Suite mls.CipherSuite
	Users []InviteUser // who could not, and why
}

func (e *ReInitError) Error() string {
	var who []string
	for _, u := range e.Users {
		who = append(who, fmt.Sprintf("%s (%s)", u.JID, u.Status))
	}
	return fmt.Sprintf("client: the group stays as it is: no device for %v of %s", e.Suite, strings.Join(who, ", "))
}

// CipherSuite is the group's suite, 0 if this device is not in it.
func (g *Group) CipherSuite() mls.CipherSuite {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.load() != nil || g.state == nil {
		return 0
	}
	return g.state.CipherSuite()
}

// ReInit lets the group go on with another cipher suite, and with the delivery
// service's present key for removals: as a new MLS group under the same JID with
// the same members, roles and name. Only owners can, and only if every member has
// at least one device with key packages for the suite; otherwise the error is a
// [*ReInitError]. It returns when the others have been added; if ctx ends before,
// this client, or another owner's, goes on by itself. Everybody gets a
// [Reinitialised] event and keeps the [Group]; sending waits meanwhile. If the two
// suites sign differently every device has another key in the new group, a
// [KeyChanged] event tells of each, and verified ones have to be compared again.
func (g *Group) ReInit(ctx context.Context, suite mls.CipherSuite) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	return g.do(ctx, &intent{Op: opReInit, Suite: suite})
}

func (g *Group) reinit(ctx context.Context, in *intent) error {
	suite := in.Suite
	if _, err := g.c.identityFor(suite); err != nil {
		return err
	}
	if !slices.Contains(g.c.suites(), suite) {
		return fmt.Errorf("client: this client does not take part in groups of %v: see Config.Suites", suite)
	}
	if err := g.usable(ctx); err != nil {
		return err
	}
	if g.private() {
		g.mu.Unlock()
		return errors.New("client: the delivery service cannot see the end of a group with private handshakes: make another group")
	}
	others := g.otherAccounts(g.state)
	g.mu.Unlock()
	if missing := g.claimFor(ctx, suite, others).Failed(); len(missing) > 0 {
		return &ReInitError{Suite: suite, Users: missing}
	}
	limits := g.c.limitsOf(ctx, g.host)
	id := make([]byte, 32)
	crand.Read(id)
	// A ReInit stands alone in its commit: what others have proposed goes first.
	err := g.commit(ctx, func() (*mls.CommitOptions, error) {
		if len(g.state.PendingProposals()) == 0 {
			return nil, errNothingToDo
		}
		return &mls.CommitOptions{}, nil
	})
	if err != nil {
		return err
	}
	err = g.change(ctx, in, func() (*mls.CommitOptions, error) {
		if len(g.state.PendingProposals()) > 0 {
			return nil, errors.New("client: somebody has proposed a change meanwhile: try again")
		}
		if slices.ContainsFunc(g.otherAccounts(g.state), func(a string) bool { return !slices.Contains(others, a) }) {
			return nil, errors.New("client: somebody has joined meanwhile: try again")
		}
		x, err := g.successorExtensions(suite, limits.ExternalSender)
		if err != nil {
			return nil, err
		}
		return &mls.CommitOptions{ReInit: &mls.ReInit{GroupID: id, Version: mls.MLS10, CipherSuite: suite, Extensions: x}}, nil
	})
	if err != nil {
		return err
	}
	if err := g.usable(ctx); err != nil {
		return err
	}
	g.mu.Unlock()
	return nil
}

// otherAccounts are the accounts in a state besides the own, sorted.
func (g *Group) otherAccounts(st *mls.Group) []string {
	var out []string
	for m := range st.Members() {
		if a := leafIdentity(m.Leaf); a != g.c.account && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return out
}

// successorExtensions are the GroupContext's of the new group: the agreed state as
// it is, and the service's key if it fits the suite.
func (g *Group) successorExtensions(suite mls.CipherSuite, sender []byte) (mls.Extensions, error) {
	st, err := g.agreed()
	if err != nil {
		return nil, err
	}
	if st.Group == nil || st.Roles == nil {
		return nil, errors.New("client: the group has no group or roles component")
	}
	// Who is a member by being in the tree is in no tree until the Welcome, and
	// may have to come in from outside.
	roles := st.Roles
	for a := range g.accounts {
		if _, has := roles.Entries[a]; !has {
			roles = roles.With(a, roles.Of(a, true))
		}
	}
	x, err := groupExtensions(st.Group, roles, sender)
	if err != nil {
		return nil, err
	}
	// Tried out: the service's key may be for another signature scheme.
	me, err := g.c.identityFor(suite)
	if err != nil {
		return nil, err
	}
	_, kept, err := g.c.newGroup(suite, me, x)
	return kept, err
}

// frozen gives the ReInit that has ended the present state, nil if none. Called
// with the lock held.
func (g *Group) frozen() *mls.ReInit {
	if g.state == nil {
		return nil
	}
	return g.state.ReInit()
}

// frozenState is the state if it was reinitialised, else nil. Called with the lock
// held.
func (g *Group) frozenState() *mls.Group {
	if g.frozen() == nil {
		return nil
	}
	return g.state
}

// between reports whether the group is between its two lives, when nothing can be
// sent. Called with the lock held.
func (g *Group) between() bool { return g.parent != nil || g.frozen() != nil }

// loadBetween reads what an earlier run has left. Called with the lock held.
func (g *Group) loadBetween() error {
	g.parent = nil
	b, ok, err := g.c.store.Get(g.row(rowOld))
	if err != nil || !ok || g.state == nil {
		return err
	}
	if g.parent, err = mls.Load(g.groupConfig(), b); err != nil {
		// The others can come in from outside.
		g.c.log.Error("the state of the group before it was reinitialised cannot be read", "group", g.jid, "error", err)
		g.b.add(store.Delete(g.row(rowOld)))
	}
	return nil
}

// considerReInit goes on with a reinitialisation, in the background.
func (g *Group) considerReInit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.between() || g.succeeding || !g.fresh || g.meta.Status != statusJoined {
		return
	}
	g.succeeding = g.c.spawn(func() {
		g.succeed(g.c.life)
		g.mu.Lock()
		g.succeeding = false
		g.mu.Unlock()
	})
}

// succeed does this device's part until the group has gone on.
func (g *Group) succeed(ctx context.Context) {
	turn, patience := g.c.reinitWaits()
	began, overtaken := time.Now(), false
	patience += rand.N(patience/4 + 1)
	failed, asked := 0, 0
	for ctx.Err() == nil && g.c.waitLink(ctx) {
		g.mu.Lock()
		adding, frozen := g.parent != nil, g.frozen() != nil
		place := g.ownerPlace()
		mine, joined, changed := g.meta.Ender, g.meta.Status == statusJoined, g.changed
		g.mu.Unlock()
		waited := time.Since(began)
		pause := turn / 4
		var err error
		switch {
		case !joined || !adding && !frozen:
			return
		case adding:
			err = g.addOldMembers(ctx, failed >= reinitTries)
		case !overtaken && (mine || place >= 0 && waited > turn*time.Duration(place+1)):
			if err = g.beginSuccessor(ctx); errors.Is(err, errOvertaken) {
				began, overtaken, err = time.Now(), true, nil
			}
		case waited > patience:
			// If nobody has begun it nobody may ever: asked less and less often.
			err = g.enterSuccessor(ctx)
			pause, asked = pause<<min(asked, 6), asked+1
		}
		if err != nil {
			g.c.noteError(err)
			pause = max(retryAfter(err), rand.N(backoff(failed)))
			failed++
		} else if adding {
			continue
		}
		t := time.NewTimer(pause)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

func (c *Client) reinitWaits() (turn, patience time.Duration) {
	if c.cfg.reinitTurn > 0 {
		return c.cfg.reinitTurn, 6 * c.cfg.reinitTurn
	}
	return reinitTurn, reinitPatience
}

// ownerPlace is the own place among the owners of a frozen group, -1 for others.
// Called with the lock held.
func (g *Group) ownerPlace() int {
	st, err := g.agreed()
	if err != nil || st.Roles == nil || g.frozen() == nil {
		return -1
	}
	var owners []string
	for a := range g.accounts {
		if st.Roles.Of(a, true) == groupdata.Owner {
			owners = append(owners, a)
		}
	}
	slices.Sort(owners)
	return slices.Index(owners, g.c.account)
}

// errOvertaken says that another member has begun the new group.
var errOvertaken = errors.New("client: another member was faster")

// beginSuccessor makes the new group and gives it to the service.
func (g *Group) beginSuccessor(ctx context.Context) error {
	next, previous, err := g.startSuccessor()
	if err != nil {
		return err
	}
	g.c.fail("reinit-stored")
	local, _, _ := strings.Cut(g.jid, "@")
	var made stanza.Created
	err = g.c.createAt(ctx, g.host, &stanza.CreateGroup{Local: local, Previous: previous, GroupInfo: stanza.Object{Bytes: next.GroupInfo}}, &made)
	g.c.fail("reinit-created")
	var refused *stanza.Error
	var outside *stanza.NotAMember // in the group that somebody has begun this device is not yet
	if errors.As(err, &refused) && refused.Condition == stanza.Conflict || errors.As(err, &outside) {
		g.mu.Lock()
		ticket := g.b.add(store.Delete(g.row(rowBegun)))
		g.mu.Unlock()
		return errors.Join(errOvertaken, g.b.flush(ticket))
	}
	if err != nil {
		return fmt.Errorf("client: continuing %s: %w", g.jid, err)
	}
	return g.adopt(next)
}

// startSuccessor makes the new group, or finds the one that was made before a
// crash: what the service may have must not be made twice.
func (g *Group) startSuccessor() (*startedGroup, []byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	reinit := g.frozen()
	if reinit == nil {
		return nil, nil, errOvertaken
	}
	var s startedGroup
	if b, ok, err := g.c.store.Get(g.row(rowBegun)); err != nil {
		return nil, nil, err
	} else if ok {
		return &s, g.state.GroupID(), json.Unmarshal(b, &s)
	}
	me, err := g.c.identityFor(reinit.CipherSuite)
	if err != nil {
		return nil, nil, err
	}
	first, err := g.state.StartSuccessor(&mls.DeriveOptions{Identity: me, DeviceID: g.c.device[:]})
	if err != nil {
		return nil, nil, fmt.Errorf("client: continuing %s: %w", g.jid, err)
	}
	gi, err := first.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: true})
	if err != nil {
		return nil, nil, fmt.Errorf("client: describing %s: %w", g.jid, err)
	}
	s = startedGroup{State: first.Save(), GroupInfo: gi.Bytes()}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, nil, err
	}
	return &s, g.state.GroupID(), g.b.flush(g.b.add(store.Put(g.row(rowBegun), b)))
}

// adopt makes the new group the state, in one write, and keeps the old one beside
// it until the others have been added.
func (g *Group) adopt(next *startedGroup) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen() == nil {
		return nil
	}
	st, err := mls.Load(g.cfg, next.State)
	if err != nil {
		return fmt.Errorf("client: continuing %s: %w", g.jid, err)
	}
	ops := []store.Op{store.DeletePrefix(g.row("m/")), store.Delete(g.row(rowBegun)), store.Put(g.row(rowOld), g.state.Save())}
	g.parent = g.state
	g.setState(st)
	g.meta.Sent, g.meta.Updated, g.meta.Since = 0, g.c.cfg.clock().UTC(), 0
	ops = append(ops, g.unseal()...)
	err = g.b.flush(g.b.add(append(ops, append(g.stateOps(), g.metaOp())...)...))
	g.signal()
	return err
}

// claimFor fetches and checks key packages of accounts for a suite.
func (g *Group) claimFor(ctx context.Context, suite mls.CipherSuite, accounts []string) *InviteResult {
	res := &InviteResult{}
	for _, a := range accounts {
		res.Users = append(res.Users, InviteUser{JID: a})
	}
	g.claim(ctx, suite, res)
	for i := range res.Users {
		u := &res.Users[i]
		g.vet(ctx, u, suite, nil)
		if u.Status != "" {
			continue
		}
		u.Status = InviteAdded
		if !slices.ContainsFunc(u.Devices, func(d InviteDevice) bool { return d.kp != nil }) {
			u.Status = InviteUnavailable
			if len(u.Devices) > 0 {
				u.Status, u.Reason = u.Devices[0].Status, u.Devices[0].Reason
			}
		}
	}
	return res
}

// addOldMembers adds the members of the old group to the new one. With anyway it
// does so even if some accounts cannot be added; they can come in from outside.
func (g *Group) addOldMembers(ctx context.Context, anyway bool) error {
	g.mu.Lock()
	if g.parent == nil || g.state == nil {
		g.mu.Unlock()
		return nil
	}
	suite, accounts := g.state.CipherSuite(), g.otherAccounts(g.parent)
	if g.otherDevices(g.parent) != nil {
		accounts = append(accounts, g.c.account)
	}
	g.mu.Unlock()
	res := g.claimFor(ctx, suite, accounts)
	for _, u := range res.Failed() {
		if u.JID != g.c.account && !anyway {
			return &ReInitError{Suite: suite, Users: res.Failed()}
		}
	}
	build := func() (*mls.CommitOptions, error) { return g.buildAdd(res) }
	err := g.commitWhen(ctx, g.usableSuccessor, nil, build)
	if isPackageFault(err) {
		res.oneByOne = true
		err = g.commitWhen(ctx, g.usableSuccessor, nil, build)
	}
	if err != nil {
		return err
	}
	g.update(func(r *received) { g.continued(r, true) }) // there was nobody to add
	return nil
}

// commitState makes a commit in the present state: as the continuation of a group,
// if it is that, and all members of the old one can come along. Called with the
// lock held.
func (g *Group) commitState(o *mls.CommitOptions) (*mls.PendingCommit, error) {
	if g.parent == nil || g.state.Epoch() != 0 {
		return g.state.Commit(o)
	}
	p, err := g.state.CommitSuccession(g.parent, o)
	var ve *mls.ValidationError
	if errors.As(err, &ve) && ve.Rule == mls.RuleWelcomeReInit {
		return g.state.Commit(o) // some are left behind, so that nobody can prove anything
	}
	return p, err
}

// usableSuccessor is usable for the one commit of the time in between.
func (g *Group) usableSuccessor(ctx context.Context) error {
	return g.usableWhen(ctx, func() bool { return g.frozen() == nil })
}

// continued ends the time in between and tells the application. Called with the
// lock held.
func (g *Group) continued(r *received, proven bool) {
	if g.parent == nil {
		return
	}
	g.tellContinued(g.parent, proven, r)
	g.parent, g.meta.Ender = nil, false
	r.ops = append(r.ops, store.Delete(g.row(rowOld)))
	r.any, r.flush = true, true
	r.after = append(r.after, g.resend)
}
