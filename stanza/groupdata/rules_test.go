// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"errors"
	"testing"
)

const (
	juliet   = "juliet@capulet.lit"     // owner
	nurse    = "nurse@capulet.lit"      // admin
	romeo    = "romeo@montague.lit"     // member by being in the tree
	mercutio = "mercutio@verona.lit"    // visitor by entry
	tybalt   = "tybalt@capulet.lit"     // outcast
	paris    = "paris@verona.lit"       // member by entry, not in the tree
	mallory  = "mallory@mantua.example" // nobody
)

func verona() State {
	r := NewRoles(juliet, DefaultPolicy())
	r.Entries[nurse], r.Entries[mercutio], r.Entries[tybalt], r.Entries[paris] = Admin, Visitor, Outcast, Member
	return State{Group: &Group{JID: "balcony@mls.capulet.lit", Name: "Balcony", Handshake: Public}, Roles: r}
}

func inVerona(jid string) bool {
	return jid == juliet || jid == nurse || jid == romeo || jid == mercutio
}

func commit(by string, ops ...Op) *Change {
	for i := range ops {
		if ops[i].Actor == "" {
			ops[i].Actor = by
		}
	}
	return &Change{Committer: by, Ops: ops, Old: verona(), New: verona(), InTree: inVerona}
}

func (c *Change) with(f func(s *State)) *Change {
	c.Ops = append(c.Ops, Op{Kind: OpAppData, Actor: c.Committer})
	f(&c.New)
	return c
}

func (c *Change) external() *Change { c.External = true; return c }

func service(c *Change) *Change {
	for i := range c.Ops {
		c.Ops[i].Actor = ""
	}
	return c
}

func setRole(jid string, r Role) func(*State) {
	return func(s *State) { s.Roles = s.Roles.With(jid, r) }
}

func TestRules(t *testing.T) {
	two := func(string) int { return 2 }
	limited := func(c *Change) *Change {
		c.Old.Roles.Policy.MaxDevices, c.New.Roles.Policy.MaxDevices, c.Devices = 1, 1, two
		return c
	}
	join := func(p ExternalJoin, by string, ops ...Op) *Change {
		c := commit(by, append([]Op{{Kind: OpExternal}}, ops...)...).external()
		c.Old.Roles.Policy.ExternalJoin, c.New.Roles.Policy.ExternalJoin = p, p
		return c
	}
	announce := verona()
	announce.Roles.Policy.Send = Admin
	for _, tc := range []struct {
		name string
		c    *Change
		rule string // "" means allowed
		need Role
	}{
		{"an empty commit by a visitor", commit(mercutio), "", 0},
		{"a commit by a stranger", commit(mallory), "role-actor", Visitor},
		{"an admin adds", commit(nurse, Op{Kind: OpAdd, Target: mallory}), "", 0},
		{"a member adds", commit(romeo, Op{Kind: OpAdd, Target: mallory}), "role-add", Admin},
		{"a member adds an own device", commit(romeo, Op{Kind: OpAdd, Target: romeo}), "", 0},
		{"an own device too many", limited(commit(romeo, Op{Kind: OpAdd, Target: romeo})), "role-devices", 0},
		{"an owner adds an outcast", commit(juliet, Op{Kind: OpAdd, Target: tybalt}), "role-add", 0},
		{"an owner forgives and adds", commit(juliet, Op{Kind: OpAdd, Target: tybalt}).with(setRole(tybalt, None)), "", 0},
		{"an admin removes a member", commit(nurse, Op{Kind: OpRemove, Target: romeo}), "", 0},
		{"an admin removes an owner", commit(nurse, Op{Kind: OpRemove, Target: juliet}), "role-remove", Owner},
		{"a member removes a member", commit(romeo, Op{Kind: OpRemove, Target: mercutio}), "role-remove", Admin},
		{"a member removes an own device", commit(romeo, Op{Kind: OpRemove, Target: romeo}), "", 0},
		{"a committed proposal counts for its sender", commit(romeo, Op{Kind: OpRemove, Target: mercutio, Actor: nurse}), "", 0},
		{"a committer lends no rights to a sender", commit(juliet, Op{Kind: OpRemove, Target: mercutio, Actor: romeo}), "role-remove", Admin},
		{"the service removes an owner", service(commit(romeo, Op{Kind: OpRemove, Target: juliet})), "", 0},
		{"the service adds", service(commit(romeo, Op{Kind: OpAdd, Target: mallory})), "role-service", 0},
		{"an update keeps the account", commit(juliet, Op{Kind: OpUpdate, Actor: romeo, Target: romeo}), "", 0},
		{"an update changes the account", commit(juliet, Op{Kind: OpUpdate, Actor: romeo, Target: mallory}), "role-update", 0},
		{"a member changes extensions", commit(romeo, Op{Kind: OpContext}), "role-context", Admin},
		{"an admin changes extensions", commit(nurse, Op{Kind: OpContext}), "", 0},
		{"an admin reinitialises", commit(nurse, Op{Kind: OpReInit}), "role-reinit", Owner},
		{"an owner reinitialises", commit(juliet, Op{Kind: OpReInit}), "", 0},
		{"an unknown proposal", commit(juliet, Op{Kind: OpOther}), "role-proposal", 0},

		{"an admin makes a member", commit(nurse).with(setRole(mercutio, Member)), "", 0},
		{"an admin makes an admin", commit(nurse).with(setRole(romeo, Admin)), "roles-rank", Owner},
		{"an admin deposes an owner", commit(nurse).with(setRole(juliet, Member)), "roles-owner", 0},
		{"an owner makes an owner", commit(juliet).with(setRole(romeo, Owner)), "", 0},
		{"a visitor sheds the entry that silences it", commit(mercutio).with(setRole(mercutio, None)), "roles-rank", Admin},
		{"a member bans", commit(romeo).with(setRole(mallory, Outcast)), "roles-rank", Admin},
		{"a member appoints itself", commit(romeo).with(setRole(romeo, Owner)), "roles-rank", Owner},
		{"an admin steps down", commit(nurse).with(setRole(nurse, Member)), "", 0},
		{"the last owner steps down", commit(juliet).with(setRole(juliet, Member)), "roles-owner", 0},
		{"an admin changes the policy", commit(nurse).with(func(s *State) { s.Roles.Policy.Send = Visitor }), "roles-policy", Owner},
		{"an owner changes the policy", commit(juliet).with(func(s *State) { s.Roles.Policy.Send = Visitor }), "", 0},
		{"a member renames", commit(romeo).with(func(s *State) { s.Group.Name = "x" }), "group-name", Admin},
		{"an admin renames", commit(nurse).with(func(s *State) { s.Group.Name = "x" }), "", 0},
		{"an owner moves the group", commit(juliet).with(func(s *State) { s.Group.JID = "tomb@mls.capulet.lit" }), "group-bound", 0},
		{"an owner hides the handshakes", commit(juliet).with(func(s *State) { s.Group.Handshake = Private }), "group-bound", 0},
		{"an owner drops the roles", commit(juliet).with(func(s *State) { s.Roles = nil }), "group-bound", 0},
		{"a change without a proposal is the committer's", func() *Change {
			c := commit(romeo)
			setRole(romeo, Owner)(&c.New)
			return c
		}(), "roles-rank", Owner},

		{"a member joins with a new device", join(MembersJoin, romeo), "", 0},
		{"a member comes back", join(MembersJoin, romeo, Op{Kind: OpRemove, Target: romeo}), "", 0},
		{"a member throws another out on joining", join(MembersJoin, romeo, Op{Kind: OpRemove, Target: mercutio}), "role-join", 0},
		{"a listed member joins", join(MembersJoin, paris), "", 0},
		{"a stranger joins", join(MembersJoin, mallory), "role-join", Visitor},
		{"a stranger joins an open group", join(AnyoneJoins, mallory), "", 0},
		{"an outcast joins an open group", join(AnyoneJoins, tybalt), "role-join", 0},
		{"a member joins a closed group", join(NobodyJoins, romeo), "role-join", 0},
		{"a joiner appoints itself", join(AnyoneJoins, mallory, Op{Kind: OpAppData}), "role-join", 0},
		{"a joiner carries out who leaves", join(AnyoneJoins, mallory, Op{Kind: OpSelfRemove, Actor: romeo}), "", 0},
		{"a joiner appoints itself without a proposal", func() *Change {
			c := join(AnyoneJoins, mallory)
			setRole(mallory, Owner)(&c.New)
			return c
		}(), "roles-rank", Owner},

		{"a lone proposal by a member to add", &Change{Ops: []Op{{Kind: OpAdd, Actor: romeo, Target: mallory}}, Old: verona(), InTree: inVerona}, "role-add", Admin},
		{"a lone proposal by the service", &Change{Ops: []Op{{Kind: OpRemove, Target: romeo}}, Old: verona(), InTree: inVerona}, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Check(tc.c)
			var re *RuleError
			switch {
			case tc.rule == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.rule != "" && err == nil:
				t.Errorf("allowed, want rule %s", tc.rule)
			case tc.rule != "" && (!errors.As(err, &re) || re.Rule != tc.rule || re.Need != tc.need):
				t.Errorf("refused with %v (need %v), want rule %s (need %v)", err, re.Need, tc.rule, tc.need)
			}
		})
	}
	for jid, ok := range map[string]bool{juliet: true, nurse: true, romeo: false, mercutio: false} {
		if err := announce.Roles.CanSend(jid, true); (err == nil) != ok {
			t.Errorf("CanSend(%s) in an announcement group = %v, want allowed %v", jid, err, ok)
		}
	}
	if err := verona().Roles.CanSend(mercutio, true); err == nil {
		t.Error("a visitor may send")
	}
}

func TestRoleNames(t *testing.T) {
	for r := None; r <= Owner; r++ {
		if got, err := ParseRole(r.String()); err != nil || got != r {
			t.Errorf("ParseRole(%q) = %v, %v", r, got, err)
		}
	}
	for j := NobodyJoins; j < joinSentinel; j++ {
		if got, err := ParseExternalJoin(j.String()); err != nil || got != j {
			t.Errorf("ParseExternalJoin(%q) = %v, %v", j, got, err)
		}
	}
	if _, err := ParseRole("moderator"); err == nil {
		t.Error("an unknown role parses")
	}
	if _, err := ParseExternalJoin("all"); err == nil {
		t.Error("an unknown policy parses")
	}
}
