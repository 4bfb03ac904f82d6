// SPDX-License-Identifier: Apache-2.0

package mls

import "fmt"

// This file holds the hash ratchets at the leaves of the secret tree (RFC 9420
// §9.1) and the life of a message key: taken by next to send, or found by peek
// and, once the message has proved genuine, erased by consume (§9.2).

// ratchetKind selects one of the two ratchets of a leaf (RFC 9420 §9.1).
type ratchetKind uint8

const (
	ratchetHandshake ratchetKind = iota
	ratchetApplication
)

// String returns the label of the ratchet in RFC 9420 §9.1.
func (k ratchetKind) String() string {
	if k == ratchetHandshake {
		return "handshake"
	}
	return "application"
}

// ratchet is a hash ratchet (RFC 9420 §9.1).
type ratchet struct {
	secret     hashBuf
	generation uint32 // of secret: the next that has not been derived
	exhausted  bool   // generation 2^32-1 has been derived
	skipped    []skippedKey
}

// skippedKey is the key of a generation that was passed over and may still
// arrive. A ratchet's are in ascending order of generation.
type skippedKey struct {
	generation uint32
	key        [maxAEADKeySize]byte
	nonce      [aeadNonceSize]byte
}

func (r *ratchet) wipe() {
	clear(r.skipped)
	*r = ratchet{}
}

// step derives key and nonce of the ratchet's generation and moves the secret
// on, erasing the old one.
//
//	ratchet_key_[N]_[j] = DeriveTreeSecret(ratchet_secret_[N]_[j], "key", j, AEAD.Nk)
//	ratchet_nonce_[N]_[j] = DeriveTreeSecret(ratchet_secret_[N]_[j], "nonce", j, AEAD.Nn)
//	ratchet_secret_[N]_[j+1] = DeriveTreeSecret(ratchet_secret_[N]_[j], "secret", j, KDF.Nh)
//
// out may be nil for a generation whose key is not wanted.
func (r *ratchet) step(s *suite, out *skippedKey) {
	if out != nil {
		out.generation = r.generation
		s.deriveTreeSecretInto(out.key[:s.nk], r.secret[:s.nh], "key", r.generation)
		s.deriveTreeSecretInto(out.nonce[:], r.secret[:s.nh], "nonce", r.generation)
	}
	if r.generation == 1<<32-1 {
		wipe(r.secret[:])
		r.exhausted = true
		return
	}
	var next hashBuf
	s.deriveTreeSecretInto(next[:s.nh], r.secret[:s.nh], "secret", r.generation)
	r.secret = next
	wipe(next[:])
	r.generation++
}

// find returns the place of a skipped generation.
func (r *ratchet) find(generation uint32) (i int, ok bool) {
	lo, hi := 0, len(r.skipped)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if r.skipped[mid].generation < generation {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(r.skipped) && r.skipped[lo].generation == generation
}

// dropOldest erases the n oldest skipped keys.
func (r *ratchet) dropOldest(n int) {
	if n <= 0 {
		return
	}
	kept := copy(r.skipped, r.skipped[n:])
	clear(r.skipped[kept:])
	r.skipped = r.skipped[:kept]
}

// next takes the next key of the leaf's ratchet, for a message to be sent. The
// key cannot be had again: the caller uses it once and wipes it.
func (t *secretTree) next(leaf LeafIndex, kind ratchetKind) (generation uint32, key, nonce []byte, err error) {
	if !t.has(leaf) {
		return 0, nil, nil, errNoSuchLeaf
	}
	var path secretPath
	t.descend(leaf, &path)
	r := &path.leaf[kind]
	if r.exhausted {
		return 0, nil, nil, errRatchetExhausted
	}
	var k skippedKey
	r.step(t.s, &k)
	t.changes.add(leaf.node())
	out := make([]byte, t.s.nk+t.s.nn)
	key, nonce = out[:t.s.nk:t.s.nk], out[t.s.nk:]
	copy(key, k.key[:])
	copy(nonce, k.nonce[:])
	wipe(k.key[:])
	return k.generation, key, nonce, nil
}

// messageKey is the key of one received message, not consumed yet: consume it
// when the message has proved genuine, or wipe it.
type messageKey struct {
	redacted
	leaf LeafIndex
	kind ratchetKind
	nk   int
	k    skippedKey

	// For a generation that the ratchet has not reached: what the ratchet
	// becomes, with the skipped keys that are new.
	after *ratchet
}

func (m *messageKey) generation() uint32 { return m.k.generation }
func (m *messageKey) key() []byte        { return m.k.key[:m.nk] }
func (m *messageKey) nonce() []byte      { return m.k.nonce[:] }

// wipe erases the key without consuming it: the tree can derive it again.
func (m *messageKey) wipe() {
	m.k = skippedKey{}
	if m.after != nil {
		m.after.wipe()
	}
	m.after = nil
}

// errTooFarAhead says that a message's generation is further ahead than the
// limit. No work was done for it.
func errTooFarAhead(leaf LeafIndex, got, expected, limit uint32) error {
	return fmt.Errorf("%w: generation %d of leaf %d, expected %d, limit %d", ErrTooFarAhead, got, leaf, expected, limit)
}

// peek derives the key of a received message on a copy: the tree does not
// change, so that a forged message cannot burn the key of the genuine one. The
// key is consumed by consume, after the message's AEAD and signature have been
// checked. Errors are errNoSuchLeaf, ErrTooFarAhead and ErrReplay; none of
// them costs work that depends on the generation.
func (t *secretTree) peek(leaf LeafIndex, kind ratchetKind, generation uint32) (*messageKey, error) {
	if !t.has(leaf) {
		return nil, errNoSuchLeaf
	}
	var fresh ratchet
	r := t.find(leaf, kind)
	if r == nil {
		// Only a check of the limit must come before the derivation.
		if generation > t.maxForward {
			return nil, errTooFarAhead(leaf, generation, 0, t.maxForward)
		}
		t.deriveRatchet(leaf, kind, &fresh)
		defer fresh.wipe()
		r = &fresh
	}
	m := &messageKey{leaf: leaf, kind: kind, nk: t.s.nk}
	if r.exhausted || generation < r.generation {
		i, ok := r.find(generation)
		if !ok {
			return nil, errKeyConsumed
		}
		m.k = r.skipped[i]
		return m, nil
	}
	if generation-r.generation > t.maxForward {
		return nil, errTooFarAhead(leaf, generation, r.generation, t.maxForward)
	}
	// From here on m owns a copy of the ratchet, moved on.
	after := &ratchet{secret: r.secret, generation: r.generation}
	if n := min(uint64(generation-r.generation), uint64(t.maxSkipped)); n > 0 {
		after.skipped = make([]skippedKey, 0, n)
	}
	for after.generation < generation {
		if uint64(generation-after.generation) > uint64(t.maxSkipped) {
			after.step(t.s, nil) // it would be dropped at once
			continue
		}
		var k skippedKey
		after.step(t.s, &k)
		after.skipped = append(after.skipped, k)
	}
	after.step(t.s, &m.k)
	m.after = after
	return m, nil
}

// consume erases the key of a message that has been accepted, and all that it
// could be derived from; keys of the generations that it skipped are kept,
// within the limits. It fails with ErrReplay if the key was consumed since
// peek. Either way m is wiped.
func (t *secretTree) consume(m *messageKey) error {
	defer m.wipe()
	if !t.has(m.leaf) {
		return errNoSuchLeaf
	}
	var path secretPath
	t.descend(m.leaf, &path)
	r := &path.leaf[m.kind]
	generation := m.k.generation
	before := len(r.skipped)

	if r.exhausted || generation < r.generation {
		i, ok := r.find(generation)
		if !ok {
			return errKeyConsumed
		}
		last := len(r.skipped) - 1
		copy(r.skipped[i:], r.skipped[i+1:])
		clear(r.skipped[last:])
		r.skipped = r.skipped[:last]
	} else {
		after := m.after
		if after == nil || after.generation != generation+1 && !after.exhausted {
			return errKeyConsumed
		}
		// What peek skipped, without what has been taken since by other messages.
		for _, k := range after.skipped {
			if k.generation >= r.generation {
				r.skipped = append(r.skipped, k)
			}
		}
		wipe(r.secret[:])
		r.secret, r.generation, r.exhausted = after.secret, after.generation, after.exhausted
		r.dropOldest(len(r.skipped) - t.maxSkipped)
	}
	path.addSkipped(len(r.skipped) - before)
	t.changes.add(m.leaf.node())
	if over := t.root.skipped - t.maxSkippedTotal; over > 0 {
		t.dropSkipped(over)
	}
	return nil
}

// dropSkipped erases n skipped keys of the group, where there are most: going
// down to the heavier child finds a sender that skipped much, so that one who
// skips on purpose loses its own keys and not those of others.
func (t *secretTree) dropSkipped(n int) {
	for n > 0 {
		t.root = t.own(t.root)
		var path secretPath
		node, x := t.root, root(t.nLeaves)
		for {
			path.nodes[path.n] = node
			path.n++
			if x.isLeaf() {
				break
			}
			if node.left.skipped >= node.right.skipped {
				node.left = t.own(node.left)
				node = node.left
				x, _ = x.left()
			} else {
				node.right = t.own(node.right)
				node = node.right
				x, _ = x.right()
			}
		}
		r := &node.leaf[ratchetHandshake]
		if len(node.leaf[ratchetApplication].skipped) >= len(r.skipped) {
			r = &node.leaf[ratchetApplication]
		}
		d := min(n, len(r.skipped))
		if d == 0 {
			panic("mls: internal error: secret tree counts skipped keys that it does not hold")
		}
		r.dropOldest(d)
		path.addSkipped(-d)
		t.changes.add(x)
		n -= d
	}
}
