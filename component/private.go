// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"fmt"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file orders the commits of groups whose handshakes are private
// (xep/mls-delivery.xml#private).

// checkPrivateCommit orders a commit that we cannot read: all that is known is
// its epoch, who sent it, and what the sender declares for the fan-out.
func (g *group) checkPrivateCommit(r *request, st *groupState, c *submittedCommit) (*store.Commit, *commitEffect, error) {
	e := &commitEffect{rules: &groupdata.Change{Committer: r.from.bare, External: c.External, Old: st.data, New: st.data}}
	if c.External {
		if c.msg.Public == nil || c.msg.Public.Content.Commit == nil || c.msg.Public.Content.Commit.Path == nil {
			return nil, nil, &stanza.InvalidMessage{Part: "message", Reason: "an external commit is a PublicMessage with a path (RFC 9420 §12.4.3.2)"}
		}
		user, device, err := leafIdentity(c.msg.Public.Content.Commit.Path.LeafNode)
		if err != nil {
			return nil, nil, invalid("message", err)
		}
		if user != r.from.bare {
			return nil, nil, &stanza.CredentialMismatch{}
		}
		if st.data.Roles != nil {
			if err := st.data.Roles.CanJoin(user, st.inTree(user)); err != nil {
				return nil, nil, err
			}
		} else if !st.inTree(user) {
			return nil, nil, st.outsider()
		}
		if st.hasDevice(user, device) {
			e.left = append(e.left, store.Leaver{User: user, Device: device})
		}
		e.joined = append(e.joined, store.Joiner{User: user, Device: device, Leaf: st.freeLeaf()})
		if err := st.joinerDeclares(user, c.Members); err != nil {
			return nil, nil, err
		}
	} else {
		if c.msg.Private == nil {
			return nil, nil, &stanza.InvalidMessage{Part: "message", Reason: "this group's handshakes are PrivateMessages"}
		}
		if err := st.mustBeMember(r.from.bare); err != nil {
			return nil, nil, err
		}
	}
	if c.Members != nil {
		gone, come := make(map[store.Leaver]bool), make(map[store.Leaver]bool)
		for _, l := range e.left {
			gone[l] = true
		}
		for _, j := range e.joined {
			come[store.Leaver{User: j.User, Device: j.Device}] = true
		}
		for _, m := range c.Members.Removed {
			a, err := parseAddr(m.JID)
			if err != nil {
				return nil, nil, stanza.NewError(stanza.JIDMalformed, "A removed member's address is malformed.")
			}
			l := store.Leaver{User: a.bare, Device: m.Device.String()}
			if st.hasDevice(l.User, l.Device) && !gone[l] {
				gone[l] = true
				e.left = append(e.left, l)
			}
		}
		leaf := st.freeLeaf()
		for _, m := range c.Members.Added {
			a, err := parseAddr(m.JID)
			if err != nil {
				return nil, nil, stanza.NewError(stanza.JIDMalformed, "An added member's address is malformed.")
			}
			if st.role(a.bare) == groupdata.Outcast {
				return nil, nil, &groupdata.RuleError{Rule: "role-add", Reason: a.bare + " is banned from the group"}
			}
			l := store.Leaver{User: a.bare, Device: m.Device.String()}
			if come[l] || st.hasDevice(l.User, l.Device) && !gone[l] {
				return nil, nil, &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("device %s of %s is in the group already", l.Device, l.User)}
			}
			come[l] = true
			leaf++
			e.joined = append(e.joined, store.Joiner{User: a.bare, Device: m.Device.String(), Leaf: leaf})
			e.added = append(e.added, addedPackage{m.KeyPackageRef, a.bare, m.Device.String()})
		}
	}
	if st.leaves+len(e.joined)-len(e.left) > g.s.limits.MaxMembers {
		return nil, nil, tooManyMembers(g.s.limits.MaxMembers)
	}
	if c.groupInfo != nil {
		ctx := &c.groupInfo.Context
		if !bytes.Equal(ctx.GroupID, st.row.GroupID) || ctx.Epoch != c.Epoch+1 {
			return nil, nil, &stanza.GroupInfoMismatch{}
		}
		if len(ctx.Bytes()) > g.s.limits.MaxContextBytes {
			return nil, nil, &stanza.TooLarge{MaxBytes: uint64(g.s.limits.MaxContextBytes)}
		}
	}
	change := &store.Commit{
		Group: st.row.Key, Rev: st.row.Rev, Epoch: c.Epoch,
		Ref: c.ref, ID: g.s.entryID(), Sender: r.from.bare, Stamp: g.s.stamp(), Bytes: c.message,
		GroupInfo: c.infoBytes, Left: e.left, Joined: e.joined,
	}
	if next, ok := st.agreedAfter(r.from.bare, c.groupInfo); ok {
		e.rules.New = next
		conf := st.conf
		conf.setAgreed(next)
		change.Config, change.Roles = conf.encode(), roleRows(st.data.Roles, next.Roles)
	}
	return change, e, nil
}

// joinerDeclares holds what a joiner from outside declares against what an
// external commit can do: it adds nobody else, and removes devices of the
// joiner's own account and those that are leaving by themselves (RFC 9420
// §12.4.3.2). Members can be lied to by members; a stranger must not be able to
// cut them all off.
func (st *groupState) joinerDeclares(user string, m *stanza.MemberChanges) error {
	if m == nil {
		return nil
	}
	if len(m.Added) > 0 {
		return &stanza.InvalidMessage{Part: "message", Reason: "an external commit adds nobody but its sender"}
	}
	leaving := make(map[string]int)
	for i := range st.pending {
		e := &st.pending[i].entry
		if p, err := mls.ParseMessage(e.Bytes); err == nil && p.Public != nil { // in private mode only a SelfRemove is
			leaving[e.Sender]++
		}
	}
	for _, r := range m.Removed {
		a, err := parseAddr(r.JID)
		if err != nil {
			return stanza.NewError(stanza.JIDMalformed, "A removed member's address is malformed.")
		}
		if a.bare == user {
			continue
		}
		if leaving[a.bare]--; leaving[a.bare] < 0 {
			return &stanza.InvalidMessage{Part: "message", Reason: fmt.Sprintf("an external commit cannot remove devices of %s, who is not leaving", a.bare)}
		}
	}
	return nil
}

// agreedAfter gives the state that a commit's GroupInfo announces, if it differs
// from the one that the service goes by and the committer has the right to make
// the change. Without that right it may all the same be what the group agreed
// on (somebody else proposed it): the service then waits for the GroupInfo of
// one who has it.
func (st *groupState) agreedAfter(committer string, gi *mls.GroupInfo) (groupdata.State, bool) {
	if gi == nil || st.data.Roles == nil {
		return groupdata.State{}, false
	}
	next := agreedLoose(&gi.Context)
	if next.Roles == nil || next.Group == nil || *next.Group == *st.data.Group && next.Roles.Equal(st.data.Roles) {
		return groupdata.State{}, false
	}
	if groupdata.Check(&groupdata.Change{Committer: committer, Old: st.data, New: next, InTree: st.inTree}) != nil {
		return groupdata.State{}, false
	}
	return next, true
}

// freeLeaf is a number above all leaves: in private mode they only tell rows
// apart.
func (st *groupState) freeLeaf() uint32 {
	var n uint32
	for _, list := range st.members {
		for _, d := range list {
			n = max(n, uint32(d.leaf)+1)
		}
	}
	return n
}

func tooManyMembers(limit int) error {
	return stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("A group of this service has at most %d devices.", limit))
}
