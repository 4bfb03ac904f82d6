// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// GroupKey is the store's handle of a group. It never changes while the group
// exists, is never used again, and means nothing outside the store.
type GroupKey int64

// A Group is what every request to a group needs: small, without the tree.
type Group struct {
	Key       GroupKey
	JID       string
	GroupID   []byte
	Epoch     uint64
	Head      uint64 // seq of the last log entry, 0 if there was none yet
	First     uint64 // seq of the first entry that the log still has; Head+1 if it has none
	Chain     Chain  // of the entry Head
	Rev       uint64 // grows with every change but an application message or control entry
	Pending   int    // number of proposals in the current epoch
	Mode      string // handshake mode
	Config    []byte // opaque
	Retention time.Duration
	Created   time.Time
}

// A NewGroup is the first state of a group, at epoch Epoch (0 unless the group
// was moved here).
type NewGroup struct {
	JID       string
	Owner     string // bare JID of the creator: may use a reservation of its own
	GroupID   []byte // 1 to 255 bytes
	Epoch     uint64
	Mode      string
	Config    []byte
	Retention time.Duration // upper bound for the age of log entries, zero: CleanPolicy.LogAge
	Header    []byte        // state of the public group without its tree
	GroupInfo []byte
	Nodes     []Node
	Members   []Joiner
	Roles     []Affiliation
	Now       time.Time
}

// A GroupChange says what UpdateGroup changes. Nil fields stay.
type GroupChange struct {
	Config    []byte
	Retention *time.Duration
	Roles     []Affiliation
}

// A Snapshot is the state of one epoch.
type Snapshot struct {
	Epoch      uint64
	Header     []byte // state of the public group without its tree
	GroupInfo  []byte
	Seq        uint64    // of the commit that began the epoch
	Superseded time.Time // when the epoch ended, zero if it is the current one
}

// A Node is one node of a ratchet tree. Data is nil for a blank one.
type Node struct {
	Index uint32
	Data  []byte
}

// A Joiner is a device that a commit adds.
type Joiner struct {
	User   string
	Device string
	Leaf   uint32
}

// A Leaver is a device that a commit removes.
type Leaver struct {
	User   string
	Device string
}

// A Member is a device's place in a group. A device that leaves and comes back
// begins anew: Joined is that of the last time.
type Member struct {
	User    string // bare JID
	Device  string
	Leaf    uint32
	Joined  uint64 // seq of the commit that added it, 0 for the creator
	Removed uint64 // seq of the commit that removed it, 0 while it is in the tree
	Acked   uint64 // it has everything up to here
	Seen    time.Time
}

// InTree reports whether the device is in the group now.
func (m Member) InTree() bool { return m.Removed == 0 }

// An IdleMember is a member with its group.
type IdleMember struct {
	Key GroupKey
	JID string // of the group
	Member
}

// An Affiliation is a user's standing in a group. A Value of "" means none: in
// a change it removes the row.
type Affiliation struct {
	User  string // bare JID
	Value string
}

// AffiliationOutcast is the one affiliation that the store treats differently: it
// does not list a group for its outcasts, and it outlives PurgeUser.
const AffiliationOutcast = "outcast"

// A UserGroup is a line in a user's list of groups.
type UserGroup struct {
	JID         string
	Key         GroupKey // 0 if Remote
	Epoch       uint64
	Head        uint64
	Affiliation string // "" if none
	InTree      bool   // the device that asks is a member
	Welcome     bool   // a welcome waits for the device that asks
	Remote      bool   // the group lives at another service
}

// A Tombstone stands for a group that was destroyed.
type Tombstone struct {
	JID    string
	NewJID string // where the group went, "" if nowhere
	Reason string
	Until  time.Time
}

// A Commit is everything that one accepted commit changes.
type Commit struct {
	Group GroupKey
	Rev   uint64 // revision that the commit was checked against
	Epoch uint64 // that the commit ends; the next one is Epoch+1

	Ref    Ref
	ID     string
	Sender string // "" where policy does not keep it
	Device string
	Stamp  time.Time
	Bytes  []byte

	Header    []byte // state of the next epoch, without the tree
	GroupInfo []byte // of the next epoch
	Nodes     []Node // the nodes that differ; nil Data: blank now
	Left      []Leaver
	Joined    []Joiner      // applied after Left
	Roles     []Affiliation // those that differ
	Config    []byte        // nil: stays

	Welcomes      []NewWelcome
	WelcomeInfo   []byte // EncryptedGroupInfo, shared by all Welcomes
	WelcomeExpiry time.Time

	// Uploads of UploadOwner are used up by the commit and removed with it.
	UploadOwner string
	Uploads     []string
}
