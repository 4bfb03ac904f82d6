// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

// Bench runs the benchmarks. Durable writes are reported as a ratio to the same
// number of bytes written and synced, one after the other, to a file in dir,
// which must be on the disk that the store is on. The goals (one writer 0.55, 64
// writers 4) are those of Append: the epoch checked and a row of 2 KB written.
// Commit writes the path of a group of 10,000 and a snapshot besides.
//
//	x-sync    transactions per second / syncs per second of the disk alone
//	cpu-us/op processor time of this process, user and system
func Bench(b *testing.B, dir string, open func(b *testing.B) store.Store) {
	for _, c := range []struct {
		name    string
		writers int
		op      func(ctx context.Context, s store.Store, g *store.Group, n int64) error
	}{
		{"Append/writers=1", 1, benchAppend},
		{"Append/writers=8", 8, benchAppend},
		{"Append/writers=64", 64, benchAppend},
		{"Commit/writers=1", 1, benchCommit},
		{"Commit/writers=64", 64, benchCommit},
	} {
		b.Run(c.name, func(b *testing.B) { benchWrite(b, dir, open(b), c.writers, c.op) })
	}
	b.Run("Log", func(b *testing.B) { benchLog(b, open(b)) })
	b.Run("Claim", func(b *testing.B) { benchClaim(b, open(b)) })
	b.Run("Nodes/members=10000", func(b *testing.B) { benchNodes(b, open(b)) })
}

// row is what an entry carries in the benchmarks, as in the design's figures.
var row = make([]byte, 2048)

func benchAppend(ctx context.Context, s store.Store, g *store.Group, n int64) error {
	e := message(g, fmt.Sprint("message ", n))
	e.Bytes = row // the ref need not be theirs here
	_, err := s.Append(ctx, e)
	return err
}

// benchCommit changes what a commit in a group of 10,000 changes: a path of 14 nodes.
func benchCommit(ctx context.Context, s store.Store, g *store.Group, n int64) error {
	c := commit(g, fmt.Sprint("commit ", n))
	c.Bytes = row
	c.Nodes = c.Nodes[:0]
	for i := range uint32(14) {
		c.Nodes = append(c.Nodes, store.Node{Index: 1<<i - 1 + uint32(n%7)<<(i+1), Data: row[:120]})
	}
	a, err := s.AcceptCommit(ctx, c)
	g.Rev, g.Epoch = a.Rev, a.Epoch
	return err
}

// A disk is the file that the disk's own speed is measured with.
type disk struct {
	f     *os.File
	n     int
	spent time.Duration
}

func openDisk(b *testing.B, dir string) *disk {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if _, err := f.Write(make([]byte, 1<<22)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	return &disk{f: f}
}

// sync makes 2.3 kB durable as often as it can for a while.
func (d *disk) sync(b *testing.B, t time.Duration) {
	record := make([]byte, 2300)
	for begin := time.Now(); ; d.n++ {
		if since := time.Since(begin); since > t {
			d.spent += since
			return
		}
		if _, err := d.f.WriteAt(record, int64(d.n*len(record)%(1<<22-len(record)))); err != nil {
			b.Fatal(err)
		}
		if err := fdatasync(d.f); err != nil {
			b.Fatal(err)
		}
	}
}

func benchWrite(b *testing.B, dir string, s store.Store, writers int, op func(context.Context, store.Store, *store.Group, int64) error) {
	ctx := b.Context()
	groups := make([]*store.Group, writers)
	for i := range groups {
		if err := s.Update(ctx, func(tx store.Tx) (err error) {
			groups[i], err = tx.CreateGroup(newGroup(fmt.Sprintf("g%d@mls.example", i)))
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	var n atomic.Int64
	run := func(total int64) time.Duration {
		end := n.Load() + total
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for {
					k := n.Add(1)
					if k > end {
						return
					}
					if err := op(ctx, s, groups[i], k); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(begin)
	}
	run(int64(writers) * 4)
	// The machine is shared: the disk is measured in turns with the store, so
	// that both meet the same neighbours.
	disk := openDisk(b, dir)
	const turns = 20
	var spent, cpu time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	for i := range turns {
		disk.sync(b, 20*time.Millisecond)
		part := int64(b.N*(i+1)/turns - b.N*i/turns)
		before := processTime()
		b.StartTimer()
		spent += run(part)
		b.StopTimer()
		cpu += processTime() - before
	}
	rate := float64(disk.n) / disk.spent.Seconds()
	b.ReportMetric(float64(b.N)/spent.Seconds()/rate, "x-sync")
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-us/op")
}

func benchLog(b *testing.B, s store.Store) {
	w := &bworld{b, s}
	g := w.create(balcony)
	for i := range int64(1000) {
		if err := benchAppend(b.Context(), s, g, i); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.View(b.Context(), func(r store.Reader) error {
			es, err := r.Log(g.Key, store.LogQuery{After: rand.Uint64N(900), MaxBytes: 48 << 10})
			if len(es) != 24 {
				b.Fatalf("%d entries", len(es))
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}

type bworld struct {
	*testing.B
	s store.Store
}

func (w *bworld) create(jid string) (g *store.Group) {
	if err := w.s.Update(w.Context(), func(tx store.Tx) (err error) {
		g, err = tx.CreateGroup(newGroup(jid))
		return err
	}); err != nil {
		w.Fatal(err)
	}
	return g
}

func benchClaim(b *testing.B, s store.Store) {
	kps := packages("a", b.N)
	for len(kps) > 0 {
		n := min(len(kps), 200)
		if err := s.Update(b.Context(), func(tx store.Tx) error {
			_, err := tx.PutKeyPackages(romeo, "r1", kps[:n], 1<<30, noon)
			return err
		}); err != nil {
			b.Fatal(err)
		}
		kps = kps[n:]
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if err := s.Update(b.Context(), func(tx store.Tx) error {
			ds, err := tx.ClaimKeyPackages(claim(fmt.Sprint(i), romeo))
			if err == nil && ds[0].Status != store.ClaimOK {
				b.Fatalf("claim %d: %+v", i, ds)
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func benchNodes(b *testing.B, s store.Store) {
	n := newGroup(balcony)
	n.Nodes = nil
	for i := range uint32(19999) {
		n.Nodes = append(n.Nodes, store.Node{Index: i, Data: row[:200]})
	}
	var g *store.Group
	if err := s.Update(b.Context(), func(tx store.Tx) (err error) {
		g, err = tx.CreateGroup(n)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.View(b.Context(), func(r store.Reader) error {
			nodes, err := r.Nodes(g.Key, 0)
			if len(nodes) != 19999 {
				b.Fatalf("%d nodes", len(nodes))
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}
