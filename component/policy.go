// SPDX-License-Identifier: Apache-2.0

package component

import (
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file applies a group's policy before a commit is accepted. The rules
// themselves are shared with the members: see groupdata. What is added here is
// the service's own: its bans and its limits.

// checkPolicy applies the rules to a commit.
func (g *group) checkPolicy(st *groupState, e *commitEffect) error {
	if err := groupdata.Check(e.rules); err != nil {
		return err
	}
	for _, j := range e.joined {
		if st.banned[domainOf(j.User)] || st.banned[j.User] && e.rules.New.Roles.Entries[j.User] == groupdata.Outcast {
			return &groupdata.RuleError{Rule: "role-add", Reason: j.User + " is banned from the group"}
		}
		// A ban of the service's own, which the roles component does not know,
		// is lifted by a commit that gives the account a role.
		if _, listed := e.rules.New.Roles.Entries[j.User]; st.banned[j.User] && !listed {
			return &groupdata.RuleError{Rule: "role-add", Need: groupdata.None, Reason: j.User + " is banned from the group: give the account a role to lift the ban"}
		}
	}
	if st.leaves+len(e.joined)-len(e.left) > g.s.limits.MaxMembers {
		return tooManyMembers(g.s.limits.MaxMembers)
	}
	return nil
}
