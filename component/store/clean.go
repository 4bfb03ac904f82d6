// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// A CleanPolicy says what Clean may remove.
//
// A log entry is kept for LogMinAge whatever happens: so long is its ref known
// and can a late committer see who won. After that it goes as soon as every
// device in the tree has acked it, and at the group's Retention (or LogAge) in
// any case. Pending proposals stay.
type CleanPolicy struct {
	Now         time.Time
	LogAge      time.Duration // for groups without a retention of their own; zero: 30 days
	LogMinAge   time.Duration // zero: 1 hour
	SnapshotAge time.Duration // how long a superseded epoch stays readable; zero: 10 minutes
}

// Cleaned counts the rows that Clean removed.
type Cleaned struct {
	Entries     int64 // log entries
	Snapshots   int64
	Nodes       int64 // of superseded and destroyed trees
	KeyPackages int64
	Claims      int64
	Welcomes    int64
	Uploads     int64
	Names       int64 // tombstones and reservations
}

// Stats counts what a store holds.
type Stats struct {
	Groups      int64
	Members     int64 // devices in trees
	Entries     int64
	Nodes       int64
	Devices     int64
	KeyPackages int64
	Welcomes    int64
	Sessions    int64
	Nudges      int64
	Uploads     int64
	Reports     int64
	Bytes       int64  // size on disk
	Schema      int    // version of the schema
	Engine      string // "sqlite 3.49.1", "postgres 15.6"

	// Warnings are settings of the database that make the store's promises
	// hollow, each with what to do.
	Warnings []string
}
