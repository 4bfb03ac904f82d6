// SPDX-License-Identifier: Apache-2.0

// Package store is what a delivery service keeps: key packages, groups and
// their logs, welcomes, sessions and the little state around them.
//
// A [Store] knows neither MLS nor XMPP. MLS objects are opaque bytes, JIDs and
// device ids are strings that the caller has normalised; the store compares
// them byte by byte. It decides exactly one thing: the order of a group. Every
// change of a group names the revision that the caller's checks were made
// against, and is applied only if the group still has that revision
// (compare-and-swap), in the transaction that writes everything that belongs to
// the change. So one commit ends an epoch, also when several processes share
// one database, and a crash leaves all of a change or nothing of it.
//
// What a call has answered with success is durable: it survives SIGKILL and the
// loss of power at any later instant.
//
// There are two implementations, store/sqlite (one process, one file) and
// store/postgres (several processes, one database), and one suite that both
// pass, store/storetest.
package store

import (
	"context"
	"time"
)

// A Store holds the state of one delivery service. All methods may be called
// concurrently.
//
// A method that fails has changed nothing, with one exception: after
// [ErrUnknownOutcome] the change may or may not be in the store. Look the entry
// up by its ref (or submit it again, which is the same) to find out.
type Store interface {
	// View runs f on a consistent snapshot. The Reader is valid only until f
	// returns.
	View(ctx context.Context, f func(Reader) error) error

	// Update runs f in one transaction and returns when the transaction is
	// durable. When f returns an error, nothing of it is kept and Update returns
	// that error as it is.
	//
	// Concurrent transactions are committed together, so that many cost one
	// sync of the disk. f may be run more than once (a deadlock or a lost batch
	// in the database rolls it back), and in another goroutine than the
	// caller's: it must have no effect but through tx and must reset what it
	// collects. It holds up others, so it must be quick and do no I/O of its
	// own; calling the Store from f waits for ever. Writes guard themselves by revision or row lock; of two reads in one
	// Update the second may see more than the first. A panic of f is raised in
	// the caller.
	Update(ctx context.Context, f func(tx Tx) error) error

	// Append is Tx.Append in a transaction of its own, on the shortest path
	// that the database has.
	Append(ctx context.Context, e *NewEntry) (Accepted, error)

	// AcceptCommit is Tx.AcceptCommit in a transaction of its own.
	AcceptCommit(ctx context.Context, c *Commit) (Accepted, error)

	// Clean removes what has expired, in steps that do not hold up others, and
	// reports what it removed. Call it every minute or so. Several processes
	// may clean at once.
	Clean(ctx context.Context, p CleanPolicy) (Cleaned, error)

	// Stats counts what the store holds. It may read whole tables: meant for
	// metrics and operators, not for the path of a message.
	Stats(ctx context.Context) (Stats, error)

	// Shared reports whether other processes may change the same state, so that
	// what a caller caches can be outdated at any time. Group changes are safe
	// anyway (they are refused with a ConflictError); sessions and settings
	// should then be read each time.
	Shared() bool

	// Backup writes a consistent copy of the whole store to a new file while
	// the store is in use. Where the database has its own tool for it the
	// error wraps [ErrUnsupported] and names the tool.
	Backup(ctx context.Context, path string) error

	// Close waits for running transactions and releases the store. Later calls
	// fail with [ErrClosed].
	Close() error
}

// A Reader reads a snapshot. Methods that look for one thing return an error
// that wraps [ErrNotFound] when it is not there. Byte slices belong to the
// caller.
type Reader interface {
	// Group returns the group that has this JID now.
	Group(jid string) (*Group, error)
	// GroupByKey returns the group with this key.
	GroupByKey(key GroupKey) (*Group, error)
	// Groups lists groups in the order of their JIDs, beginning behind after.
	Groups(after string, limit int) ([]Group, error)
	// Snapshot returns the state of an epoch: the current one, or a superseded
	// one that has not been cleaned yet (CleanPolicy.SnapshotAge).
	Snapshot(key GroupKey, epoch uint64) (*Snapshot, error)
	// Nodes returns the tree of an epoch that Snapshot still has, by ascending
	// index, without blank nodes.
	Nodes(key GroupKey, epoch uint64) ([]Node, error)
	// Members lists the devices that are in the group or were, in no particular order.
	Members(key GroupKey) ([]Member, error)
	// MembersOf is Members of one user.
	MembersOf(key GroupKey, user string) ([]Member, error)
	// Member returns one device's place in a group, removed or not.
	Member(key GroupKey, user, device string) (Member, error)
	// IdleMembers lists devices that are in a group's tree and were last seen
	// before the given time, longest ago first, beginning behind after.
	IdleMembers(before time.Time, after IdleMember, limit int) ([]IdleMember, error)
	// Affiliation returns a user's affiliation with a group, "" if none.
	Affiliation(key GroupKey, user string) (string, error)
	// Affiliations lists a group's affiliations by user, beginning behind after.
	Affiliations(key GroupKey, after string, limit int) ([]Affiliation, error)
	// UserGroups lists by JID, beginning behind after, the groups that a user
	// has to do with, as one of the user's devices sees them: groups of this
	// store in which a device of the user is a member or the user has an
	// affiliation other than outcast, and groups that a welcome for that device
	// names.
	UserGroups(user, device, after string, limit int) ([]UserGroup, error)
	// Tombstone returns what is known of a destroyed group's JID.
	Tombstone(jid string) (Tombstone, error)

	// Log reads a group's log in the order of seq. When the first entry asked
	// for was removed already it returns a [TruncatedError].
	Log(key GroupKey, q LogQuery) ([]Entry, error)
	// Commits lists the commits that ended the epochs from the given one on.
	// A maxBytes of zero means no bound; else at least one entry is returned,
	// and no further one that would exceed the sum.
	Commits(key GroupKey, fromEpoch uint64, limit, maxBytes int) ([]Entry, error)
	// Pending lists the proposals of the current epoch.
	Pending(key GroupKey) ([]Entry, error)
	// EntryByRef finds an entry by the hash of its bytes.
	EntryByRef(key GroupKey, ref Ref) (*Entry, error)

	// Devices lists a user's devices with their stock of key packages that have not
	// expired at the given time.
	Devices(user string, now time.Time) ([]Device, error)
	// KeyPackageOwners calls f with each account that has key packages, and how
	// many, in no particular order. It reads the whole table, as Stats does.
	KeyPackageOwners(f func(user string, n int64)) error
	// Claimed returns the claim of a key package for a group, which is what
	// authorises a Welcome that names it. The claim is kept until the package
	// expires.
	Claimed(kpRef []byte, group string) (Claim, error)

	// Welcomes lists what waits for a device, oldest first, without the
	// secrets and the group info.
	Welcomes(user, device string, limit int) ([]Welcome, error)
	// Welcome returns one welcome with its bytes.
	Welcome(kpRef []byte, group string) (*Welcome, error)

	// Sessions lists live sessions of a user.
	Sessions(user string) ([]Session, error)
	// GroupSessions lists live sessions of the devices in a group's tree.
	GroupSessions(key GroupKey) ([]Session, error)
	// AllSessions lists all live sessions by JID, beginning behind after.
	AllSessions(after string, limit int) ([]Session, error)

	// UploadProgress says how much of an upload is there, of whatever part.
	UploadProgress(owner, id string, now time.Time) (UploadProgress, error)
	// Upload returns a complete upload's bytes. It is [ErrNotFound] as long as
	// bytes are missing, and [ErrChecksum] when they do not hash to the sum
	// that the upload announced.
	Upload(owner, id, part string, now time.Time) ([]byte, error)

	// Setting returns a value that SetSetting has set.
	Setting(owner, name string) ([]byte, error)
	// Settings lists an owner's settings whose names begin with prefix, by name.
	Settings(owner, prefix string) ([]Setting, error)

	// Reports lists abuse reports by id, beginning behind after.
	Reports(after int64, limit int) ([]Report, error)
}

// A Tx reads and writes within one transaction. It is valid only until the
// function that got it returns, and only in that function's goroutine.
type Tx interface {
	Reader

	// CreateGroup adds a group. It fails with an [ExistsError] when the JID or
	// the group id is taken, the JID is reserved for another owner or stands
	// for a destroyed group. It uses up a reservation.
	CreateGroup(g *NewGroup) (*Group, error)
	// ReplaceGroup begins a new MLS group under the JID and log of an old one
	// (ReInit, RFC 9420 §11.2): tree, snapshots, pending proposals, affiliations
	// and welcomes of the old one are dropped, its members count as removed at
	// its head, so that they may still read it, and seq and chain go on. A member
	// that joins the new group keeps the place from which it may read the log. The
	// JID must be that of the old group. It fails with a [ConflictError] unless the group has the
	// given revision.
	ReplaceGroup(key GroupKey, rev uint64, g *NewGroup) (*Group, error)
	// UpdateGroup changes what is not in the tree. It fails with a
	// [ConflictError] unless the group has the given revision, and returns the
	// new revision.
	UpdateGroup(key GroupKey, rev uint64, c GroupChange) (uint64, error)
	// DestroyGroup removes a group and all that belongs to it, its welcomes
	// too, and leaves a tombstone.
	DestroyGroup(key GroupKey, t Tombstone) error
	// Reserve keeps a JID for an owner (a bare JID). It fails with an
	// [ExistsError] as CreateGroup does.
	Reserve(jid, owner string, now, until time.Time) error

	// Append adds a proposal, an application message or a control entry to the
	// group's log. It fails with a [ConflictError] unless the group has
	// e.Rev. The same ref again is answered as the first time, with Duplicate
	// set, whatever the revision.
	Append(e *NewEntry) (Accepted, error)
	// AcceptCommit ends the epoch c.Epoch: it appends the commit, moves the
	// epoch, and writes tree, snapshot, members, affiliations and welcomes. It
	// fails with a [ConflictError] unless the group has c.Rev and c.Epoch. The
	// same ref again is answered as the first time, with Duplicate set.
	AcceptCommit(c *Commit) (Accepted, error)
	// Ack notes that a device has everything up to seq, and that it was seen.
	// Neither moves backwards. It is [ErrNotFound] if the device never was a member.
	Ack(key GroupKey, user, device string, seq uint64, at time.Time) error

	// TouchDevice notes when a device was last seen, and adds it if it is new.
	TouchDevice(user, device string, at time.Time) error
	// PutKeyPackages adds key packages of a device; those whose ref is there
	// already are left alone. A last-resort package replaces the device's
	// earlier one of the same suite. It fails with [ErrQuota] when the device
	// would then have more than max one-time packages that have not expired.
	PutKeyPackages(user, device string, kps []KeyPackage, max int, now time.Time) (Device, error)
	// DeleteKeyPackages removes a device's packages and the device.
	DeleteKeyPackages(user, device string) error
	// DeleteKeyPackage removes single packages of a device; refs that are not
	// there are no error.
	DeleteKeyPackage(user, device string, refs [][]byte) error
	// ClaimKeyPackages takes one key package of each of a user's devices, or of
	// those that the request names.
	// No package but the last-resort ones is ever given out twice. The same
	// (requester, claim id, user) again is answered as the first time for
	// ClaimMemory.
	ClaimKeyPackages(r *ClaimRequest) ([]ClaimedDevice, error)

	// PutWelcome stores a welcome, or a pointer to one at another service
	// (Remote). It replaces an earlier one for the same package and group.
	PutWelcome(w *Welcome) error
	// DeleteWelcome removes a user's welcome (acknowledged, or declined).
	DeleteWelcome(kpRef []byte, group, user string) error
	// TakeWelcomes returns welcomes whose NotifyAt has come, earliest first,
	// without their bytes, and sets the NotifyAt of each to what next says. So
	// no two processes have one at the same time.
	TakeWelcomes(now time.Time, limit int, next func(*Welcome) time.Time) ([]Welcome, error)
	// NotifyWelcome sets when the welcome's home service is to be told (again);
	// the zero time means that it has been told.
	NotifyWelcome(kpRef []byte, group string, at time.Time) error

	// PutSession adds or renews a session, and notes that its device was seen.
	PutSession(s Session) error
	// DeleteSession removes a session; it is no error if there is none.
	DeleteSession(jid string) error
	// ScheduleNudge notes that an account is to be nudged at the given time,
	// unless a nudge of it is scheduled or outstanding already. It reports
	// whether it scheduled one.
	ScheduleNudge(user string, due time.Time) (bool, error)
	// TakeNudges returns accounts whose nudge is due, and makes the nudges due
	// again at a later time: until then no process gets them. SettleNudge, once
	// they are sent, prevents that.
	TakeNudges(now, again time.Time, limit int) ([]string, error)
	// SettleNudge marks an account's nudge as outstanding: it has been sent, and
	// there is no other until it is cleared.
	SettleNudge(user string) error
	// ClearNudge forgets an account's nudge: the account has synced.
	ClearNudge(user string) error

	// Stage stores a piece of an upload, which is then kept until c.Expires, and
	// returns how many bytes from the beginning are there. It fails with an [OffsetError] when the piece does
	// not begin there (a piece that is there already is no error), with
	// [ErrQuota] when the totals of the owner's uploads would exceed quota,
	// and with an [ExistsError] when total or sum differ from the first piece's.
	Stage(c *UploadChunk, quota int64) (int64, error)
	// DeleteUpload removes an upload; it is no error if there is none.
	DeleteUpload(owner, id string) error

	// SetSetting stores a value, or removes it if the value is nil.
	SetSetting(owner, name string, value []byte) error
	// SwapSetting is SetSetting if the value is old now (nil: if there is
	// none). Else it fails with a [ConflictError].
	SwapSetting(owner, name string, old, value []byte) error

	// AddReport stores a report and returns its id. It fails with [ErrQuota]
	// where the reporter has so many already; zero means any number.
	AddReport(r *Report, most int) (int64, error)
	// DeleteReport removes a report; it is no error if there is none.
	DeleteReport(id int64) error

	// PurgeUser removes a user's devices, key packages, claims, welcomes,
	// sessions, nudge, uploads, settings and reservations, and affiliations
	// other than outcast. Membership in groups is not the store's to end: it
	// is returned, for the caller to propose the removals.
	PurgeUser(user string) ([]IdleMember, error)
}
