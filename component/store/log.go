// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Kind is what a log entry is. Its number goes into the chain.
type Kind uint8

// The kinds. The first three have the numbers of RFC 9420's ContentType (§6).
const (
	KindApplication Kind = 1
	KindProposal    Kind = 2
	KindCommit      Kind = 3
	KindControl     Kind = 4
)

// A Ref is the SHA-256 of an entry's bytes: the idempotency key of every
// submission.
type Ref [sha256.Size]byte

func (r Ref) String() string { return base64.StdEncoding.EncodeToString(r[:]) }

// RefOf hashes the exact bytes of a message.
func RefOf(b []byte) Ref { return sha256.Sum256(b) }

// A Chain is the running hash over a group's log.
type Chain [sha256.Size]byte

func (c Chain) String() string { return base64.StdEncoding.EncodeToString(c[:]) }

// FirstChain is the chain before a group's first entry.
func FirstChain(groupID []byte) Chain { return sha256.Sum256(groupID) }

// Next is the chain after one more entry:
// SHA-256(c || seq (8 bytes) || kind (1 byte) || epoch (8 bytes) || ref),
// numbers big-endian.
func (c Chain) Next(seq uint64, kind Kind, epoch uint64, ref Ref) Chain {
	var b [32 + 8 + 1 + 8 + 32]byte
	copy(b[:], c[:])
	binary.BigEndian.PutUint64(b[32:], seq)
	b[40] = byte(kind)
	binary.BigEndian.PutUint64(b[41:], epoch)
	copy(b[49:], ref[:])
	return sha256.Sum256(b[:])
}

// A NewEntry is a log entry to append. Commits go through AcceptCommit.
type NewEntry struct {
	Group  GroupKey
	Rev    uint64 // revision that the entry was checked against
	Kind   Kind
	Epoch  uint64 // that the message belongs to: the current one or one that the caller still allows
	Ref    Ref
	ID     string // stanza id, chosen by the caller
	Sender string // "" where policy does not keep it
	Device string
	Stamp  time.Time // kept in milliseconds
	Bytes  []byte
}

// Accepted is the answer to a submission.
type Accepted struct {
	Seq       uint64
	Epoch     uint64 // the group's epoch after a commit; else the entry's own
	Chain     Chain
	ID        string
	Stamp     time.Time
	Rev       uint64 // the group's revision now
	Duplicate bool   // the entry was in the log before this call
}

// An Entry is one entry of a log.
type Entry struct {
	Seq    uint64
	Epoch  uint64 // that the message belongs to; for a commit the one that it ended
	Kind   Kind
	Ref    Ref
	ID     string
	Sender string
	Device string
	Stamp  time.Time
	Chain  Chain
	Bytes  []byte
}

// A LogQuery says which part of a log to read.
type LogQuery struct {
	After    uint64 // entries with a greater seq
	Through  uint64 // and not with a greater one than this; 0: to the head
	Limit    int    // number of entries; 0 or less: 100
	MaxBytes int    // sum of the lengths of Bytes; the first entry is returned whatever its length; 0: no bound
}
