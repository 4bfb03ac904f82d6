// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/lockstep-im/lockstep/client/store"
)

// This file notices messages that come twice in two encryptions. A member can take
// another's signed message and encrypt it anew with the group's keys (RFC 9750
// §8.6, replay by insiders); inside the signature is the name that its author gave
// it, and nobody gives one name twice.

const (
	// seenSlots and seenPerSlot bound how many messages of a group are remembered:
	// 2048. A slot is a row, so that a message rewrites at most 1 KiB.
	seenSlots   = 32
	seenPerSlot = 64
	seenKeySize = 16
)

type seenKey [seenKeySize]byte

// seenMessages are the names of the last messages of a group, in rows "s/00" to
// "s/1f": the number of the first name in the row, and the names.
type seenMessages struct {
	set  map[seenKey]bool
	ring [seenSlots * seenPerSlot]seenKey
	n    uint64 // how many there have been
	kept uint64 // how many of them are in the rows
}

// seenName is the hash of what makes a message one of its kind: its author's
// device and the name, or all of it if it has none.
func seenName(w Who, origin string, plain []byte) (k seenKey) {
	name := []byte(origin)
	if origin == "" {
		name = plain
	}
	b := make([]byte, 0, 512)
	b = append(strconv.AppendUint(b, uint64(len(w.JID)), 10), ' ')
	b = append(strconv.AppendUint(b, uint64(len(name)), 10), ' ')
	b = append(append(b, w.JID...), ' ')
	b = append(hex.AppendEncode(b, w.Device[:]), ' ')
	sum := sha256.Sum256(append(b, name...))
	copy(k[:], sum[:])
	return k
}

func seenRow(g *Group, slot uint64) string { return g.row(fmt.Sprintf("s/%02x", slot)) }

// loadSeen reads the names. Called with the lock held.
func (g *Group) loadSeen() error {
	s := &seenMessages{set: make(map[seenKey]bool)}
	prefix := g.row("s/")
	err := g.c.store.Scan(prefix, store.PrefixEnd(prefix), func(key string, b []byte) error {
		slot, err := strconv.ParseUint(key[len(prefix):], 16, 8)
		if err != nil || slot >= seenSlots || len(b) < 8 || (len(b)-8)%seenKeySize != 0 || len(b)-8 > seenPerSlot*seenKeySize {
			return fmt.Errorf("client: reading what was received: the row %q is malformed", key)
		}
		first := binary.BigEndian.Uint64(b)
		for i, rest := uint64(0), b[8:]; len(rest) > 0; i, rest = i+1, rest[seenKeySize:] {
			k := seenKey(rest[:seenKeySize])
			s.ring[slot*seenPerSlot+i] = k
			s.set[k] = true
			s.n = max(s.n, first+i+1)
		}
		return nil
	})
	s.kept = s.n
	g.seen = s
	return err
}

// seenBefore notes a message and reports whether it is a copy. Called with the
// lock held.
func (g *Group) seenBefore(k seenKey) bool {
	s := g.seen
	if s.set[k] {
		return true
	}
	at := s.n % uint64(len(s.ring))
	delete(s.set, s.ring[at])
	s.ring[at], s.set[k] = k, true
	s.n++
	return false
}

// seenOps are the rows of what was noted since they were last taken: one for many
// messages. Called with the lock held.
func (g *Group) seenOps() (ops []store.Op) {
	s := g.seen
	if s == nil {
		return nil
	}
	for s.kept < s.n {
		number := s.kept / seenPerSlot * seenPerSlot // of the row's first name
		end := min(number+seenPerSlot, s.n)
		first := number % uint64(len(s.ring))
		b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+seenPerSlot*seenKeySize), number)
		for _, k := range s.ring[first : first+end-number] {
			b = append(b, k[:]...)
		}
		ops = append(ops, store.Put(seenRow(g, first/seenPerSlot), b))
		s.kept = end
	}
	return ops
}
