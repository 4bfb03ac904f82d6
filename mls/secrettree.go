// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"fmt"
)

// This file holds the secret tree of RFC 9420 §9: the keys of all members'
// messages in one epoch, derived when first needed and erased when used.
//
//	             encryption_secret
//	            /                 \
//	     "tree","left"       "tree","right"        derived and then erased
//	       /       \            /       \          from the top down
//	      A         B          C         D
//	     / \       / \        / \       / \
//	   hs  app   hs  app    hs  app   hs  app      two ratchets for each leaf
//
// The tree is copy-on-write. A clone shares all nodes; each node carries the
// owner that may change it in place, and everybody else copies it first. So a
// clone costs nothing, a change costs at most one path, and a tree that was
// never cloned is changed, and its secrets are wiped, where they stand.

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

// Limits on what messages may make a member derive and keep. They suit a chat
// over an ordered transport, where gaps come from messages that were lost
// before they were sequenced.
const (
	// defaultMaxForward is by how many generations one message may be ahead of
	// the last one seen from its sender: about a millisecond of work.
	defaultMaxForward = 1000
	// defaultMaxSkipped is how many keys of skipped generations are kept for
	// one ratchet.
	defaultMaxSkipped = 256
	// defaultMaxSkippedTotal is how many are kept for the whole group: about a
	// megabyte.
	defaultMaxSkippedTotal = 20_000
)

var (
	// errKeyConsumed says that the key of a message is gone: it was used, or
	// skipped so long ago that it was dropped.
	errKeyConsumed = fmt.Errorf("%w: its key was used, or is too old and was erased", ErrReplay)
	// errNoSuchLeaf says that a leaf index lies outside the tree.
	errNoSuchLeaf = errors.New("mls: no such leaf in the secret tree")
	// errRatchetExhausted says that a sender used all 2^32 generations.
	errRatchetExhausted = errors.New("mls: message generations exhausted: commit to start a new epoch")
)

// errTooFarAhead says that a message's generation is further ahead than the
// limit. No work was done for it.
func errTooFarAhead(leaf LeafIndex, got, expected, limit uint32) error {
	return fmt.Errorf("%w: generation %d of leaf %d, expected %d, limit %d", ErrTooFarAhead, got, leaf, expected, limit)
}

// secretTree is a member's secret tree. It is not safe for concurrent use, but
// clones may be used by different goroutines.
type secretTree struct {
	redacted
	s       *suite
	nLeaves uint32 // a power of two
	owner   *treeOwner
	root    *secretNode

	maxForward      uint32
	maxSkipped      int
	maxSkippedTotal int

	changes changedNodes
}

// treeOwner is an identity: nodes that carry it may be changed in place by the
// one tree that has it too.
type treeOwner struct{ _ byte }

// secretNode is a node of the secret tree. It holds either its own secret, or
// what was derived from it: two children, or the ratchets of a leaf.
type secretNode struct {
	owner       *treeOwner
	secret      []byte
	left, right *secretNode
	leaf        *leafRatchets
	skipped     int // skipped keys at and below this node
}

// leafRatchets are the ratchets of one sender, handshake and application.
type leafRatchets [2]ratchet

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

// newSecretTree starts the tree of an epoch. It takes the encryption secret
// over: the caller's bytes are wiped. nLeaves is the number of leaves of the
// ratchet tree.
func newSecretTree(s *suite, encryptionSecret []byte, nLeaves uint32) *secretTree {
	size, ok := treeSize(nLeaves)
	if !ok || len(encryptionSecret) != s.nh {
		panic("mls: internal error: secret tree of impossible size")
	}
	t := &secretTree{
		s: s, nLeaves: size, owner: new(treeOwner),
		maxForward: defaultMaxForward, maxSkipped: defaultMaxSkipped, maxSkippedTotal: defaultMaxSkippedTotal,
	}
	t.root = t.newNode()
	t.root.secret = append([]byte(nil), encryptionSecret...)
	wipe(encryptionSecret)
	t.changes.all = true
	return t
}

// setLimits replaces the default limits. Zero keeps a default; a negative
// maxSkipped or maxSkippedTotal keeps no skipped key at all.
func (t *secretTree) setLimits(maxForward uint32, maxSkipped, maxSkippedTotal int) {
	if maxForward != 0 {
		t.maxForward = maxForward
	}
	if maxSkipped != 0 {
		t.maxSkipped = max(maxSkipped, 0)
	}
	if maxSkippedTotal != 0 {
		t.maxSkippedTotal = max(maxSkippedTotal, 0)
	}
}

// clone returns a tree that is independent of t from here on: what is consumed
// in one can still be derived in the other. It costs no copy. Secrets that both
// share are not wiped when one of them drops them.
func (t *secretTree) clone() *secretTree {
	c := *t
	t.owner, c.owner = new(treeOwner), new(treeOwner)
	c.changes = t.changes.clone()
	return &c
}

// wipe erases all secrets that no clone shares. The tree cannot be used
// afterwards.
func (t *secretTree) wipe() {
	if t == nil {
		return
	}
	t.wipeNode(t.root)
	t.root = nil
}

func (t *secretTree) wipeNode(n *secretNode) {
	if n == nil || n.owner != t.owner {
		return
	}
	wipe(n.secret)
	if n.leaf != nil {
		n.leaf.wipe()
	}
	t.wipeNode(n.left)
	t.wipeNode(n.right)
	*n = secretNode{}
}

func (l *leafRatchets) wipe() {
	for i := range l {
		l[i].wipe()
	}
}

func (r *ratchet) wipe() {
	clear(r.skipped)
	*r = ratchet{}
}

// has reports whether the leaf exists; a tree that was wiped has none.
func (t *secretTree) has(leaf LeafIndex) bool { return t.root != nil && leaf.inTree(t.nLeaves) }

func (t *secretTree) newNode() *secretNode { return &secretNode{owner: t.owner} }

// own returns a node that t may change: n itself, or a copy of it.
func (t *secretTree) own(n *secretNode) *secretNode {
	if n.owner == t.owner {
		return n
	}
	c := *n
	c.owner = t.owner
	c.secret = append([]byte(nil), n.secret...)
	if n.leaf != nil {
		l := *n.leaf
		for i := range l {
			l[i].skipped = append([]skippedKey(nil), l[i].skipped...)
		}
		c.leaf = &l
	}
	return &c
}

// split derives the children of a node, or the ratchets of a leaf, from its
// secret, and erases that. n must be t's own.
//
//	left_child_secret = ExpandWithLabel(N.secret, "tree", "left", KDF.Nh)
//	handshake_ratchet_secret_[N]_[0] = ExpandWithLabel(leaf_secret, "handshake", "", KDF.Nh)
func (t *secretTree) split(n *secretNode, x nodeIndex) {
	nh := t.s.nh
	if x.isLeaf() {
		n.leaf = new(leafRatchets)
		t.s.expandInto(n.leaf[ratchetHandshake].secret[:nh], n.secret, "handshake", nil)
		t.s.expandInto(n.leaf[ratchetApplication].secret[:nh], n.secret, "application", nil)
	} else {
		n.left, n.right = t.newNode(), t.newNode()
		n.left.secret, n.right.secret = make([]byte, nh), make([]byte, nh)
		t.s.expandInto(n.left.secret, n.secret, "tree", []byte("left"))
		t.s.expandInto(n.right.secret, n.secret, "tree", []byte("right"))
	}
	wipe(n.secret)
	n.secret = nil
}

// secretPath is the way from the root to a leaf, all of it owned by the tree.
type secretPath struct {
	nodes [maxTreeDepth + 1]*secretNode
	n     int
	leaf  *leafRatchets
}

// descend returns the path to a leaf, deriving what is missing on it.
func (t *secretTree) descend(leaf LeafIndex, path *secretPath) {
	t.root = t.own(t.root)
	n, x := t.root, root(t.nLeaves)
	path.n = 0
	for {
		path.nodes[path.n] = n
		path.n++
		if n.secret != nil {
			t.split(n, x)
			t.changes.add(x)
			if !x.isLeaf() { // both children are new
				l, _ := x.left()
				r, _ := x.right()
				t.changes.add(l)
				t.changes.add(r)
			}
		}
		if x.isLeaf() {
			path.leaf = n.leaf
			return
		}
		if l, _ := x.left(); leaf.node() < x {
			n.left = t.own(n.left)
			n, x = n.left, l
		} else {
			r, _ := x.right()
			n.right = t.own(n.right)
			n, x = n.right, r
		}
	}
}

// addSkipped corrects the counts on the path after the leaf's number of skipped
// keys changed by d.
func (path *secretPath) addSkipped(d int) {
	if d == 0 {
		return
	}
	for _, n := range path.nodes[:path.n] {
		n.skipped += d
	}
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

// find returns the ratchet of a leaf, or nil if it is not derived yet.
func (t *secretTree) find(leaf LeafIndex, kind ratchetKind) *ratchet {
	n, x := t.root, root(t.nLeaves)
	for n.secret == nil {
		if x.isLeaf() {
			return &n.leaf[kind]
		}
		if l, _ := x.left(); leaf.node() < x {
			n, x = n.left, l
		} else {
			r, _ := x.right()
			n, x = n.right, r
		}
	}
	return nil
}

// deriveRatchet computes the first state of a ratchet that is not in the tree
// yet, and leaves the tree as it is.
func (t *secretTree) deriveRatchet(leaf LeafIndex, kind ratchetKind, out *ratchet) {
	n, x := t.root, root(t.nLeaves)
	nh := t.s.nh
	var secret, child hashBuf
	for {
		if n != nil && n.secret != nil {
			copy(secret[:nh], n.secret)
			n = nil
		}
		if x.isLeaf() {
			break
		}
		side, next := "left", nodeIndex(0)
		if leaf.node() < x {
			next, _ = x.left()
			if n != nil {
				n = n.left
			}
		} else {
			side = "right"
			next, _ = x.right()
			if n != nil {
				n = n.right
			}
		}
		if n == nil {
			t.s.expandInto(child[:nh], secret[:nh], "tree", []byte(side))
			secret = child
		}
		x = next
	}
	t.s.expandInto(out.secret[:nh], secret[:nh], kind.String(), nil)
	wipe(secret[:])
	wipe(child[:])
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

// dropOldest erases the n oldest skipped keys.
func (r *ratchet) dropOldest(n int) {
	if n <= 0 {
		return
	}
	kept := copy(r.skipped, r.skipped[n:])
	clear(r.skipped[kept:])
	r.skipped = r.skipped[:kept]
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
