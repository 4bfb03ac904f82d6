// SPDX-License-Identifier: Apache-2.0

// Package storetest is what a store.Store has to do, as tests: one suite that
// every implementation passes, a crash test that kills a real process under
// load, and the benchmarks.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-im/lockstep/component/store"
)

// The cast. Mallory is no member of anything.
const (
	juliet   = "juliet@capulet.example"
	romeo    = "romeo@montague.example"
	mercutio = "mercutio@verona.example"
	mallory  = "mallory@evil.example"

	balcony = "balcony@mls.example"
	orchard = "orchard@mls.example"
)

// noon is when the tests play.
var noon = time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC)

// Run runs the suite. Each call of open returns an empty store of its own,
// which it closes at the end of the test.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, w *world)
	}{
		{"CreateGroup", testCreateGroup},
		{"CreateGroupTaken", testCreateGroupTaken},
		{"Reserve", testReserve},
		{"Destroy", testDestroy},
		{"UpdateGroup", testUpdateGroup},
		{"ReplaceGroup", testReplaceGroup},
		{"Groups", testGroups},
		{"Append", testAppend},
		{"AppendConflict", testAppendConflict},
		{"AppendStale", testAppendStale},
		{"AppendIdempotent", testAppendIdempotent},
		{"AppendProposal", testAppendProposal},
		{"LogPages", testLogPages},
		{"LogModel", testLogModel},
		{"AcceptCommit", testAcceptCommit},
		{"AcceptCommitConflict", testAcceptCommitConflict},
		{"AcceptCommitIdempotent", testAcceptCommitIdempotent},
		{"Commits", testCommits},
		{"Tree", testTree},
		{"TreeModel", testTreeModel},
		{"Members", testMembers},
		{"UserGroups", testUserGroups},
		{"KeyPackages", testKeyPackages},
		{"KeyPackageQuota", testKeyPackageQuota},
		{"Claim", testClaim},
		{"ClaimIdempotent", testClaimIdempotent},
		{"ClaimNeverTwice", testClaimNeverTwice},
		{"ClaimMatch", testClaimMatch},
		{"Welcomes", testWelcomes},
		{"WelcomePointers", testWelcomePointers},
		{"Sessions", testSessions},
		{"Nudges", testNudges},
		{"Uploads", testUploads},
		{"UploadQuota", testUploadQuota},
		{"UploadProgress", testUploadProgress},
		{"Settings", testSettings},
		{"Reports", testReports},
		{"PurgeUser", testPurgeUser},
		{"CleanLog", testCleanLog},
		{"CleanSnapshots", testCleanSnapshots},
		{"CleanReused", testCleanReused},
		{"CleanExpired", testCleanExpired},
		{"Rollback", testRollback},
		{"Doomed", testDoomed},
		{"Panic", testPanic},
		{"Snapshot", testSnapshot},
		{"Deadline", testDeadline},
		{"Ended", testEnded},
		{"Goexit", testGoexit},
		{"Cancelled", testCancelled},
		{"BadText", testBadText},
		{"Hostile numbers", testNumbers},
		{"Closed", testClosed},
		{"RaceCommits", testRaceCommits},
		{"RaceAppends", testRaceAppends},
		{"RaceClaims", testRaceClaims},
		{"Stats", testStats},
		{"Big", testBig},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, &world{t, open(t)}) })
	}
}

// A world is a store in a test.
type world struct {
	*testing.T
	s store.Store
}

func (w *world) ctx() context.Context { return w.Context() }

// update runs a transaction that must succeed.
func (w *world) update(f func(tx store.Tx) error) {
	w.Helper()
	if err := w.s.Update(w.ctx(), f); err != nil {
		w.Fatalf("Update: %v", err)
	}
}

// view reads, which must succeed.
func (w *world) view(f func(r store.Reader) error) {
	w.Helper()
	if err := w.s.View(w.ctx(), f); err != nil {
		w.Fatalf("View: %v", err)
	}
}

// fails checks that a transaction fails with a certain error.
func (w *world) fails(want error, f func(tx store.Tx) error) {
	w.Helper()
	if err := w.s.Update(w.ctx(), f); !errors.Is(err, want) {
		w.Fatalf("Update: got error %v, want %v", err, want)
	}
}

// exists checks that a transaction fails because a name is taken.
func (w *world) exists(what string, f func(tx store.Tx) error) {
	w.Helper()
	var e *store.ExistsError
	if err := w.s.Update(w.ctx(), f); !errors.As(err, &e) || e.What != what {
		w.Fatalf("Update: got error %v, want an ExistsError for %q", err, what)
	}
}

func (w *world) same(what string, got, want any) {
	w.Helper()
	if d := cmp.Diff(want, got); d != "" {
		w.Fatalf("%s: (-want +got)\n%s", what, d)
	}
}

// newGroup is the state of a group that juliet made with her one device.
func newGroup(jid string) *store.NewGroup {
	return &store.NewGroup{
		JID: jid, Owner: juliet, GroupID: []byte("id of " + jid), Mode: "public",
		Config: []byte("config"), Header: []byte("header 0"), GroupInfo: []byte("info 0"),
		Nodes:   []store.Node{{Index: 0, Data: []byte("leaf of juliet")}},
		Members: []store.Joiner{{User: juliet, Device: "j1", Leaf: 0}},
		Roles:   []store.Affiliation{{User: juliet, Value: "owner"}},
		Now:     noon,
	}
}

// create makes a group.
func (w *world) create(n *store.NewGroup) *store.Group {
	w.Helper()
	var g *store.Group
	w.update(func(tx store.Tx) (err error) {
		g, err = tx.CreateGroup(n)
		return err
	})
	return g
}

// group reads a group.
func (w *world) group(jid string) *store.Group {
	w.Helper()
	var g *store.Group
	w.view(func(r store.Reader) (err error) {
		g, err = r.Group(jid)
		return err
	})
	return g
}

// message is an application message of juliet for the group as it is.
func message(g *store.Group, text string) *store.NewEntry {
	return &store.NewEntry{
		Group: g.Key, Rev: g.Rev, Kind: store.KindApplication, Epoch: g.Epoch,
		Ref: store.RefOf([]byte(text)), ID: "id of " + text, Sender: juliet, Device: "j1",
		Stamp: noon, Bytes: []byte(text),
	}
}

// commit is a commit for the group as it is, which changes two nodes.
func commit(g *store.Group, text string) *store.Commit {
	return &store.Commit{
		Group: g.Key, Rev: g.Rev, Epoch: g.Epoch,
		Ref: store.RefOf([]byte(text)), ID: "id of " + text, Sender: juliet, Device: "j1",
		Stamp: noon, Bytes: []byte(text),
		Header: fmt.Appendf(nil, "header %d", g.Epoch+1), GroupInfo: fmt.Appendf(nil, "info %d", g.Epoch+1),
		Nodes: []store.Node{
			{Index: 0, Data: fmt.Appendf(nil, "leaf of juliet in %d", g.Epoch+1)},
			{Index: 1, Data: fmt.Appendf(nil, "root in %d", g.Epoch+1)},
		},
	}
}

func (w *world) append(e *store.NewEntry) store.Accepted {
	w.Helper()
	a, err := w.s.Append(w.ctx(), e)
	if err != nil {
		w.Fatalf("Append: %v", err)
	}
	return a
}

func (w *world) accept(c *store.Commit) store.Accepted {
	w.Helper()
	a, err := w.s.AcceptCommit(w.ctx(), c)
	if err != nil {
		w.Fatalf("AcceptCommit: %v", err)
	}
	return a
}

// say appends a message and returns the answer.
func (w *world) say(jid, text string) store.Accepted {
	w.Helper()
	return w.append(message(w.group(jid), text))
}

// conflicts checks that an error is a ConflictError with the group's state.
func (w *world) conflicts(err error, g *store.Group) {
	w.Helper()
	var c *store.ConflictError
	if !errors.As(err, &c) {
		w.Fatalf("got error %v, want a ConflictError", err)
	}
	w.same("conflict", *c, store.ConflictError{Epoch: g.Epoch, Head: g.Head, Rev: g.Rev})
}

// log reads all of a group's log.
func (w *world) log(key store.GroupKey, q store.LogQuery) []store.Entry {
	w.Helper()
	var es []store.Entry
	w.view(func(r store.Reader) (err error) {
		es, err = r.Log(key, q)
		return err
	})
	return es
}

// CheckLog checks a group's whole log against the group: no gap, no double,
// chain and epochs continuous. It returns the entries.
func CheckLog(r store.Reader, g *store.Group) ([]store.Entry, error) {
	var all []store.Entry
	chain, epoch := store.FirstChain(g.GroupID), uint64(0)
	refs := make(map[store.Ref]bool)
	for after := uint64(0); ; {
		es, err := r.Log(g.Key, store.LogQuery{After: after, Limit: 1000})
		if err != nil {
			return nil, fmt.Errorf("log after %d: %w", after, err)
		}
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			if e.Seq != after+1 {
				return nil, fmt.Errorf("seq %d follows %d", e.Seq, after)
			}
			if refs[e.Ref] {
				return nil, fmt.Errorf("seq %d is there twice", e.Seq)
			}
			refs[e.Ref] = true
			if e.Ref != store.RefOf(e.Bytes) {
				return nil, fmt.Errorf("seq %d: bytes are not those of the ref", e.Seq)
			}
			chain = chain.Next(e.Seq, e.Kind, e.Epoch, e.Ref)
			if e.Chain != chain {
				return nil, fmt.Errorf("seq %d: the chain is broken", e.Seq)
			}
			switch e.Kind {
			case store.KindCommit:
				if e.Epoch != epoch {
					return nil, fmt.Errorf("seq %d: commit for epoch %d, want %d", e.Seq, e.Epoch, epoch)
				}
				epoch++
			default:
				if e.Epoch > epoch {
					return nil, fmt.Errorf("seq %d: message for epoch %d in epoch %d", e.Seq, e.Epoch, epoch)
				}
			}
			after = e.Seq
		}
		all = append(all, es...)
	}
	if g.Head != uint64(len(all)) || g.Epoch != epoch || g.Chain != chain {
		return nil, fmt.Errorf("the group is at seq %d, epoch %d; its log ends at %d, %d", g.Head, g.Epoch, len(all), epoch)
	}
	s, err := r.Snapshot(g.Key, epoch)
	if err != nil {
		return nil, fmt.Errorf("snapshot of epoch %d: %w", epoch, err)
	}
	if want := fmt.Appendf(nil, "header %d", epoch); !bytes.Equal(s.Header, want) {
		return nil, fmt.Errorf("epoch %d has the header %q", epoch, s.Header)
	}
	return all, nil
}
