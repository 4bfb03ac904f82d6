// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound means that there is no such thing (any more).
	ErrNotFound = errors.New("store: not found")
	// ErrQuota means that an account would exceed what it may store.
	ErrQuota = errors.New("store: quota exceeded")
	// ErrChecksum means that an upload's bytes are not those announced.
	ErrChecksum = errors.New("store: upload does not match its checksum")
	// ErrUnavailable means that the database cannot answer now: disk full,
	// connection lost, time-out. Nothing was changed; try again later.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrUnknownOutcome means that the answer was lost: the change may have been
	// made or not.
	ErrUnknownOutcome = errors.New("store: outcome unknown")
	// ErrReadOnly is the answer to writes in a store opened read-only.
	ErrReadOnly = errors.New("store: opened read-only")
	// ErrClosed is the answer of a store after Close.
	ErrClosed = errors.New("store: closed")
	// ErrUnsupported means that this database does not do it.
	ErrUnsupported = errors.New("store: not supported")
	// ErrLocked means that another process has the store open.
	ErrLocked = errors.New("store: in use by another process")
	// ErrNewerSchema means that the store was written by a newer version.
	ErrNewerSchema = errors.New("store: schema is newer than this program")
)

// A ConflictError says that a group has moved since the caller looked. Nothing
// was changed.
//
// If Epoch is not the one that the caller worked with, another commit won.
// If it is, something else changed (a proposal arrived, the configuration, an
// affiliation): read the group again, check again and submit again.
type ConflictError struct {
	Epoch uint64 // the group's current epoch
	Head  uint64 // seq of the log's last entry
	Rev   uint64 // the group's current revision
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("store: conflict: the group is at epoch %d, head %d, revision %d", e.Epoch, e.Head, e.Rev)
}

// What an [ExistsError] names.
const (
	ExistsJID       = "jid"       // a group has this JID
	ExistsGroupID   = "group-id"  // a group has this group id
	ExistsReserved  = "reserved"  // the JID is reserved for somebody else
	ExistsTombstone = "tombstone" // the JID is that of a destroyed group
	ExistsUpload    = "upload"    // the upload began with another total or checksum
)

// An ExistsError says that a name is taken.
type ExistsError struct {
	What string // one of the Exists constants
	Name string // the name that is taken
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("store: %s %q is taken", e.What, e.Name)
}

// A TruncatedError says that the log does not reach back as far as asked.
type TruncatedError struct {
	First uint64 // seq of the first entry that the log still has, or will have
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("store: the log begins at seq %d", e.First)
}

// An OffsetError says where an upload must be resumed.
type OffsetError struct {
	Have int64 // number of bytes, from the beginning, that are there
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("store: the upload continues at offset %d", e.Have)
}
