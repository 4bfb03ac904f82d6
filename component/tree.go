// SPDX-License-Identifier: Apache-2.0

package component

import (
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file serves a group's state to those who join (xep/mls-delivery.xml#state): the
// GroupInfo, and the ratchet tree in pages, so that members never upload it.

// maySeeState refuses those who have no business with a group's state: besides
// members, those for whom a Welcome waits and those who may join may see it.
func (s *Service) maySeeState(rd store.Reader, row *store.Group, snap *store.Snapshot, r *request) error {
	user := r.from.bare
	if banned, err := isOutcast(rd, row.Key, user); err != nil {
		return err
	} else if banned {
		return masked()
	}
	inTree, err := inTreeNow(rd, row.Key, user)
	if err != nil || inTree {
		return err
	}
	st, err := agreedAt(row, snap)
	if err != nil {
		return err
	}
	if st.Roles != nil && st.Roles.CanJoin(user, false) == nil {
		return nil
	}
	// A joiner that was added is in the tree already, unless it has been
	// removed since; then there is nothing for it here.
	conf, err := decodeConfig(row.Config)
	if err != nil {
		return err
	}
	return outsider(&conf)
}

// inTreeNow reports whether one of a user's devices is in the group.
func inTreeNow(rd store.Reader, key store.GroupKey, user string) (bool, error) {
	members, err := rd.MembersOf(key, user)
	if err != nil {
		return false, err
	}
	for _, m := range members {
		if m.InTree() {
			return true, nil
		}
	}
	return false, nil
}

// treeCache keeps the serialised trees that somebody is fetching page by page.
type treeCache struct {
	mu sync.Mutex
	m  map[treeKey]*cachedTree
	// bytes is bounded by treeCacheBytes.
	bytes int
}

type treeKey struct {
	group store.GroupKey
	epoch uint64
	seq   uint64 // epochs begin anew with a ReInit, the log does not
}

type cachedTree struct {
	tree []byte
	sum  [sha256.Size]byte
	used int64
}

// treeCacheBytes bounds the trees kept: the tree of 10,000 members is about
// 5 MB, and is asked for in a hundred pages.
const treeCacheBytes = 32 << 20

func (c *treeCache) get(k treeKey, now int64) (*cachedTree, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.m[k]
	if ok {
		t.used = now
	}
	return t, ok
}

func (c *treeCache) put(k treeKey, t *cachedTree, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[treeKey]*cachedTree)
	}
	if _, ok := c.m[k]; ok || len(t.tree) > treeCacheBytes {
		return
	}
	t.used = now
	c.m[k] = t
	c.bytes += len(t.tree)
	for c.bytes > treeCacheBytes {
		var oldest treeKey
		first := true
		for key, e := range c.m {
			if key != k && (first || e.used < c.m[oldest].used) {
				oldest, first = key, false
			}
		}
		if first {
			return
		}
		c.bytes -= len(c.m[oldest].tree)
		delete(c.m, oldest)
	}
}

// treeWork is what reading a tree that is not at hand counts for, besides its
// own size, among the bytes that an account may send: the tree of a large group
// takes a tenth of a second of a processor.
const treeWork = 16 << 10

// treeOf gives the serialised tree of an epoch, to an account.
func (s *Service) treeOf(rd store.Reader, row *store.Group, snap *store.Snapshot, who string) (*cachedTree, error) {
	k := treeKey{row.Key, snap.Epoch, snap.Seq}
	now := s.now().UnixNano()
	if t, ok := s.trees.get(k, now); ok {
		return t, nil
	}
	nodes, err := rd.Nodes(row.Key, snap.Epoch)
	if err != nil {
		return nil, err
	}
	work := treeWork
	for _, n := range nodes {
		work += len(n.Data)
	}
	if err := s.charge(who, work); err != nil {
		return nil, err
	}
	g, err := mls.LoadPublicGroup(s.mlsConf, snap.Header, treeNodes(nodes))
	if err != nil {
		return nil, err
	}
	t := &cachedTree{tree: g.Tree()}
	t.sum = sha256.Sum256(t.tree)
	s.trees.put(k, t, now)
	return t, nil
}

func getGroupInfo(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.GroupInfoQuery](r.payload)
	if err != nil {
		return nil, err
	}
	out := &stanza.GroupInfo{}
	var info []byte
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		row, snap, err := s.snapshot(rd, r, in.Epoch)
		if err != nil {
			return err
		}
		if len(snap.GroupInfo) == 0 {
			return stanza.NewError(stanza.ItemNotFound, "The group keeps its state to itself.")
		}
		info = snap.GroupInfo
		out.Epoch = snap.Epoch
		// A joiner reads the log from here on: the commit that began the epoch.
		out.Seq = snap.Seq
		if snap.Epoch == row.Epoch {
			out.Seq, out.Chain = row.Head, stanza.Hash(row.Chain)
		} else if e, err := entryAt(rd, row.Key, snap.Seq); err == nil {
			out.Chain = stanza.Hash(e.Chain)
		}
		if row.Mode != "private" {
			t, err := s.treeOf(rd, row, snap, r.from.bare)
			if err != nil {
				return err
			}
			out.TreeBytes, out.TreeSHA256 = uint64(len(t.tree)), t.sum
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	piece, whole, err := s.pieceOf(r, info, in.Offset, in.MaxBytes)
	if err != nil {
		return nil, err
	}
	out.Bytes = piece
	if !whole {
		out.Offset, out.Total = in.Offset, uint64(len(info))
	}
	return out, nil
}

func entryAt(rd store.Reader, key store.GroupKey, seq uint64) (*store.Entry, error) {
	if seq == 0 {
		return nil, store.ErrNotFound
	}
	list, err := rd.Log(key, store.LogQuery{After: seq - 1, Through: seq, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, store.ErrNotFound
	}
	return &list[0], nil
}

// snapshot finds the state that a request asks for, and checks that the sender
// may see it.
func (s *Service) snapshot(rd store.Reader, r *request, epoch *uint64) (*store.Group, *store.Snapshot, error) {
	row, err := rd.Group(r.to.bare)
	if err != nil {
		return nil, nil, s.noGroup(rd, r.to.bare, err)
	}
	want := row.Epoch
	if epoch != nil {
		want = *epoch
	}
	current, err := rd.Snapshot(row.Key, row.Epoch)
	if err != nil {
		return nil, nil, err
	}
	if err := s.maySeeState(rd, row, current, r); err != nil {
		return nil, nil, err
	}
	if want == row.Epoch {
		return row, current, nil
	}
	if want > row.Epoch {
		return nil, nil, &stanza.FutureEpoch{Submitted: want, Current: row.Epoch, Head: row.Head}
	}
	snap, err := rd.Snapshot(row.Key, want)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, &stanza.StaleEpoch{Submitted: want, Current: row.Epoch, Head: row.Head}
	}
	return row, snap, err
}

func getTree(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.TreeQuery](r.payload)
	if err != nil {
		return nil, err
	}
	out := &stanza.TreePage{Epoch: in.Epoch, Offset: in.Offset}
	var t *cachedTree
	err = s.store.View(r.ctx, func(rd store.Reader) error {
		row, snap, err := s.snapshot(rd, r, &in.Epoch)
		if err != nil {
			return err
		}
		if row.Mode == "private" {
			return stanza.NewError(stanza.FeatureNotImplemented, "The group's handshakes are private: its members hold the tree.")
		}
		t, err = s.treeOf(rd, row, snap, r.from.bare)
		return err
	})
	if err != nil {
		return nil, err
	}
	if out.Bytes, _, err = s.piece(t.tree, in.Offset, in.MaxBytes); err != nil {
		return nil, err
	}
	out.Total = uint64(len(t.tree))
	return out, nil
}
