// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"fmt"
	"maps"
	"slices"
)

// This file contains the rules that roles imply. The delivery service applies
// them before it accepts a proposal or commit, and every member applies them
// again before it merges: a delivery service that is bribed cannot appoint an
// admin, and a member that ignores them is not followed by the others.

// OpKind is the kind of one proposal, as far as the rules care.
type OpKind uint8

const (
	OpAdd        OpKind = iota + 1 // Target: JID in the new leaf's credential
	OpUpdate                       // Target: JID in the new leaf's credential
	OpRemove                       // Target: JID of the removed leaf
	OpSelfRemove                   // the actor leaves
	OpPSK                          // a pre-shared key is mixed in
	OpExternal                     // ExternalInit
	OpAppData                      // AppDataUpdate
	OpContext                      // GroupContextExtensions
	OpReInit                       // ReInit
	OpOther                        // a proposal type that lockstep does not use
)

var opNames = [...]string{"", "add", "update", "remove", "self-remove", "psk", "external-init", "app-data-update", "group-context-extensions", "reinit", "unknown"}

// String names the proposal type.
func (k OpKind) String() string {
	if k > 0 && int(k) < len(opNames) {
		return opNames[k]
	}
	return fmt.Sprintf("op %d", uint8(k))
}

// Op is one proposal: of a commit, or sent alone.
type Op struct {
	Kind OpKind
	// Actor is the bare JID of who proposes it: of the proposal's sender when
	// the commit has it by reference, of the committer when by value. It is
	// empty for the delivery service, which proposes as an external sender.
	Actor  string
	Target string
}

// State is what the group agreed on in one epoch.
type State struct {
	Group *Group
	Roles *Roles
}

// Change is what a commit does, or what a proposal asks for.
type Change struct {
	// Committer is the bare JID of who commits; empty when Ops holds a proposal
	// that was sent alone. In an external commit it is the joiner.
	Committer string
	External  bool // it is an external commit
	Ops       []Op
	Old       State
	// New is the state after the commit. Nil pointers mean that the commit
	// takes the component away, which is never allowed. It is ignored when
	// Committer is empty.
	New State
	// InTree reports whether an account has a device in the group before the
	// change, Devices counts its devices after the change. A nil Devices turns
	// the limit of devices off (for proposals that are not committed yet).
	InTree  func(jid string) bool
	Devices func(jid string) int
}

// RuleError says which rule a change breaks. Its text is fit to be shown to the
// one who asked for the change.
type RuleError struct {
	Rule   string // stable identifier, as in "role-add"
	Need   Role   // the least role that could have done it; None if no role can
	Reason string
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("groupdata: rule %s: %s", e.Rule, e.Reason)
}

func refuse(rule string, need Role, format string, args ...any) error {
	return &RuleError{Rule: rule, Need: need, Reason: fmt.Sprintf(format, args...)}
}

// Check applies every rule to a change. The error is a *[RuleError].
//
//	role-actor     who proposes or commits has a role that is not outcast
//	role-add       adding another account takes policy.add; outcasts are not added
//	role-remove    removing another account takes policy.remove and a greater role
//	role-update    a leaf stays with its account
//	role-service   the delivery service proposes removals only
//	role-join      who joins from outside is allowed to, and brings nothing else along
//	role-context   group context extensions are changed by admins
//	role-reinit    owners reinitialise
//	role-proposal  unknown proposal types are refused
//	role-devices   no account has more devices than policy.max_devices
//	group-bound    JID and handshake mode never change, and the component stays
//	group-name     the name is changed by policy.rename
//	roles-rank     a role is given or taken by those who outrank it, before and after
//	roles-policy   the policy is changed by owners
//	roles-owner    a group keeps an owner
func Check(c *Change) error {
	if c.Old.Group == nil || c.Old.Roles == nil {
		return refuse("group-bound", None, "the group has no group or roles component")
	}
	if c.External {
		if err := c.checkJoin(); err != nil {
			return err
		}
	} else if c.Committer != "" {
		if r := c.role(c.Committer); r < Visitor {
			return refuse("role-actor", Visitor, "%s has the role %s and may not commit", c.Committer, r)
		}
	}
	for _, op := range c.Ops {
		if err := c.checkOp(op); err != nil {
			return err
		}
	}
	if c.Committer == "" {
		return nil
	}
	return c.checkState()
}

func (c *Change) role(jid string) Role {
	return c.Old.Roles.Of(jid, c.InTree != nil && c.InTree(jid))
}

// CanJoin reports whether an account may join by an external commit.
func (r *Roles) CanJoin(jid string, inTree bool) error {
	role := r.Of(jid, inTree)
	switch {
	case role == Outcast:
		return refuse("role-join", None, "%s is banned from the group", jid)
	case r.Policy.ExternalJoin == AnyoneJoins:
		return nil
	case r.Policy.ExternalJoin == NobodyJoins:
		return refuse("role-join", None, "nobody joins this group from outside: ask an admin to be added")
	case role < Visitor:
		return refuse("role-join", Visitor, "%s has no role in the group: ask an admin to be added", jid)
	}
	return nil
}

// CanSend reports whether an account may send application messages.
func (r *Roles) CanSend(jid string, inTree bool) error {
	if role := r.Of(jid, inTree); role < r.Policy.Send {
		return refuse("role-send", r.Policy.Send, "%s has the role %s, sending takes %s", jid, role, r.Policy.Send)
	}
	return nil
}

func (c *Change) checkJoin() error {
	if err := c.Old.Roles.CanJoin(c.Committer, c.InTree != nil && c.InTree(c.Committer)); err != nil {
		return err
	}
	for _, op := range c.Ops {
		switch {
		case op.Kind == OpExternal, op.Kind == OpPSK, op.Kind == OpSelfRemove:
		case op.Kind == OpRemove && op.Actor == c.Committer && op.Target == c.Committer:
		default:
			return refuse("role-join", None, "an external commit may only remove old devices of the joiner, not %s %s", op.Kind, op.Target)
		}
	}
	return c.checkDevices(c.Committer)
}

func (c *Change) checkOp(op Op) error {
	p := &c.Old.Roles.Policy
	if op.Actor == "" {
		if op.Kind != OpRemove {
			return refuse("role-service", None, "an external sender may only propose removals, not %s", op.Kind)
		}
		return nil
	}
	actor := c.role(op.Actor)
	own := op.Actor == op.Target
	if c.External && op.Actor == c.Committer {
		return nil // checkJoin has seen it
	}
	if actor < Visitor {
		return refuse("role-actor", Visitor, "%s has the role %s and may not propose", op.Actor, actor)
	}
	switch op.Kind {
	case OpAdd:
		if !own && actor < p.Add {
			return refuse("role-add", p.Add, "%s has the role %s, adding %s takes %s", op.Actor, actor, op.Target, p.Add)
		}
		// What the commit says about the target counts: lifting a ban and
		// adding the account may come together.
		after := c.Old.Roles
		if c.Committer != "" && c.New.Roles != nil {
			after = c.New.Roles
		}
		if after.Of(op.Target, false) == Outcast {
			return refuse("role-add", None, "%s is banned from the group", op.Target)
		}
		return c.checkDevices(op.Target)
	case OpRemove:
		if own {
			return nil
		}
		if actor < p.Remove {
			return refuse("role-remove", p.Remove, "%s has the role %s, removing %s takes %s", op.Actor, actor, op.Target, p.Remove)
		}
		if target := c.role(op.Target); !outranks(actor, target) {
			return refuse("role-remove", min(target+1, Owner), "%s has the role %s and cannot remove %s, who is %s", op.Actor, actor, op.Target, target)
		}
	case OpUpdate:
		if !own {
			return refuse("role-update", None, "the leaf of %s cannot become one of %s", op.Actor, op.Target)
		}
	case OpSelfRemove, OpPSK:
	case OpAppData: // checkState compares before and after
	case OpContext:
		if actor < Admin {
			return refuse("role-context", Admin, "%s has the role %s, changing group context extensions takes admin", op.Actor, actor)
		}
	case OpReInit:
		if actor < Owner {
			return refuse("role-reinit", Owner, "%s has the role %s, reinitialising takes owner", op.Actor, actor)
		}
	default:
		return refuse("role-proposal", None, "proposals of type %s are not used in this group", op.Kind)
	}
	return nil
}

func (c *Change) checkDevices(jid string) error {
	limit := int(c.Old.Roles.Policy.MaxDevices)
	if limit == 0 || c.Devices == nil {
		return nil
	}
	if n := c.Devices(jid); n > limit {
		return refuse("role-devices", None, "%s would have %d devices in the group, %d are allowed", jid, n, limit)
	}
	return nil
}

// outranks reports whether a may change the standing of one who is b. Owners
// may change each other's.
func outranks(a, b Role) bool { return a == Owner || a > b }

// checkState compares the components before and after. Every actor that changed
// them must have had the right to.
func (c *Change) checkState() error {
	if c.New.Group == nil || c.New.Roles == nil {
		return refuse("group-bound", None, "a commit may not take the group or roles component away")
	}
	oldGroup, newGroup, oldRoles, newRoles := c.Old.Group, c.New.Group, c.Old.Roles, c.New.Roles
	if oldGroup == newGroup && oldRoles == newRoles {
		return nil // nearly every commit: however many roles there are
	}
	if oldGroup.JID != newGroup.JID || oldGroup.Handshake != newGroup.Handshake {
		return refuse("group-bound", None, "the group's JID and handshake mode cannot change")
	}
	if newRoles.Owners() == 0 {
		return refuse("roles-owner", None, "the group would have no owner")
	}
	if *oldGroup == *newGroup && oldRoles.Equal(newRoles) {
		return nil
	}
	for _, actor := range c.stateActors() {
		role := c.role(actor)
		if oldGroup.Name != newGroup.Name && role < oldRoles.Policy.Rename {
			return refuse("group-name", oldRoles.Policy.Rename, "%s has the role %s, renaming takes %s", actor, role, oldRoles.Policy.Rename)
		}
		if oldRoles.Policy != newRoles.Policy && role < Owner {
			return refuse("roles-policy", Owner, "%s has the role %s, changing the policy takes owner", actor, role)
		}
		if err := c.checkRoleChanges(actor, role); err != nil {
			return err
		}
	}
	return nil
}

// stateActors lists who asked for a change of the components, in order of
// appearance: with none, the committer answers for it.
func (c *Change) stateActors() []string {
	var actors []string
	for _, op := range c.Ops {
		if (op.Kind == OpAppData || op.Kind == OpContext) && !slices.Contains(actors, op.Actor) {
			actors = append(actors, op.Actor)
		}
	}
	if actors == nil {
		actors = []string{c.Committer}
	}
	return actors
}

func (c *Change) checkRoleChanges(actor string, role Role) error {
	before, after := c.Old.Roles.Entries, c.New.Roles.Entries
	for _, jid := range slices.Sorted(maps.Keys(union(before, after))) {
		if before[jid] == after[jid] {
			continue
		}
		// What counts is the role that the account has in effect: taking an
		// entry away may raise it to policy.unlisted.
		inTree := c.InTree != nil && c.InTree(jid)
		from, to := c.Old.Roles.Of(jid, inTree), c.New.Roles.Of(jid, inTree)
		if jid == actor && to < from {
			continue // the actor gives up a role
		}
		top := max(from, to, before[jid], after[jid])
		if !outranks(role, top) {
			return refuse("roles-rank", min(top+1, Owner), "%s has the role %s and cannot make %s, who is %s, %s", actor, role, jid, from, to)
		}
		if role < Admin {
			return refuse("roles-rank", Admin, "%s has the role %s, giving roles takes admin", actor, role)
		}
	}
	return nil
}

func union(a, b map[string]Role) map[string]Role {
	u := make(map[string]Role, len(a)+len(b))
	maps.Copy(u, a)
	maps.Copy(u, b)
	return u
}
