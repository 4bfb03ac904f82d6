// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Load restores a group from what Save returned. The storage is trusted: hashes
// are computed again, signatures not verified.
func Load(cfg *Config, b []byte) (*Group, error) {
	r := reader{b: bytes.Clone(b)}
	if v := r.u8(); r.err == nil && v != groupStateVersion {
		return nil, fmt.Errorf("mls: stored group has version %d, this is a program for version %d", v, groupStateVersion)
	}
	rows := readVector(&r, func(r *reader) Row { return Row{string(r.opaque()), r.opaque()} })
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("mls: decoding stored group: %w", err)
	}
	g, err := LoadRows(cfg, rows)
	if err == nil {
		g.stored = new(storedRows) // a blob is not rows: the next Delta is all
	}
	return g, err
}

// A loader puts a group together from its rows.
type loader struct {
	c        *config
	s        *suite
	core     []byte
	exporter []byte
	nodes    []TreeNode
	pending  []*pendingProposal
	past     map[uint64][]byte
	messages map[uint64][]byte
	stored   *storedRows
}

var errBadRows = errors.New("mls: stored group is damaged")

// LoadRows restores a group from its rows, in any order. The storage is trusted:
// hashes are computed again, signatures not verified.
func LoadRows(cfg *Config, rows []Row) (*Group, error) {
	l := &loader{
		c: cfg.resolve(), past: make(map[uint64][]byte), messages: make(map[uint64][]byte),
		stored: &storedRows{past: make(map[uint64]bool), messages: make(map[uint64]map[nodeIndex]struct{})},
	}
	sorted := slices.SortedFunc(slices.Values(rows), func(a, b Row) int { return strings.Compare(a.Key, b.Key) })
	for _, r := range sorted {
		if r.Value == nil {
			continue
		}
		if err := l.row(r.Key, bytes.Clone(r.Value)); err != nil {
			return nil, err
		}
	}
	return l.load()
}

func (l *loader) row(key string, value []byte) error {
	var epoch uint64
	var x uint32
	kind, rest, _ := strings.Cut(key, "/")
	var err error
	switch kind {
	case "g":
		l.core, l.stored.core = value, sha256.Sum256(value)
	case "x":
		l.exporter, l.stored.exporter = value, sha256.Sum256(value)
	case "n":
		_, err = fmt.Sscanf(rest, "%x", &x)
		l.nodes = append(l.nodes, TreeNode{x, value})
	case "p":
		var p *pendingProposal
		p, err = decode(value, "stored proposal", readPending)
		l.pending = append(l.pending, p)
	case "e":
		_, err = fmt.Sscanf(rest, "%x", &epoch)
		l.past[epoch] = value
	case "k":
		if _, err = fmt.Sscanf(rest, "%x/%x", &epoch, &x); err != nil {
			break
		}
		l.messages[epoch] = append(l.messages[epoch], value...)
		wipe(value)
		if l.stored.messages[epoch] == nil {
			l.stored.messages[epoch] = make(map[nodeIndex]struct{})
		}
		l.stored.messages[epoch][nodeIndex(x)] = struct{}{}
	default:
		err = errors.New("its kind is unknown")
	}
	if err != nil {
		return fmt.Errorf("%w: row %q: %w", errBadRows, key, err)
	}
	return nil
}

func (l *loader) load() (*Group, error) {
	r := reader{b: l.core}
	if v := r.u8(); r.err == nil && v != groupStateVersion {
		return nil, fmt.Errorf("mls: stored group has version %d, this is a program for version %d", v, groupStateVersion)
	}
	e, err := l.readEpoch(&r)
	if err != nil {
		return nil, err
	}
	e.pending = l.pending
	st, err := e.restore(l.c, slices.Values(l.nodes))
	if err != nil {
		return nil, err
	}
	g := e.group(st)
	g.ownUpdates = readVector(&r, func(r *reader) ownUpdate {
		u := ownUpdate{ref: r.opaque()}
		u.key = readPrivateKey(r, l.s)
		u.me = readIdentity(r, l.s)
		return u
	})
	g.resumption = readVector(&r, func(r *reader) resumptionPSK { return resumptionPSK{r.u64(), r.opaque()} })
	past := readVector(&r, (*reader).u64)
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadRows, err)
	}
	if g.keys.messages, err = l.secretTree(st.ctx.Epoch, st.tree.width); err != nil {
		return nil, err
	}
	if g.keys.exporter, err = decode(l.exporter, "stored exporter tree", func(r *reader) *exporterTree { return readExporterTree(r, l.s) }); err != nil {
		return nil, err
	}
	for _, epoch := range past {
		p, err := l.pastEpoch(epoch)
		if err != nil {
			return nil, err
		}
		g.past = append(g.past, p)
		l.stored.past[epoch] = true
	}
	l.stored.tree, l.stored.pending = g.tree, g.publicState.pending
	g.stored = l.stored
	return g, nil
}

// storedEpoch is what appendEpoch wrote.
type storedEpoch struct {
	storedState
	self    LeafIndex
	me      *Identity
	private *treePrivate
	secrets *epochSecrets
}

func (l *loader) readEpoch(r *reader) (*storedEpoch, error) {
	e := &storedEpoch{}
	c := r.vector()
	e.ctx = readGroupContext(&c)
	r.end(&c)
	e.confirmationTag = r.opaque()
	if r.optional() {
		e.reinit = readReInit(r)
	}
	e.self = LeafIndex(r.u32())
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", errBadRows, r.err)
	}
	s, err := e.ctx.CipherSuite.suite()
	if err != nil {
		return nil, err
	}
	l.s = s
	e.me = readIdentity(r, s)
	e.private = &treePrivate{self: e.self, leaf: readPrivateKey(r, s)}
	e.private.path = readVector(r, func(r *reader) *hpkePrivateKey { return readPrivateKey(r, s) })
	e.secrets = s.newEpochSecrets()
	for i, secret := range e.secrets.lasting() {
		b := r.opaque()
		if r.err == nil && len(b) != s.nh {
			r.fail(errors.New("a secret has the wrong length"))
		}
		*secret = e.secrets.slot(i, s.nh)
		copy(*secret, b)
		wipe(b)
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", errBadRows, r.err)
	}
	return e, nil
}

// group returns a group without message keys.
func (e *storedEpoch) group(st publicState) *Group {
	return &Group{
		publicState: st, me: e.me, self: e.self, private: e.private,
		keys: &epochKeys{secrets: e.secrets}, stored: new(storedRows),
	}
}

func readReInit(r *reader) *ReInit {
	return &ReInit{r.opaque(), ProtocolVersion(r.u16()), CipherSuite(r.u16()), readExtensions(r)}
}

// readPrivateKey reads an HPKE private key, and wipes what it read; an empty one is
// nil.
func readPrivateKey(r *reader, s *suite) *hpkePrivateKey {
	b := r.opaque()
	if len(b) == 0 {
		return nil
	}
	k, err := s.parseHPKEPrivateKey(b)
	wipe(b)
	if err != nil {
		r.fail(err)
	}
	return k
}

// secretTree restores the secret tree of an epoch from its records.
func (l *loader) secretTree(epoch uint64, width uint32) (*secretTree, error) {
	b := append(appendU32(nil, width), l.messages[epoch]...)
	wipe(l.messages[epoch])
	t, err := restoreSecretTree(l.s, b)
	wipe(b)
	if err != nil {
		return nil, err
	}
	l.c.limitSecretTree(t)
	return t, nil
}

func (l *loader) pastEpoch(epoch uint64) (*pastEpoch, error) {
	var width uint32
	p, err := decode(l.past[epoch], "stored past epoch", func(r *reader) *pastEpoch {
		p := &pastEpoch{epoch: r.u64(), ended: int64(r.u64()), context: r.opaque(), sender: r.opaque(), self: LeafIndex(r.u32())}
		width = r.u32()
		p.former = make(map[LeafIndex]*LeafNode)
		readVector(r, func(r *reader) struct{} {
			i := LeafIndex(r.u32())
			p.former[i] = nil
			if r.optional() {
				p.former[i] = readLeafNode(r)
			}
			return struct{}{}
		})
		return p
	})
	if err != nil {
		return nil, err
	}
	p.messages, err = l.secretTree(epoch, width)
	return p, err
}
