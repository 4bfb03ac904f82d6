// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
)

// A treeIndex answers in constant time what validation asks of the whole tree:
// is a key already in use, do all members support a thing (RFC 9420 §7.3). It
// is updated with every change and shares its structure with older versions.
type treeIndex struct {
	keys     pmap // hash of a key -> the place that was the last to get it
	supports pmap // capability -> number of members that list it
	inUse    []credentialUse
}

// credentialUse counts the members whose credential has a type. Every member
// must support every type in use, so that the list is short.
type credentialUse struct {
	t CredentialType
	n uint32
}

// keySeed makes the places of keys in the index unpredictable to those who
// choose the keys.
var keySeed = maphash.MakeSeed()

func keyHash(kind keyKind, key []byte) uint64 {
	h := maphash.Bytes(keySeed, key)
	if kind == signatureKeyKind {
		h = ^h
	}
	return max(1, h)
}

// A capability is a thing that a leaf's capabilities, or its component lists,
// name: these, too, are chosen by strangers.
func capability(kind, value uint16) uint64 {
	return max(1, maphash.Comparable(keySeed, uint32(kind)<<16|uint32(value)))
}

func extensionCapability(t ExtensionType) uint64   { return capability(1, uint16(t)) }
func proposalCapability(t ProposalType) uint64     { return capability(2, uint16(t)) }
func credentialCapability(t CredentialType) uint64 { return capability(3, uint16(t)) }
func componentCapability(id ComponentID) uint64    { return capability(4, uint16(id)) }
func safeAADCapability(id ComponentID) uint64      { return capability(5, uint16(id)) }

// A keyKind tells apart the two keys that a leaf has. Keys of different kinds are
// never the same.
type keyKind uint8

const (
	encryptionKeyKind keyKind = iota
	signatureKeyKind
)

// A duplicateKeyError says that two nodes of a tree have the same key.
type duplicateKeyError struct {
	kind    keyKind
	a, b    nodeIndex
	parents bool // at least one of them is a parent node
}

func (e *duplicateKeyError) Error() string {
	what := "encryption_key"
	if e.kind == signatureKeyKind {
		what = "signature_key"
	}
	return fmt.Sprintf("mls: nodes %d and %d have the same %s", e.a, e.b, what)
}

// A keyPlace is where a key stands: a node and a kind.
type keyPlace uint32

func placeOf(kind keyKind, at nodeIndex) keyPlace { return keyPlace(at)<<1 | keyPlace(kind) }

func (p keyPlace) kind() keyKind { return keyKind(p & 1) }
func (p keyPlace) at() nodeIndex { return nodeIndex(p >> 1) }

// A keyGiven is a key that an edit put into a place, where it may stand no longer.
type keyGiven struct {
	hash  uint64
	place keyPlace
}

// addKey notes that a node got a key. The index is told when the edit ends: a
// commit may move a key from one leaf to another, in any order, and what counts is
// whether two hold it then. That a key goes need not be noted, since what the index
// says is checked against the node.
func (e *treeEdit) addKey(kind keyKind, key []byte, at nodeIndex) {
	if e.given == nil {
		e.given = make([]keyGiven, 0, 32)
	}
	e.given = append(e.given, keyGiven{keyHash(kind, key), placeOf(kind, at)})
}

// indexKeys brings the keys of the index up to date. It fails when two nodes have
// the same. The hashes are 64 bits of a keyed function: should two different keys
// ever share one, the index knows the place of the later only.
func (e *treeEdit) indexKeys() error {
	if len(e.given) == 0 {
		return nil
	}
	keys := &e.t.index.keys
	keys.edit(len(e.given))
	for _, g := range e.given {
		if v, ok := keys.get(g.hash); ok && keyPlace(v) != g.place {
			key, other := e.t.keyIn(g.place), e.t.keyIn(keyPlace(v))
			if key == nil || keyHash(g.place.kind(), key) != g.hash {
				continue // it went on, and may have left the key where it was before
			}
			if other != nil && bytes.Equal(key, other) {
				a, b := keyPlace(v).at(), g.place.at()
				return &duplicateKeyError{g.place.kind(), a, b, a.level() > 0 || b.level() > 0}
			}
		}
		keys.set(g.hash, uint32(g.place))
	}
	e.given = nil
	keys.settle(int(placeOf(0, nodeIndex(nodeWidth(e.t.width)))))
	return nil
}

// keyAt returns the key that a node holds, nil when it is blank.
func (t *ratchetTree) keyAt(kind keyKind, at nodeIndex) []byte {
	n := t.node(at)
	switch {
	case n == nil:
		return nil
	case n.leaf != nil && kind == signatureKeyKind:
		return n.leaf.SignatureKey
	case n.leaf != nil:
		return n.leaf.EncryptionKey
	case n.parent != nil && kind == encryptionKeyKind:
		return n.parent.encryptionKey
	}
	return nil
}

func (t *ratchetTree) keyIn(p keyPlace) []byte { return t.keyAt(p.kind(), p.at()) }

// holderOf returns the node that holds a key.
func (t *ratchetTree) holderOf(kind keyKind, key []byte) (nodeIndex, bool) {
	v, ok := t.index.keys.get(keyHash(kind, key))
	if !ok || !bytes.Equal(t.keyIn(keyPlace(v)), key) {
		return 0, false
	}
	return keyPlace(v).at(), true
}

// holderOf returns the node that holds a key at this point of the edit.
func (e *treeEdit) holderOf(kind keyKind, key []byte) (nodeIndex, bool) {
	h := keyHash(kind, key)
	for _, g := range e.given {
		if g.hash == h && bytes.Equal(e.t.keyIn(g.place), key) {
			return g.place.at(), true
		}
	}
	return e.t.holderOf(kind, key)
}

// indexLeaf and unindexLeaf keep the index in step with a leaf that comes or
// goes.
func (e *treeEdit) indexLeaf(i LeafIndex, l *LeafNode) {
	at := i.node()
	e.addKey(encryptionKeyKind, l.EncryptionKey, at)
	e.addKey(signatureKeyKind, l.SignatureKey, at)
	e.countCapabilities(l, 1)
	e.countCredential(l.Credential.Type, 1)
}

func (e *treeEdit) unindexLeaf(l *LeafNode) {
	e.countCapabilities(l, -1)
	e.countCredential(l.Credential.Type, -1)
}

// reindexLeaf is both, and cheaper when the capabilities stay.
func (e *treeEdit) reindexLeaf(i LeafIndex, old, leaf *LeafNode) {
	if !slices.Equal(old.Capabilities.Extensions, leaf.Capabilities.Extensions) ||
		!slices.Equal(old.Capabilities.Proposals, leaf.Capabilities.Proposals) ||
		!slices.Equal(old.Capabilities.Credentials, leaf.Capabilities.Credentials) ||
		!sameExtension(old.Extensions, leaf.Extensions, ExtensionAppDataDictionary) ||
		old.Credential.Type != leaf.Credential.Type {
		e.unindexLeaf(old)
		e.indexLeaf(i, leaf)
		return
	}
	at := i.node()
	if !bytes.Equal(old.EncryptionKey, leaf.EncryptionKey) {
		e.addKey(encryptionKeyKind, leaf.EncryptionKey, at)
	}
	if !bytes.Equal(old.SignatureKey, leaf.SignatureKey) {
		e.addKey(signatureKeyKind, leaf.SignatureKey, at)
	}
}

// sameExtension reports whether both lists have the same extension of type t, or
// none.
func sameExtension(x, y Extensions, t ExtensionType) bool {
	a, inX := x.Find(t)
	b, inY := y.Find(t)
	return inX == inY && bytes.Equal(a, b)
}

func (e *treeEdit) countCapabilities(l *LeafNode, by int32) {
	c := &l.Capabilities
	// What does not decode lists nothing; validateLeaf refuses it.
	if lists, err := l.Extensions.components(); err == nil {
		eachOnce(lists.app, func(id ComponentID) { e.count(componentCapability(id), by) })
		eachOnce(lists.safeAAD, func(id ComponentID) { e.count(safeAADCapability(id), by) })
	}
	eachOnce(c.Extensions, func(t ExtensionType) { e.count(extensionCapability(t), by) })
	eachOnce(c.Proposals, func(t ProposalType) { e.count(proposalCapability(t), by) })
	eachOnce(c.Credentials, func(t CredentialType) { e.count(credentialCapability(t), by) })
}

// eachOnce calls f for each distinct value that is not GREASE, in linear time.
func eachOnce[T ~uint16](list []T, f func(T)) {
	if len(list) <= 32 {
		for i, t := range list {
			if !isGREASE(t) && !slices.Contains(list[:i], t) {
				f(t)
			}
		}
		return
	}
	seen := make(map[T]struct{}, len(list))
	for _, t := range list {
		if _, ok := seen[t]; !ok && !isGREASE(t) {
			seen[t] = struct{}{}
			f(t)
		}
	}
}

func (e *treeEdit) count(capability uint64, by int32) {
	e.ownCounts()
	n, _ := e.t.index.supports.get(capability)
	e.t.index.supports.set(capability, uint32(int32(n)+by))
}

// ownCounts makes the counts of capabilities and credentials changeable.
func (e *treeEdit) ownCounts() {
	if !e.ownsCounts {
		e.ownsCounts = true
		e.t.index.supports.edit(32)
		e.t.index.inUse = slices.Clone(e.t.index.inUse)
	}
}

func (e *treeEdit) countCredential(t CredentialType, by int32) {
	e.ownCounts()
	x := &e.t.index
	i := slices.IndexFunc(x.inUse, func(u credentialUse) bool { return u.t == t })
	if i < 0 {
		x.inUse = append(x.inUse, credentialUse{t, 0})
		i = len(x.inUse) - 1
	}
	if x.inUse[i].n = uint32(int32(x.inUse[i].n) + by); x.inUse[i].n == 0 {
		x.inUse = slices.Delete(x.inUse, i, i+1)
	}
}

// allSupport reports whether every member lists the capability.
func (t *ratchetTree) allSupport(capability uint64) bool {
	n, _ := t.index.supports.get(capability)
	return n == t.root.leaves
}

// allSupportExtension, allSupportProposal and allSupportCredential report
// whether every member supports the thing (RFC 9420 §7.2: defaults are not
// listed).
func (t *ratchetTree) allSupportExtension(x ExtensionType) bool {
	return x.isDefault() || t.allSupport(extensionCapability(x))
}

func (t *ratchetTree) allSupportProposal(x ProposalType) bool {
	return x.isDefault() || t.allSupport(proposalCapability(x))
}

func (t *ratchetTree) allSupportCredential(x CredentialType) bool {
	return t.allSupport(credentialCapability(x))
}

// credentialTypes returns the credential types that members use.
func (t *ratchetTree) credentialTypes() []credentialUse { return t.index.inUse }
