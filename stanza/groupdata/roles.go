// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Role is what an account may do in a group. Roles are ordered: a greater one
// includes the rights of the lesser ones.
type Role uint8

const (
	None    Role = iota // not in the group
	Outcast             // banned: must not be added nor join
	Visitor             // reads
	Member              // reads and writes
	Admin               // changes membership
	Owner               // changes roles and policy, ends the group
)

var roleNames = [...]string{"none", "outcast", "visitor", "member", "admin", "owner"}

// String gives the word that is used on the wire (XEP-0045's affiliations, and
// "visitor").
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// ParseRole is the reverse of [Role.String].
func ParseRole(s string) (Role, error) {
	if i := slices.Index(roleNames[:], s); i >= 0 {
		return Role(i), nil
	}
	return None, fmt.Errorf("groupdata: unknown role %q: use one of %q", s, roleNames)
}

// ExternalJoin says who may join by an external commit (RFC 9420 §12.4.3.2).
// Rejoining after a loss of state and adding a new device of one's own are
// external joins too.
type ExternalJoin uint8

const (
	NobodyJoins  ExternalJoin = 0 // everyone must be added by a member
	MembersJoin  ExternalJoin = 1 // accounts that have a role: own devices, resync
	AnyoneJoins  ExternalJoin = 2 // everyone but outcasts
	joinSentinel ExternalJoin = 3
)

var joinNames = [...]string{"nobody", "members", "anyone"}

// String gives the word that is used on the wire.
func (j ExternalJoin) String() string {
	if j < joinSentinel {
		return joinNames[j]
	}
	return fmt.Sprintf("external join %d", uint8(j))
}

// ParseExternalJoin is the reverse of [ExternalJoin.String].
func ParseExternalJoin(s string) (ExternalJoin, error) {
	if i := slices.Index(joinNames[:], s); i >= 0 {
		return ExternalJoin(i), nil
	}
	return 0, fmt.Errorf("groupdata: unknown external join policy %q: use one of %q", s, joinNames)
}

// Policy is the part of [Roles] that is not about one account.
type Policy struct {
	Add          Role // least role that may add accounts other than its own
	Remove       Role // least role that may remove accounts other than its own
	Send         Role // least role that may send application messages; Admin makes it an announcement group
	Rename       Role // least role that may change the group's name
	Unlisted     Role // role of accounts that are in the tree and have no entry: Visitor or Member
	ExternalJoin ExternalJoin
	MaxDevices   uint16 // leaves per account; 0 means no limit
}

// DefaultPolicy is what a group gets when its creator asks for nothing else:
// admins change the membership, members write, accounts with a role may bring
// new devices and come back after a loss of state.
func DefaultPolicy() Policy {
	return Policy{Add: Admin, Remove: Admin, Send: Member, Rename: Admin, Unlisted: Member, ExternalJoin: MembersJoin}
}

// Roles is the content of [ComponentRoles].
type Roles struct {
	Policy Policy
	// Entries maps normalised bare JIDs to their role. An account without an
	// entry has the role Policy.Unlisted while one of its devices is in the
	// tree, and None otherwise, so that a large group of plain members needs
	// no entries. A value is never None.
	Entries map[string]Role
}

const rolesVersion = 1

// NewRoles gives the roles of a new group: its creator owns it.
func NewRoles(owner string, p Policy) *Roles {
	return &Roles{Policy: p, Entries: map[string]Role{owner: Owner}}
}

// Of gives the role of an account. inTree says whether one of its devices is in
// the group now.
func (r *Roles) Of(jid string, inTree bool) Role {
	if role, ok := r.Entries[jid]; ok {
		return role
	}
	if inTree {
		return r.Policy.Unlisted
	}
	return None
}

// With gives a copy in which one account has another role. None removes the
// account's entry.
func (r *Roles) With(jid string, role Role) *Roles {
	n := &Roles{Policy: r.Policy, Entries: make(map[string]Role, len(r.Entries)+1)}
	maps.Copy(n.Entries, r.Entries)
	if role == None {
		delete(n.Entries, jid)
	} else {
		n.Entries[jid] = role
	}
	return n
}

// Equal reports whether both say the same.
func (r *Roles) Equal(o *Roles) bool {
	return r == o || r.Policy == o.Policy && maps.Equal(r.Entries, o.Entries)
}

// Owners counts the accounts that own the group.
func (r *Roles) Owners() int {
	n := 0
	for _, role := range r.Entries {
		if role == Owner {
			n++
		}
	}
	return n
}

// Encode gives the component's bytes. It fails when a field breaks a limit that
// [DecodeRoles] enforces.
func (r *Roles) Encode() ([]byte, error) {
	p := r.Policy
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("groupdata: encoding the roles component: %w", err)
	}
	var entries []byte
	for _, jid := range slices.Sorted(maps.Keys(r.Entries)) {
		role := r.Entries[jid]
		if err := checkEntry(jid, role); err != nil {
			return nil, fmt.Errorf("groupdata: encoding the roles component: %w", err)
		}
		entries = appendVector(entries, []byte(jid))
		entries = append(entries, byte(role))
	}
	b := make([]byte, 0, 14+len(entries))
	b = append(b, rolesVersion, byte(p.Add), byte(p.Remove), byte(p.Send), byte(p.Rename), byte(p.Unlisted), byte(p.ExternalJoin))
	b = binary.BigEndian.AppendUint16(b, p.MaxDevices)
	return appendVector(b, entries), nil
}

// DecodeRoles reads the bytes of [ComponentRoles]. It accepts only what
// [Roles.Encode] can produce.
func DecodeRoles(b []byte) (*Roles, error) {
	roles, err := decodeRoles(b)
	if err != nil {
		return nil, fmt.Errorf("groupdata: decoding the roles component: %w", err)
	}
	return roles, nil
}

func decodeRoles(b []byte) (*Roles, error) {
	r := reader{b: b}
	if v := r.uint8(); r.err == nil && v != rolesVersion {
		return nil, fmt.Errorf("unknown version %d", v)
	}
	out := &Roles{Entries: make(map[string]Role)}
	out.Policy = Policy{
		Add: Role(r.uint8()), Remove: Role(r.uint8()), Send: Role(r.uint8()), Rename: Role(r.uint8()),
		Unlisted: Role(r.uint8()), ExternalJoin: ExternalJoin(r.uint8()), MaxDevices: r.uint16(),
	}
	entries := reader{b: r.vector()}
	if err := r.end(); err != nil {
		return nil, err
	}
	if err := out.Policy.check(); err != nil {
		return nil, err
	}
	last := ""
	for len(entries.b) > 0 {
		jid, role := string(entries.vector()), Role(entries.uint8())
		if entries.err != nil {
			return nil, entries.err
		}
		if err := checkEntry(jid, role); err != nil {
			return nil, err
		}
		if jid <= last {
			return nil, fmt.Errorf("entry %q is not after %q: entries must be sorted and unique", jid, last)
		}
		out.Entries[jid], last = role, jid
	}
	return out, nil
}

func checkEntry(jid string, role Role) error {
	if err := checkJID(jid); err != nil {
		return err
	}
	if role == None || role > Owner {
		return fmt.Errorf("entry %q has the invalid role %d", jid, role)
	}
	return nil
}

func (p *Policy) check() error {
	for _, f := range []struct {
		what string
		role Role
	}{{"add", p.Add}, {"remove", p.Remove}, {"send", p.Send}, {"rename", p.Rename}} {
		if f.role < Visitor || f.role > Owner {
			return fmt.Errorf("policy %q names the invalid role %d", f.what, f.role)
		}
	}
	if p.Unlisted != Visitor && p.Unlisted != Member {
		return fmt.Errorf("unlisted accounts cannot have the role %q: use visitor or member", p.Unlisted)
	}
	if p.ExternalJoin >= joinSentinel {
		return fmt.Errorf("unknown external join policy %d", p.ExternalJoin)
	}
	return nil
}
