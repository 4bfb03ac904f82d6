// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/sqlite"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// sink is a server that counts answers and deliveries and does nothing else, so
// that what is measured is the service.
type sink struct {
	conn       net.Conn
	up         chan struct{}
	more       chan struct{} // has room for one: something came
	answers    atomic.Int64
	deliveries atomic.Int64
	bytes      atomic.Int64
}

func (s *sink) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go s.serve(ours)
	return theirs, nil
}

var (
	acceptedMark = []byte("<accepted ")
	eventMark    = []byte("<message type='groupchat'")
	readyMark    = []byte("<ready ")
	errorMark    = []byte("<error ")
)

func (s *sink) serve(conn net.Conn) {
	buf := make([]byte, 256<<10)
	n, _ := conn.Read(buf) // the header
	_ = n
	fmt.Fprintf(conn, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='x' id='1'>")
	conn.Read(buf)
	conn.Write([]byte("<handshake/>"))
	s.conn = conn
	close(s.up)
	for {
		// The service writes whole stanzas at a time, so no mark is divided.
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		s.bytes.Add(int64(n))
		if bytes.Contains(buf[:n], errorMark) {
			panic(string(buf[:min(n, 2000)]))
		}
		s.answers.Add(int64(bytes.Count(buf[:n], acceptedMark) + bytes.Count(buf[:n], readyMark)))
		s.deliveries.Add(int64(bytes.Count(buf[:n], eventMark)))
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

// wait waits for answers.
func (s *sink) wait(b testing.TB, answers int64) {
	b.Helper()
	s.waitFor(b, &s.answers, answers)
}

// waitFor waits until so many have come, without looking for them again and
// again: that would be measured, too.
func (s *sink) waitFor(b testing.TB, come *atomic.Int64, n int64) {
	b.Helper()
	late := time.NewTimer(60 * time.Second)
	defer late.Stop()
	for come.Load() < n {
		select {
		case <-s.more:
		case <-late.C:
			b.Fatalf("%d answers or deliveries of %d", come.Load(), n)
		}
	}
}

// goLive begins sessions of the creator's device: each gets what the groups are told.
func (s *sink) goLive(b testing.TB, sessions int) {
	b.Helper()
	var id stanza.DeviceID
	id[0] = 1
	s.answers.Store(0)
	for i := range sessions {
		h := stanza.Header{Kind: stanza.Presence, From: fmt.Sprintf("%s/r%d", juliet, i), To: domain}
		s.conn.Write(h.Append(nil, &stanza.Session{Device: id}))
		if i%200 == 199 {
			s.wait(b, int64(i+1))
		}
	}
	s.wait(b, int64(sessions))
}

func openBench(b testing.TB) store.Store {
	b.Helper()
	st, err := sqlite.Open(context.Background(), filepath.Join(b.TempDir(), "db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	return st
}

func benchService(b testing.TB, limits component.Limits) (*sink, *component.Service, *recorder) {
	b.Helper()
	st := &recorder{Store: openBench(b), rows: make(map[store.GroupKey][]*store.Commit)}
	s := &sink{up: make(chan struct{}), more: make(chan struct{}, 1)}
	c := testConfig(st)
	off := component.Rate{PerSecond: -1}
	limits.Requests, limits.Send, limits.Domain, limits.Create = off, off, off, off
	c.Limits, c.Dial, c.Nudge = limits, s.dial, component.NudgeOff
	svc, err := component.New(c)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	<-s.up
	<-svc.Ready()
	b.Cleanup(func() { cancel(); <-done })
	return s, svc, st
}

// benchGroup puts a group with members straight into the store: what is measured
// does not need their keys. The creator's group is real.
func benchGroup(b testing.TB, st store.Store, mode groupdata.HandshakeMode, i, members int) (*mls.Group, string) {
	b.Helper()
	jid := fmt.Sprintf("g%d@%s", i, domain)
	a := &actor{t: b, bare: juliet, me: identity(b, juliet)}
	a.id[0] = 1
	g := a.newGroup(jid, mode, groupdata.DefaultPolicy())
	for n := 1; n < members; {
		var add []*mls.KeyPackage
		for ; n < members && len(add) < 500; n++ {
			me := identity(b, fmt.Sprintf("u%d@capulet.lit", n))
			var id stanza.DeviceID
			id[0], id[1], id[2] = 2, byte(n>>8), byte(n)
			kp, err := mls.NewKeyPackage(nil, suite, me, &mls.KeyPackageOptions{DeviceID: id[:]})
			if err != nil {
				b.Fatal(err)
			}
			add = append(add, kp.KeyPackage)
		}
		p, err := g.Commit(&mls.CommitOptions{Add: add})
		if err != nil {
			b.Fatal(err)
		}
		if g, err = p.Merge(); err != nil {
			b.Fatal(err)
		}
	}
	storeGroup(b, st, mode, jid, g)
	return g, jid
}

// fullGroup is benchGroup for a group that is used: all members have joined, and
// enough of them have committed that a commit of the creator seals to log N nodes.
func fullGroup(b testing.TB, st store.Store, members int) (*mls.Group, string) {
	b.Helper()
	jid := "full@" + domain
	a := &actor{t: b, bare: juliet, me: identity(b, juliet)}
	a.id[0] = 1
	g := a.newGroup(jid, groupdata.Public, groupdata.DefaultPolicy())
	var add []*mls.KeyPackage
	var own []*mls.PrivateKeyPackage // of leaves 1, 2, 4, 8 …
	for n := 1; n < members; n++ {
		var id stanza.DeviceID
		id[0], id[1], id[2] = 2, byte(n>>8), byte(n)
		kp, err := mls.NewKeyPackage(nil, suite, identity(b, fmt.Sprintf("u%d@capulet.lit", n)), &mls.KeyPackageOptions{DeviceID: id[:]})
		if err != nil {
			b.Fatal(err)
		}
		add = append(add, kp.KeyPackage)
		if n&(n-1) == 0 {
			own = append(own, kp)
		}
	}
	p, err := g.Commit(&mls.CommitOptions{Add: add})
	if err != nil {
		b.Fatal(err)
	}
	if g, err = p.Merge(); err != nil {
		b.Fatal(err)
	}
	all := []*mls.Group{g}
	for _, kp := range own {
		m, err := mls.Join(nil, p.Welcome().Welcome, kp, &mls.JoinOptions{Tree: g.Public().Tree()})
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, m)
	}
	for i := range all[1:] {
		p, err := all[i+1].Commit(&mls.CommitOptions{ForcePath: true})
		if err != nil {
			b.Fatal(err)
		}
		for k := range all {
			if k == i+1 {
				all[k], err = p.Merge()
			} else {
				var got mls.Received
				if got, err = all[k].Process(p.Message()); err == nil {
					all[k], err = got.(*mls.StagedCommit).Merge()
				}
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	storeGroup(b, st, groupdata.Public, jid, all[0])
	return all[0], jid
}

func storeGroup(b testing.TB, st store.Store, mode groupdata.HandshakeMode, jid string, g *mls.Group) {
	b.Helper()
	gi, err := g.GroupInfo(&mls.GroupInfoOptions{ExternalPub: true})
	if err != nil {
		b.Fatal(err)
	}
	pub := g.Public()
	n := &store.NewGroup{JID: jid, Owner: juliet, GroupID: g.GroupID(), Epoch: g.Epoch(), Mode: mode.String(), GroupInfo: gi.Bytes(), Now: time.Now(), Roles: []store.Affiliation{{User: juliet, Value: "owner"}}}
	if mode == groupdata.Public {
		n.Header = pub.State()
		for node := range pub.TreeNodes() {
			n.Nodes = append(n.Nodes, store.Node{Index: node.Index, Data: node.Data})
		}
	}
	for m := range pub.Members() {
		n.Members = append(n.Members, store.Joiner{User: string(m.Leaf.Credential.Identity), Device: fmt.Sprintf("%x", m.Leaf.ApplicationID()), Leaf: uint32(m.Index)})
	}
	if err := st.Update(context.Background(), func(tx store.Tx) error { _, err := tx.CreateGroup(n); return err }); err != nil {
		b.Fatal(err)
	}
}

func identity(b testing.TB, bare string) *mls.Identity {
	b.Helper()
	key, err := mls.GenerateSignatureKey(suite, randReader)
	if err != nil {
		b.Fatal(err)
	}
	return &mls.Identity{Credential: mls.BasicCredential([]byte(bare)), Key: key}
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func sendIQ(g *mls.Group, jid string, n int, size int) []byte {
	m, err := g.Seal(bytes.Repeat([]byte("x"), size), nil)
	if err != nil {
		panic(err)
	}
	h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: fmt.Sprint(n), From: juliet + "/x", To: jid}
	return h.Append(nil, &stanza.Send{Epoch: g.Epoch(), Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}})
}

// BenchmarkSend measures an accepted 1 KiB message from the bytes on the link to
// the bytes on the link, with live sessions of other members. Many groups talk
// at once, so that the store's sync is shared. cpu-µs/op is the whole
// process: parsing, checks, store, answer and fan-out, and the test's own reader.
func BenchmarkSend(b *testing.B) {
	for _, live := range []int{0, 10, 50} {
		b.Run(fmt.Sprintf("live=%d", live), func(b *testing.B) {
			s, _, st := benchService(b, component.Limits{})
			const groups = 64
			gs, jids := make([]*mls.Group, groups), make([]string, groups)
			for i := range groups {
				gs[i], jids[i] = benchGroup(b, st, groupdata.Public, i, 1)
			}
			s.goLive(b, live)
			var iqs [][]byte
			for n := range b.N {
				iqs = append(iqs, sendIQ(gs[n%groups], jids[n%groups], n, 900))
			}
			runtime.GC()
			s.answers.Store(0)
			s.deliveries.Store(0)
			b.SetBytes(1024)
			b.ResetTimer()
			began := cpu()
			window := 4096 // outstanding at most: what the queue of events has room for
			if live > 0 {
				window = min(window, 16<<10/live)
			}
			for n, iq := range iqs {
				if n >= window {
					s.wait(b, int64(n-window))
					s.waitFor(b, &s.deliveries, int64((n-window)*live))
				}
				s.conn.Write(iq)
			}
			s.wait(b, int64(b.N))
			s.waitFor(b, &s.deliveries, int64(b.N*live))
			used := cpu() - began
			b.StopTimer()
			b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(s.deliveries.Load())/float64(b.N), "deliveries/op")
		})
	}
}

// BenchmarkFanout is the part of a delivery that each recipient costs.
func BenchmarkFanout(b *testing.B) {
	s, _, st := benchService(b, component.Limits{MaxSessions: 1000})
	g, jid := benchGroup(b, st, groupdata.Public, 0, 1)
	const live = 1000
	s.goLive(b, live)
	iqs := make([][]byte, b.N)
	for n := range iqs {
		iqs[n] = sendIQ(g, jid, n, 900)
	}
	s.deliveries.Store(0)
	b.ResetTimer()
	began := cpu()
	for n, iq := range iqs {
		s.conn.Write(iq)
		s.waitFor(b, &s.deliveries, int64((n+1)*live))
	}
	used := cpu() - began
	b.StopTimer()
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/live/1000, "cpu-µs/recipient")
}

// BenchmarkCommit measures an accepted commit that renews keys, one at a time, so
// that each pays its sync, in a group whose members have committed before. It
// should grow with the logarithm of N. What it reports is processor time, user
// and system, of the whole process:
//
//	cpu    everything but the making of the commits, with the test's own reader
//	mls    the validation alone: parsing the MLS objects, PublicGroup.Process, the
//	       GroupInfo, and what is to be stored of the new state
//	sigs   the three signatures in that, over as many bytes
//	store  the same commits accepted by another store, with its syncs
//	own    the difference: cpu - mls - store
//
// All are measured in the same run, one after the other.
func BenchmarkCommit(b *testing.B) {
	for _, members := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) { benchCommit(b, members) })
	}
}

// BenchmarkCommitLarge is BenchmarkCommit in a group of 10,000. Making the group
// takes half a minute: set LOCKSTEP_LARGE=1.
func BenchmarkCommitLarge(b *testing.B) {
	if os.Getenv("LOCKSTEP_LARGE") == "" {
		b.Skip("LOCKSTEP_LARGE is not set")
	}
	benchCommit(b, 10_000)
}

func benchCommit(b *testing.B, members int) {
	s, _, st := benchService(b, component.Limits{})
	g, jid := fullGroup(b, st, members)
	replay := openBench(b)
	storeGroup(b, replay, groupdata.Public, jid, g)
	measureCommits(b, s, st, replay, []*committing{makeCommits(b, groupdata.Public, g, jid, b.N+1)}, 0)
}

// BenchmarkCommitMany is BenchmarkCommit for 64 groups of 10 that commit at the
// same time, so that they share syncs. A round of commits comes in one piece, as
// through the buffer of a socket.
func BenchmarkCommitMany(b *testing.B) { benchCommitMany(b, groupdata.Public, 0) }

// BenchmarkCommitOrdered is BenchmarkCommitMany in groups whose handshakes are
// private, with live sessions that are told: what an accepted commit costs
// without its validation. That is parsing, the check of the epoch, the store with
// its part of a sync, the answer and the fan-out.
func BenchmarkCommitOrdered(b *testing.B) {
	for _, live := range []int{0, 10, 50} {
		b.Run(fmt.Sprintf("live=%d", live), func(b *testing.B) { benchCommitMany(b, groupdata.Private, live) })
	}
}

func benchCommitMany(b *testing.B, mode groupdata.HandshakeMode, live int) {
	s, _, st := benchService(b, component.Limits{})
	replay := openBench(b)
	const groups = 64
	var all []*committing
	for i := range groups {
		g, jid := benchGroup(b, st, mode, i, 10)
		storeGroup(b, replay, mode, jid, g)
		all = append(all, makeCommits(b, mode, g, jid, (b.N-i+groups-1)/groups+1))
	}
	s.goLive(b, live)
	measureCommits(b, s, st, replay, all, live)
}

// committing is a group and the commits that are to be made in it, one after
// the other. The first one is not measured: it reads the group from the store.
type committing struct {
	public  *mls.PublicGroup // before the second commit; nil if nobody validates
	commits []*mls.PendingCommit
	iqs     [][]byte
}

func makeCommits(b *testing.B, mode groupdata.HandshakeMode, g *mls.Group, jid string, n int) *committing {
	b.Helper()
	c := new(committing)
	o := mls.CommitOptions{ForcePath: true, GroupInfo: true, GroupInfoExternalPub: true}
	if mode == groupdata.Private {
		o = mls.CommitOptions{ForcePath: true, Wire: mls.WireFormatPrivateMessage}
	}
	for i := range n {
		p, err := g.Commit(&o)
		if err != nil {
			b.Fatal(err)
		}
		h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: fmt.Sprint(i), From: juliet + "/x", To: jid}
		c.iqs = append(c.iqs, h.Append(nil, submission(p, g.Epoch())))
		c.commits = append(c.commits, p)
		if g, err = p.Merge(); err != nil {
			b.Fatal(err)
		}
		if i == 0 && mode == groupdata.Public {
			c.public = g.Public()
		}
	}
	return c
}

// measureCommits plays the commits, one of each group at a time, which so many
// live sessions are told of.
func measureCommits(b *testing.B, s *sink, st *recorder, replay store.Store, all []*committing, live int) {
	s.answers.Store(0)
	answered := 0
	round := func(n int) bool {
		var out []byte
		for _, c := range all {
			if n < len(c.iqs) {
				out = append(out, c.iqs[n]...)
				answered++
			}
		}
		if len(out) == 0 {
			return false
		}
		s.conn.Write(out)
		s.wait(b, int64(answered))
		s.waitFor(b, &s.deliveries, int64(answered*live))
		return true
	}
	round(0)
	for _, list := range st.take() {
		if _, err := replay.AcceptCommit(b.Context(), list[0]); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()

	size := len(all[0].commits[0].Message().Bytes())
	var sigs, validation time.Duration
	validated := all[0].public != nil
	if validated {
		sigs = spent(func() {
			for range b.N {
				verifySignatures(size)
			}
		})
		validation = spent(func() {
			for _, c := range all {
				g := c.public
				for _, p := range c.commits[1:] {
					g = validate(b, g, p.Message().Bytes(), p.GroupInfo().Bytes())
				}
			}
		})
	}
	before := s.deliveries.Load()
	b.ResetTimer()
	profile(b)
	used := spent(func() {
		for n := 1; round(n); n++ {
		}
	})
	b.StopTimer()
	// The store, as the service has used it.
	rows := st.take()
	storing := spent(func() {
		var wg sync.WaitGroup
		for i, list := range rows {
			wg.Go(func() {
				for _, c := range list {
					if a, err := replay.AcceptCommit(b.Context(), c); err != nil || a.Duplicate {
						b.Errorf("storing commit of group %d again: %+v, %v", i, a, err)
					}
				}
			})
		}
		wg.Wait()
	})
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(per(used), "cpu-µs/op")
	if validated {
		b.ReportMetric(per(validation), "mls-µs/op")
		b.ReportMetric(per(sigs), "sigs-µs/op")
	} else {
		b.ReportMetric(float64(s.deliveries.Load()-before)/float64(b.N), "deliveries/op")
	}
	b.ReportMetric(per(storing), "store-µs/op")
	b.ReportMetric(per(used-validation-storing), "own-µs/op")
	b.ReportMetric(float64(size), "commit-B")
}

// spent gives the processor time that f takes.
func spent(f func()) time.Duration {
	began := cpu()
	f()
	return cpu() - began
}

// profile writes a profile of what a benchmark measures, and of nothing else, to
// the file that LOCKSTEP_PROFILE names.
func profile(b *testing.B) {
	name := os.Getenv("LOCKSTEP_PROFILE")
	if name == "" {
		return
	}
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pprof.StopCPUProfile)
}

// validate does what the service asks of mls for a commit.
func validate(b *testing.B, g *mls.PublicGroup, commit, info []byte) *mls.PublicGroup {
	m, err := mls.ParseMessage(commit)
	if err != nil {
		b.Fatal(err)
	}
	gi, err := mls.ParseMessage(info)
	if err != nil {
		b.Fatal(err)
	}
	got, err := g.Process(m)
	if err != nil {
		b.Fatal(err)
	}
	staged := got.(*mls.StagedPublicCommit)
	merged := staged.Merge()
	if err := merged.CheckGroupInfo(gi.GroupInfo); err != nil {
		b.Fatal(err)
	}
	if len(merged.State()) == 0 || len(staged.ChangedNodes()) == 0 {
		b.Fatal("nothing to store")
	}
	return merged
}

// recorder remembers, by group, which commits its store was given.
type recorder struct {
	store.Store
	mu   sync.Mutex
	rows map[store.GroupKey][]*store.Commit
}

func (r *recorder) AcceptCommit(ctx context.Context, c *store.Commit) (store.Accepted, error) {
	r.mu.Lock()
	r.rows[c.Group] = append(r.rows[c.Group], c)
	r.mu.Unlock()
	return r.Store.AcceptCommit(ctx, c)
}

// take gives what was remembered, and forgets it.
func (r *recorder) take() map[store.GroupKey][]*store.Commit {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := r.rows
	r.rows = make(map[store.GroupKey][]*store.Commit)
	return rows
}

var floorKey, floorSigner, _ = ed25519.GenerateKey(randReader)

// verifySignatures verifies three signatures: over a commit of so many bytes, a
// leaf and a GroupInfo.
func verifySignatures(size int) {
	for _, n := range []int{size, 300, 600} {
		m := floorText[:n]
		if !ed25519.Verify(floorKey, m, floorSig(n)) {
			panic("a signature is wrong")
		}
	}
}

var (
	floorText = make([]byte, 1<<20)
	floorSigs sync.Map
)

func floorSig(n int) []byte {
	if sig, ok := floorSigs.Load(n); ok {
		return sig.([]byte)
	}
	sig := ed25519.Sign(floorSigner, floorText[:n])
	floorSigs.Store(n, sig)
	return sig
}

// BenchmarkMemory reports what an idle group and a live session cost.
func BenchmarkMemory(b *testing.B) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) + int64(m.StackInuse)
	}
	b.Run("session", func(b *testing.B) {
		s, _, _ := benchService(b, component.Limits{})
		n := max(b.N, 5000)
		before := heap()
		for i := range n {
			var id stanza.DeviceID
			id[0], id[1], id[2], id[3] = 1, byte(i), byte(i>>8), byte(i>>16)
			h := stanza.Header{Kind: stanza.Presence, From: fmt.Sprintf("user%d@capulet.lit/some-resource", i), To: domain}
			s.conn.Write(h.Append(nil, &stanza.Session{Device: id}))
			if i%200 == 199 {
				s.wait(b, int64(i+1))
			}
		}
		s.wait(b, int64(n))
		b.ReportMetric(float64(heap()-before)/float64(n), "B/session")
	})
	b.Run("group", func(b *testing.B) {
		s, svc, st := benchService(b, component.Limits{GroupIdle: time.Hour})
		const n = 1000
		iqs := make([][]byte, n+1)
		for i := range iqs {
			g, jid := benchGroup(b, st, groupdata.Public, i, 4)
			iqs[i] = sendIQ(g, jid, i, 100)
		}
		s.conn.Write(iqs[n]) // what is made once is there before
		s.wait(b, 1)
		before := heap()
		for i := range n {
			s.conn.Write(iqs[i])
			if i%200 == 199 {
				s.wait(b, int64(i+2))
			}
		}
		s.wait(b, n+1)
		time.Sleep(2 * time.Second) // goroutines that wait for work end
		b.ReportMetric(float64(heap()-before)/n, "B/loaded-group")
		if svc.Stats().GroupsLoaded != n+1 {
			b.Fatalf("%d groups are loaded", svc.Stats().GroupsLoaded)
		}
		runtime.KeepAlive(iqs)
	})
}
