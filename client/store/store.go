// SPDX-License-Identifier: Apache-2.0

// Package store keeps what a lockstep client must not lose: the secrets of its
// groups, what it has sealed but not yet seen accepted, what it has opened but
// not yet handed to the application, and how far it has read each group's log.
//
// A store is an ordered map from short names to bytes with exactly one way to
// change it: [Store.Apply], which makes a whole list of changes durable or none
// of them. That one operation is what lets a client be killed at any instant
// and lose nothing: the ratchet that produced a message, the message in the
// outbox and the position in the log always move together.
//
// [Open] gives the default, one SQLite file. [NewMemory] is for tests.
// [Encrypt] wraps any store so that its values are unreadable without a key.
// Other back-ends implement [Store] and prove it with package storetest.
package store

import (
	"context"
	"errors"
)

// ErrClosed is returned by every method of a store after Close.
var ErrClosed = errors.New("store: closed")

// ErrLocked is returned by [Open] when another process has the store open. Two
// processes on one store would use the same message keys twice.
var ErrLocked = errors.New("store: another process has it open")

// Op is one change of a batch. A nil Value deletes Key. With Prefix set, every
// name that begins with Key is deleted and Value is ignored.
//
// Value must not be changed until Apply returns.
type Op struct {
	Key    string
	Value  []byte
	Prefix bool
}

// Put is the change that sets key to value, which may be empty.
func Put(key string, value []byte) Op {
	if value == nil {
		value = []byte{}
	}
	return Op{Key: key, Value: value}
}

// Delete is the change that removes key, if it is there.
func Delete(key string) Op { return Op{Key: key} }

// DeletePrefix is the change that removes every key beginning with prefix,
// which must not be empty.
func DeletePrefix(prefix string) Op { return Op{Key: prefix, Prefix: true} }

// Store is an ordered map from names to bytes, bound to one account. Its
// methods may be called from any number of goroutines.
//
// Names are compared byte by byte. They hold no secret and nothing that tells
// who talks to whom; values do.
type Store interface {
	// Account is the bare JID that the store is bound to.
	Account() string

	// Get returns the value of key and whether it is there. The caller owns
	// the returned bytes.
	Get(key string) ([]byte, bool, error)

	// Scan calls fn for each key with from <= key < to, in order, until fn
	// returns an error, which Scan returns unchanged. An empty to means
	// "to the end". fn owns the bytes. fn must not call the store.
	Scan(from, to string, fn func(key string, value []byte) error) error

	// Apply makes all changes, in order, or none, and returns when they would
	// survive a loss of power. A cancelled ctx may stop it before it has
	// begun, never half-way: after ctx's error the changes may have been made.
	Apply(ctx context.Context, ops []Op) error

	// RolledBack reports whether the store, when it was opened, held an older
	// state than one it held before on this machine: somebody restored a
	// backup. Keys in it may have been used since, so that a client must not
	// seal anything with them.
	RolledBack() bool

	// Close releases the store. Apply calls under way finish first.
	Close() error
}

// PrefixEnd returns the smallest name above all names that begin with prefix:
// Scan(p, PrefixEnd(p), fn) visits exactly those.
func PrefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

func checkOps(ops []Op) error {
	for _, op := range ops {
		if op.Key == "" {
			return errors.New("store: a change with an empty name")
		}
	}
	return nil
}
