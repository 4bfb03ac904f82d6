// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file holds the operations on a group's membership and rules.

// GroupOptions are choices for a new group. Nil and the zero value are usable.
type GroupOptions struct {
	// Service is the JID of the delivery service to create it on. Empty: the
	// home service.
	Service string
	// Local is the local part of the group's JID. Empty: the service chooses.
	Local string
	// Policy are the rules. Nil: groupdata.DefaultPolicy.
	Policy *groupdata.Policy
	// PrivateHandshakes hides from the delivery service who changes what, at the
	// price that it cannot check it (xep/mls-delivery.xml#private).
	PrivateHandshakes bool
}

// CreateGroup makes a group with this device as its only member and this
// account as its owner. name is for people and may be empty.
func (c *Client) CreateGroup(ctx context.Context, name string, o *GroupOptions) (*Group, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	if o == nil {
		o = &GroupOptions{}
	}
	host, err := c.createOn(ctx, o)
	if err != nil {
		return nil, err
	}
	group, local, err := c.reserve(ctx, host, o.Local)
	if err != nil {
		return nil, err
	}
	policy := groupdata.DefaultPolicy()
	if o.Policy != nil {
		policy = *o.Policy
	}
	mode := groupdata.Public
	if o.PrivateHandshakes {
		mode = groupdata.Private
	}
	limits := c.limitsOf(ctx, host)
	st, err := c.newState(group, name, mode, groupdata.NewRoles(c.account, policy), limits.ExternalSender)
	if err != nil {
		return nil, err
	}
	g := newGroup(c, group, randomID()[:16])
	st, err = c.bindState(g, st)
	if err != nil {
		return nil, err
	}
	g.loaded, g.fresh = true, true
	g.setState(st)
	g.setStatus(statusCreating)
	g.meta.Updated = c.cfg.clock().UTC()
	chain := groupdata.Genesis(st.GroupID())
	g.setChain(0, chain)
	gi, err := st.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true, InlineTree: true})
	if err != nil {
		return nil, fmt.Errorf("client: describing the group: %w", err)
	}
	// Stored before it exists: a crash leaves a row that the next start
	// removes, never a group without keys.
	if err := g.b.flush(g.b.add(append(g.stateOps(), g.metaOp())...)); err != nil {
		return nil, err
	}
	req := &stanza.CreateGroup{Local: local, GroupInfo: stanza.Object{Bytes: gi.Bytes()}, Config: groupConfigForm(&policy, mode)}
	var made stanza.Created
	if err := c.createAt(ctx, host, req, &made); err != nil {
		_ = c.store.Apply(context.Background(), []store.Op{store.DeletePrefix("g/" + g.id + "/")})
		return nil, fmt.Errorf("client: creating %s: %w", group, err)
	}
	g.mu.Lock()
	g.setStatus(statusJoined)
	ticket := g.b.add(g.metaOp())
	g.mu.Unlock()
	if err := g.b.flush(ticket); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.groups[group] = g
	c.mu.Unlock()
	c.ensureService(host)
	return g, nil
}

// createAt creates, and asks again when the answer is lost: the same GroupInfo
// is recognised by its group_id.
func (c *Client) createAt(ctx context.Context, host string, req *stanza.CreateGroup, made *stanza.Created) error {
	for lost := 1; ; lost++ {
		err := c.ask(ctx, "set", host, req, made)
		if err == nil || !unknownOutcome(err) || lost > 4 || ctx.Err() != nil {
			return err
		}
		c.pause(ctx, host, backoff(lost))
	}
}

func groupConfigForm(p *groupdata.Policy, mode groupdata.HandshakeMode) *stanza.Form {
	cfg := stanza.DefaultGroupConfig()
	cfg.AddPolicy, cfg.RemovePolicy = stanza.Role(p.Add.String()), stanza.Role(p.Remove.String())
	cfg.Access = stanza.AccessInvite
	switch p.ExternalJoin {
	case groupdata.NobodyJoins:
		cfg.ExternalJoin = stanza.ExternalNone
	case groupdata.MembersJoin:
		cfg.ExternalJoin = stanza.ExternalMembers
	case groupdata.AnyoneJoins:
		cfg.ExternalJoin, cfg.Access = stanza.ExternalAnyone, stanza.AccessOpen
	}
	cfg.MaxDevices = uint64(p.MaxDevices)
	cfg.AnnounceOnly = p.Send >= groupdata.Admin
	cfg.WireFormat = stanza.PublicHandshake
	if mode == groupdata.Private {
		cfg.WireFormat = stanza.PrivateHandshake
	}
	return cfg.Form(stanza.FormSubmit)
}

func (c *Client) createOn(ctx context.Context, o *GroupOptions) (string, error) {
	if o.Service != "" {
		return bareJID(o.Service)
	}
	host, err := c.serviceOf(ctx, c.account)
	if err != nil {
		return "", err
	}
	if strings.Contains(host, "@") {
		return "", fmt.Errorf("client: %s keeps the key packages of this account and no groups: set GroupOptions.Service", host)
	}
	return host, nil
}

// reserve fixes the group's JID, which the group itself will name.
func (c *Client) reserve(ctx context.Context, host, local string) (group, part string, err error) {
	var res stanza.Reserved
	err = c.ask(ctx, "set", host, &stanza.ReserveGroup{Local: local}, &res)
	var refused *stanza.Error
	switch {
	case err == nil:
		j, err := jid.Parse(res.JID)
		if err != nil || j.Domainpart() != host || j.Localpart() == "" || j.Resourcepart() != "" {
			return "", "", fmt.Errorf("client: %s has reserved the address %q, which is not one of its own", host, res.JID)
		}
		return j.String(), j.Localpart(), nil
	case errors.As(err, &refused) && refused.Condition == stanza.FeatureNotImplemented && local != "":
		j, err := jid.New(local, host, "")
		if err != nil {
			return "", "", fmt.Errorf("client: the name %q cannot be part of an address: %w", local, err)
		}
		return j.String(), j.Localpart(), nil
	}
	return "", "", fmt.Errorf("client: reserving a name on %s: %w", host, err)
}

// newState makes the MLS group of epoch 0.
func (c *Client) newState(group, name string, mode groupdata.HandshakeMode, roles *groupdata.Roles, externalSender []byte) (*mls.Group, error) {
	me, err := c.identityFor(c.suite)
	if err != nil {
		return nil, err
	}
	x, err := groupExtensions(&groupdata.Group{JID: group, Name: name, Handshake: mode}, roles, externalSender)
	if err != nil {
		return nil, err
	}
	st, _, err := c.newGroup(c.suite, me, x)
	return st, err
}

// groupExtensions are the extensions of a GroupContext: what the group has agreed
// on, what its members must support, and the service's key, if it has one, last.
func groupExtensions(group *groupdata.Group, roles *groupdata.Roles, externalSender []byte) (mls.Extensions, error) {
	gd, err := group.Encode()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	rd, err := roles.Encode()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	data := mls.AppData{}.With(groupdata.ComponentGroup, gd).With(groupdata.ComponentRoles, rd)
	x := mls.Extensions{data.Extension(), (&mls.RequiredCapabilities{
		Extensions: []mls.ExtensionType{mls.ExtensionAppDataDictionary},
		Proposals:  []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove},
	}).Extension()}
	if len(externalSender) > 0 {
		sender, err := externalSenders(externalSender)
		if err != nil {
			return nil, fmt.Errorf("client: the delivery service's key for removals: %w", err)
		}
		x = append(x, sender)
	}
	return x, nil
}

// newGroup makes a group of one, and tells which of the extensions it has.
func (c *Client) newGroup(suite mls.CipherSuite, me *mls.Identity, x mls.Extensions) (*mls.Group, mls.Extensions, error) {
	st, err := mls.NewGroup(c.mls, suite, nil, me, &mls.GroupOptions{Extensions: x, DeviceID: c.device[:]})
	var ve *mls.ValidationError
	if last := len(x) - 1; errors.As(err, &ve) && x[last].Type == mls.ExtensionExternalSenders {
		// The service's key is for another signature scheme than the group's:
		// it cannot propose removals here, and a service that insists refuses
		// the group.
		c.log.Info("the delivery service's key does not fit the cipher suite: it cannot remove members by itself", "error", err)
		x = x[:last:last]
		st, err = mls.NewGroup(c.mls, suite, nil, me, &mls.GroupOptions{Extensions: x, DeviceID: c.device[:]})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("client: %w", err)
	}
	return st, x, nil
}

// externalSenders makes the extension of the one ExternalSender that a service
// has advertised, as it is encoded.
func externalSenders(sender []byte) (mls.Extension, error) {
	n := len(sender)
	if n >= 1<<14 {
		return mls.Extension{}, fmt.Errorf("it has %d bytes", n)
	}
	x := mls.Extension{Type: mls.ExtensionExternalSenders, Data: append([]byte{0x40 | byte(n>>8), byte(n)}, sender...)}
	if n < 64 {
		x.Data = append([]byte{byte(n)}, sender...)
	}
	list, err := mls.Extensions{x}.ExternalSenders()
	if err == nil && len(list) != 1 {
		err = fmt.Errorf("it names %d senders", len(list))
	}
	return x, err
}

// bindState gives a state the group's own configuration, by way of its stored
// form.
func (c *Client) bindState(g *Group, st *mls.Group) (*mls.Group, error) {
	bound, err := mls.Load(g.cfg, st.Save())
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return bound, nil
}

// Destroy ends the group for everybody; only owners can. alternate is the JID
// of a group to use instead, and may be empty as reason may.
func (g *Group) Destroy(ctx context.Context, reason, alternate string) error {
	if err := g.c.ask(ctx, "set", g.jid, &stanza.Destroy{JID: alternate, Reason: reason}, nil); err != nil {
		return fmt.Errorf("client: destroying %s: %w", g.jid, err)
	}
	g.update(func(r *received) { g.destroyed(&stanza.Destroyed{JID: alternate, Reason: reason}, r, 0, time.Time{}) })
	return nil
}

// Remove takes accounts, with all their devices, out of the group.
func (g *Group) Remove(ctx context.Context, accounts ...string) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	var who []string
	for _, a := range accounts {
		j, err := bareJID(a)
		if err != nil {
			return err
		}
		if j == g.c.account {
			return errors.New("client: a device cannot remove itself: use Leave")
		}
		who = append(who, j)
	}
	return g.do(ctx, &intent{Op: opRemove, Accounts: who})
}

// The build functions say what to commit in the present state. They are called
// with the lock held, again after every lost race.

func (g *Group) buildRemove(accounts []string) (*mls.CommitOptions, error) {
	o := &mls.CommitOptions{}
	for m := range g.state.Members() {
		if slices.Contains(accounts, leafIdentity(m.Leaf)) {
			o.Remove = append(o.Remove, m.Index)
		}
	}
	st, err := g.agreed()
	if err != nil {
		return nil, err
	}
	roles := st.Roles
	for _, a := range accounts {
		if roles != nil && roles.Entries[a] > groupdata.Outcast {
			// A role that stays would let them come back from outside.
			roles = roles.With(a, groupdata.None)
		}
	}
	if roles != nil && roles != st.Roles {
		if err := setRoles(o, roles); err != nil {
			return nil, err
		}
	}
	if o.Remove == nil && len(o.AppData) == 0 {
		return nil, errNothingToDo
	}
	return o, nil
}

// RemoveDevice takes one device of an account out of the group.
func (g *Group) RemoveDevice(ctx context.Context, account string, device DeviceID) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	account, err := bareJID(account)
	if err != nil {
		return err
	}
	if account == g.c.account && device == g.c.device {
		return errors.New("client: a device cannot remove itself: use Leave")
	}
	return g.do(ctx, &intent{Op: opRemoveDevice, Accounts: []string{account}, Device: device})
}

func (g *Group) buildRemoveDevice(account string, device DeviceID) (*mls.CommitOptions, error) {
	o := &mls.CommitOptions{}
	for m := range g.state.Members() {
		if leafIdentity(m.Leaf) == account && deviceOf(m.Leaf) == device {
			o.Remove = append(o.Remove, m.Index)
		}
	}
	if o.Remove == nil {
		return nil, errNothingToDo
	}
	return o, nil
}

// setRoles puts a new roles component into a commit.
func setRoles(o *mls.CommitOptions, roles *groupdata.Roles) error {
	b, err := roles.Encode()
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	o.AppData = append(o.AppData, &mls.AppDataUpdate{Component: groupdata.ComponentRoles, Op: mls.AppDataUpdateOp, Update: b})
	return nil
}

// SetRole changes what an account may do. Outcast bans it: its devices are
// removed in the same commit.
func (g *Group) SetRole(ctx context.Context, account string, role Role) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	account, err := bareJID(account)
	if err != nil {
		return err
	}
	return g.do(ctx, &intent{Op: opSetRole, Accounts: []string{account}, Role: role})
}

func (g *Group) buildSetRole(account string, role Role) (*mls.CommitOptions, error) {
	st, err := g.agreed()
	if err != nil {
		return nil, err
	}
	if st.Roles == nil {
		return nil, errors.New("client: the group has no roles")
	}
	o := &mls.CommitOptions{}
	if role == groupdata.Outcast {
		for m := range g.state.Members() {
			if leafIdentity(m.Leaf) == account {
				o.Remove = append(o.Remove, m.Index)
			}
		}
	}
	if st.Roles.Of(account, g.accounts[account] > 0) == role && st.Roles.Entries[account] == role && o.Remove == nil {
		return nil, errNothingToDo
	}
	return o, setRoles(o, st.Roles.With(account, role))
}

// SetPolicy changes the rules that are not about one account; only owners can.
func (g *Group) SetPolicy(ctx context.Context, p groupdata.Policy) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	return g.do(ctx, &intent{Op: opSetPolicy, Policy: &p})
}

func (g *Group) buildSetPolicy(p *groupdata.Policy) (*mls.CommitOptions, error) {
	st, err := g.agreed()
	if err != nil {
		return nil, err
	}
	if st.Roles == nil {
		return nil, errors.New("client: the group has no roles")
	}
	if st.Roles.Policy == *p {
		return nil, errNothingToDo
	}
	o := &mls.CommitOptions{}
	return o, setRoles(o, &groupdata.Roles{Policy: *p, Entries: st.Roles.Entries})
}

// Rename changes what people call the group.
func (g *Group) Rename(ctx context.Context, name string) error {
	return g.do(ctx, &intent{Op: opRename, Name: name})
}

func (g *Group) buildRename(name string) (*mls.CommitOptions, error) {
	st, err := g.agreed()
	if err != nil {
		return nil, err
	}
	if st.Group == nil {
		return nil, errors.New("client: the group has no group component")
	}
	if st.Group.Name == name {
		return nil, errNothingToDo
	}
	next := *st.Group
	next.Name = name
	b, err := next.Encode()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &mls.CommitOptions{AppData: []*mls.AppDataUpdate{{Component: groupdata.ComponentGroup, Op: mls.AppDataUpdateOp, Update: b}}}, nil
}

// UpdateKeys changes this device's keys in the group at once, after which a
// stolen copy of the old ones opens nothing new. The client does it on its own
// from time to time.
func (g *Group) UpdateKeys(ctx context.Context) error {
	return g.commit(ctx, func() (*mls.CommitOptions, error) {
		o := &mls.CommitOptions{ForcePath: true}
		if me := g.outdated(); me != nil {
			o.Update = &mls.LeafChange{Identity: me, Capabilities: true}
		}
		return o, nil
	})
}

// Leave takes this device out of the group. Its keys are deleted; with
// everywhere, all devices of the account leave. A member that stays completes
// it, by a commit without this device.
//
// The wish is stored before anything is waited for. When ctx ends, or Close comes, or
// the process dies, before it is fulfilled, as it may while there is no connection,
// the client goes on leaving as soon as it can, also after a restart; a
// [ChangeFailed] event tells if the delivery service refuses.
func (g *Group) Leave(ctx context.Context, everywhere bool) error {
	in := &intent{Op: opLeave, Everywhere: everywhere}
	err := g.remember(in)
	if err == nil {
		err = g.leave(ctx, in)
	}
	if ctx.Err() != nil || g.c.life.Err() != nil || unknownOutcome(err) {
		g.abandoned(in)
	} else {
		g.settled(in)
	}
	return err
}

// remember stores an intent before its change is begun, in a group that this device
// is in, or will be again.
func (g *Group) remember(in *intent) error {
	g.mu.Lock()
	if err := g.load(); err != nil {
		g.mu.Unlock()
		return err
	}
	if s := g.meta.Status; s != statusJoined && s != statusLost {
		g.mu.Unlock()
		return ErrNotMember
	}
	b, ticket := g.b, g.b.add(append(in.store(g), g.metaOp())...)
	g.mu.Unlock()
	return b.flush(ticket)
}

func (g *Group) leave(ctx context.Context, in *intent) error {
	if err := g.usable(ctx); err != nil {
		if in.row != "" && errors.Is(err, ErrNotMember) {
			return nil // an earlier attempt did it
		}
		return err
	}
	if in.Everywhere && g.private() && g.otherDevices(g.state) != nil {
		// The service cannot see them off, as it does elsewhere: it has no tree.
		g.mu.Unlock()
		err := g.commit(ctx, func() (*mls.CommitOptions, error) {
			if out := g.otherDevices(g.state); out != nil {
				return &mls.CommitOptions{Remove: out}, nil
			}
			return nil, errNothingToDo
		})
		if err != nil {
			return fmt.Errorf("client: leaving with the other devices: %w", err)
		}
		return g.leave(ctx, in)
	}
	// In a group with private handshakes, too: it is sent in no other way.
	msg, _, err := g.state.ProposeSelfRemove(&mls.ProposeOptions{Wire: mls.WireFormatPublicMessage})
	if err != nil {
		g.mu.Unlock()
		return fmt.Errorf("client: leaving: %w", err)
	}
	epoch := g.state.Epoch()
	alone := len(g.accounts) == 1 && g.state.MemberCount() == 1
	g.meta.Leaving = true
	ticket := g.b.add(append(in.store(g), append(g.stateOps(), g.metaOp())...)...)
	b := g.b
	g.mu.Unlock()
	if err := b.flush(ticket); err != nil {
		return err
	}
	g.c.fail("leave-stored")
	submit := func() error {
		if alone {
			// Nobody is left to commit it: the group ends with its last member.
			return g.Destroy(ctx, "", "")
		}
		req := &stanza.Leave{Proposals: []stanza.Proposal{{Epoch: epoch, Ref: stanza.MessageRef(msg.Bytes()), Bytes: msg.Bytes()}}}
		if !in.Everywhere {
			req.Device = g.c.device
		}
		return g.c.ask(ctx, "set", g.jid, req, new(stanza.Accepted))
	}
	lost := 0
	for {
		err := submit()
		var se *stanza.StaleEpoch
		switch {
		case err == nil, isOut(err):
			g.update(func(r *received) { g.left(r) })
			g.setStatusAfterLeave()
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("client: leaving %s: %w (last: %w)", g.jid, ctx.Err(), err)
		case g.c.alive() != nil:
			return err
		case errors.As(err, &se):
			if err = g.catchUp(ctx, se.Head); err == nil {
				return g.leave(ctx, in)
			}
		case retryAfter(err) > 0:
			g.c.waitAsked(ctx, g.host, err)
			continue
		case !unknownOutcome(err) && !errors.Is(err, ErrOffline):
			g.stay()
			return fmt.Errorf("client: leaving %s: %w", g.jid, err)
		}
		// It may be said twice: the service knows it by its ref, or knows that
		// this device is gone.
		g.pauseLost(ctx, err, &lost)
		g.c.waitLink(ctx)
	}
}

// otherDevices are the leaves of the account's other devices in a state.
func (g *Group) otherDevices(st *mls.Group) (out []mls.LeafIndex) {
	for m := range st.Members() {
		if leafIdentity(m.Leaf) == g.c.account && deviceOf(m.Leaf) != g.c.device {
			out = append(out, m.Index)
		}
	}
	return out
}

// isOut reports whether a refusal says that there is nothing to leave any more.
func isOut(err error) bool {
	var nm *stanza.NotAMember
	var e *stanza.Error
	return errors.As(err, &nm) || errors.As(err, &e) && e.Condition == stanza.Gone
}

// stay takes back that this device is leaving: it was refused.
func (g *Group) stay() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.meta.Leaving = false
	g.b.add(g.metaOp())
	g.flushSoon()
}

func (g *Group) setStatusAfterLeave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.meta.Status == statusJoined || g.meta.Status == statusGone {
		g.setStatus(statusLeft)
		g.b.add(g.metaOp())
		g.flushSoon()
	}
}
