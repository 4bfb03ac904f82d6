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
	encryption pmap // hash of an encryption key -> node index
	signature  pmap // hash of a signature key -> node index of the leaf
	supports   pmap // capability -> number of members that list it
	inUse      []credentialUse
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

func keyHash(key []byte) uint64 { return maphash.Bytes(keySeed, key) }

// A capability is a thing that a leaf's capabilities, or its component lists, name.
func extensionCapability(t ExtensionType) uint64   { return spread(1<<16 | uint64(t)) }
func proposalCapability(t ProposalType) uint64     { return spread(2<<16 | uint64(t)) }
func credentialCapability(t CredentialType) uint64 { return spread(3<<16 | uint64(t)) }
func componentCapability(id ComponentID) uint64    { return spread(4<<16 | uint64(id)) }
func safeAADCapability(id ComponentID) uint64      { return spread(5<<16 | uint64(id)) }

// spread is the finalizer of splitmix64, a bijection: small numbers spread over
// the branches of a pmap.
func spread(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// A keyKind says in which of the two index maps a key lives.
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

func (x *treeIndex) keys(kind keyKind) *pmap {
	if kind == signatureKeyKind {
		return &x.signature
	}
	return &x.encryption
}

// addKey records that a node holds a key. A second holder is only noted: a
// commit may move a key from one leaf to another, in any order. What counts is
// whether two hold it when the edit ends.
func (e *treeEdit) addKey(kind keyKind, key []byte, at nodeIndex) {
	h, m := keyHash(key), e.t.index.keys(kind)
	if holder, ok := m.get(h); ok && nodeIndex(holder) != at {
		e.doubles = append(e.doubles, keyHolder{kind, h, at})
		return
	}
	*m = m.set(h, uint32(at), e.id)
}

// removeKey records that a node no longer holds a key.
func (e *treeEdit) removeKey(kind keyKind, key []byte, at nodeIndex) {
	h, m := keyHash(key), e.t.index.keys(kind)
	if i := slices.Index(e.doubles, keyHolder{kind, h, at}); i >= 0 {
		e.doubles = slices.Delete(e.doubles, i, i+1)
		return
	}
	if holder, ok := m.get(h); !ok || nodeIndex(holder) != at {
		return
	}
	for i, d := range e.doubles {
		if d.kind == kind && d.hash == h {
			*m = m.set(h, uint32(d.at), e.id)
			e.doubles = slices.Delete(e.doubles, i, i+1)
			return
		}
	}
	*m = m.del(h, e.id)
}

type keyHolder struct {
	kind keyKind
	hash uint64
	at   nodeIndex
}

// checkDoubles reports a key that two nodes hold. The hashes are 64 bits of a
// keyed function: should two different keys ever share one, the pair is let
// pass here and the second is missing from the index.
func (e *treeEdit) checkDoubles() error {
	for _, d := range e.doubles {
		holder, ok := e.t.index.keys(d.kind).get(d.hash)
		if !ok {
			continue
		}
		other := nodeIndex(holder)
		if bytes.Equal(e.t.keyAt(d.kind, d.at), e.t.keyAt(d.kind, other)) {
			return &duplicateKeyError{d.kind, other, d.at, d.at.level() > 0 || other.level() > 0}
		}
	}
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

// holderOf returns the node that holds a key.
func (t *ratchetTree) holderOf(kind keyKind, key []byte) (nodeIndex, bool) {
	holder, ok := t.index.keys(kind).get(keyHash(key))
	at := nodeIndex(holder)
	if !ok || !bytes.Equal(t.keyAt(kind, at), key) {
		return 0, false
	}
	return at, true
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

func (e *treeEdit) unindexLeaf(i LeafIndex, l *LeafNode) {
	at := i.node()
	e.removeKey(encryptionKeyKind, l.EncryptionKey, at)
	e.removeKey(signatureKeyKind, l.SignatureKey, at)
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
		e.unindexLeaf(i, old)
		e.indexLeaf(i, leaf)
		return
	}
	at := i.node()
	if !bytes.Equal(old.EncryptionKey, leaf.EncryptionKey) {
		e.removeKey(encryptionKeyKind, old.EncryptionKey, at)
		e.addKey(encryptionKeyKind, leaf.EncryptionKey, at)
	}
	if !bytes.Equal(old.SignatureKey, leaf.SignatureKey) {
		e.removeKey(signatureKeyKind, old.SignatureKey, at)
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
	m := &e.t.index.supports
	n, _ := m.get(capability)
	if n = uint32(int32(n) + by); n == 0 {
		*m = m.del(capability, e.id)
	} else {
		*m = m.set(capability, n, e.id)
	}
}

func (e *treeEdit) countCredential(t CredentialType, by int32) {
	if !e.ownsInUse {
		e.t.index.inUse, e.ownsInUse = slices.Clone(e.t.index.inUse), true
	}
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
