// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
)

// couple is a pair with stores on disk, and the raw MLS states of another pair,
// for the floor.
func couple(b testing.TB) (jg, rg *client.Group, juliet, romeo *actor) {
	w := newWorld(b)
	start := func(name string) *actor {
		cfg := w.config(name, nil)
		cfg.StorePath, cfg.UpdateMessages = filepath.Join(w.dir, name+".db"), -1
		return w.start(name, cfg)
	}
	juliet, romeo = start("juliet"), start("romeo")
	jg = must(juliet.CreateGroup(context.Background(), "", nil))(b)
	must(jg.Invite(context.Background(), "romeo@"+domain))(b)
	return jg, romeo.group(jg.JID()), juliet, romeo
}

// rawPair is two members without anything around them.
func rawPair(b testing.TB) (x, y *mls.Group) {
	b.Helper()
	me := func(name string) *mls.Identity {
		k, err := mls.GenerateSignatureKey(1, nil)
		if err != nil {
			b.Fatal(err)
		}
		return &mls.Identity{Credential: mls.BasicCredential([]byte(name)), Key: k}
	}
	ji, ri := me("juliet@"+domain), me("romeo@"+domain)
	x = must(mls.NewGroup(nil, 1, nil, ji, nil))(b)
	kp := must(mls.NewKeyPackage(nil, 1, ri, nil))(b)
	p := must(x.Commit(&mls.CommitOptions{Add: []*mls.KeyPackage{kp.KeyPackage}, InlineTree: true}))(b)
	x = must(p.Merge())(b)
	return x, must(mls.Join(nil, p.Welcome().Welcome, kp, nil))(b)
}

var benchText = func() string {
	t := make([]byte, 1024)
	for i := range t {
		t[i] = 'a' + byte(i%26)
	}
	return string(t)
}()

// BenchmarkFloor is what cannot be avoided: the MLS operation, and a batch of
// the store.
func BenchmarkFloor(b *testing.B) {
	b.Run("seal", func(b *testing.B) {
		x, _ := rawPair(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x.Seal([]byte(benchText), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		x, y := rawPair(b)
		msgs := make([]*mls.Message, b.N)
		for i := range msgs {
			msgs[i] = must(x.Seal([]byte(benchText), nil))(b)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for _, m := range msgs {
			if _, err := y.Process(m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("batch", func(b *testing.B) {
		f := newFloor(b)
		for b.Loop() {
			f.apply(b, 1)
		}
	})
}

// floor does what cannot be avoided, beside a benchmark in the same run.
type floor struct {
	mu   sync.Mutex
	x, y *mls.Group
	s    store.Store
	rows atomic.Int64
}

func newFloor(b testing.TB) *floor {
	f := &floor{s: must(store.Open(filepath.Join(b.TempDir(), "floor.db"), "juliet@"+domain))(b)}
	b.Cleanup(func() { f.s.Close() })
	f.x, f.y = rawPair(b)
	return f
}

// apply writes what n messages and the state behind them are.
func (f *floor) apply(b testing.TB, n int) {
	v := make([]byte, 1500)
	ops := []store.Op{store.Put("g/x/m/n", v[:200]), store.Put("g/x/meta", v[:900])}
	for range n {
		ops = append(ops, store.Put(fmt.Sprintf("g/x/o/%d", f.rows.Add(1)), v))
	}
	if err := f.s.Apply(context.Background(), ops); err != nil {
		b.Error(err)
	}
}

func (f *floor) seal(b testing.TB) *mls.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return must(f.x.Seal([]byte(benchText), nil))(b)
}

func (f *floor) open(b testing.TB, m *mls.Message) {
	if _, err := f.y.Process(m); err != nil {
		b.Error(err)
	}
}

// callers runs fn n times on some goroutines, and tells how long that took.
func callers(goroutines, n int, fn func()) time.Duration {
	began := time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				fn()
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

// report makes the client's share the time of the benchmark, and tells its ratio
// to the floor.
func report(b *testing.B, mine, floor time.Duration) {
	b.ReportMetric(float64(mine.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(mine)/float64(floor), "x-floor")
}

// benchRound is how many messages the client and the floor have in turn, so that
// both see the same weather.
const benchRound = 64

// BenchmarkSend is what sending costs the client, up to the answer of a service
// that costs nothing. With many callers they share the disk's syncs.
func BenchmarkSend(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			jg, _, juliet, _ := couple(b)
			juliet.leave()
			client.BringYesMan(b, juliet.Client, jg)
			f := newFloor(b)
			b.ReportAllocs()
			b.ResetTimer()
			var mine, floor time.Duration
			for done := 0; done < b.N; done += benchRound {
				n, round := n, min(benchRound, b.N-done)
				mine += callers(n, round, func() {
					if _, err := jg.Send(context.Background(), benchText); err != nil {
						b.Error(err)
					}
				})
				floor += callers(n, round, func() {
					f.seal(b)
					f.apply(b, 1)
				})
			}
			report(b, mine, floor)
		})
	}
}

// BenchmarkReceive is what a message costs from its event to the application's
// handler, alone and among others that come at once.
func BenchmarkReceive(b *testing.B) {
	for _, burst := range []int{1, benchRound} {
		b.Run(fmt.Sprintf("burst=%d", burst), func(b *testing.B) {
			jg, rg, juliet, romeo := couple(b)
			juliet.leave()
			romeo.leave()
			heard := make(chan struct{}, burst)
			romeo.OnMessage(func(context.Context, *client.Message) { heard <- struct{}{} })
			f := newFloor(b)
			b.ReportAllocs()
			b.ResetTimer()
			var mine, floor time.Duration
			seq := rg.Seq()
			for done := 0; done < b.N; done += burst {
				n := min(burst, b.N-done)
				sealed, raw := make([][]byte, n), make([]*mls.Message, n)
				for i := range n {
					sealed[i], raw[i] = jg.SealFor(b, benchText), f.seal(b)
				}
				began := time.Now()
				for _, s := range sealed {
					seq++
					rg.Arrive(seq, s)
				}
				for range n {
					<-heard
				}
				mine += time.Since(began)
				began = time.Now()
				for _, m := range raw {
					f.open(b, m)
				}
				f.apply(b, n)
				floor += time.Since(began)
			}
			report(b, mine, floor)
		})
	}
}

// BenchmarkCatchUp is what one missed entry costs, from the log over the wire
// to the application's handler: its floor is the decryption, and reading the same
// pages of the log.
func BenchmarkCatchUp(b *testing.B) {
	jg, rg, _, romeo := couple(b)
	cfg, seq := romeo.cfg, rg.Seq()
	romeo.stop()
	fill(b, jg, b.N)
	f := newFloor(b)
	raw := make([]*mls.Message, b.N)
	for i := range raw {
		raw[i] = f.seal(b)
	}
	var heard atomic.Int64
	done := make(chan struct{})
	c := must(client.New(cfg))(b)
	c.OnMessage(func(context.Context, *client.Message) {
		if heard.Add(1) == int64(b.N) {
			close(done)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	go func() { defer close(ended); c.Run(ctx) }()
	<-done
	mine := time.Since(began)
	b.StopTimer()
	began = time.Now()
	for _, m := range raw {
		f.open(b, m)
	}
	opened := time.Since(began)
	g, _ := c.Group(jg.JID())
	began = time.Now()
	g.ReadLog(b, seq)
	read := time.Since(began)
	cancel()
	<-ended
	c.Close()
	report(b, mine, opened+read)
	b.ReportMetric(float64(opened.Nanoseconds())/float64(b.N), "ns/open")
	b.ReportMetric(float64(read.Nanoseconds())/float64(b.N), "ns/transfer")
}

// BenchmarkMemory weighs a group of 100.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(float64(weighGroup(b, 100))/1024, "KiB/group")
	}
}

// fill puts n messages into the log, many at a time.
func fill(t testing.TB, g *client.Group, n int) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if _, err := g.Send(context.Background(), benchText); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestLongCatchUp misses thousands of messages, with a restart of the service
// and a cut connection in between, and hears each once and in order.
func TestLongCatchUp(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1_000
	}
	jg, rg, juliet, romeo := couple(t)
	cfg := romeo.cfg
	seq0 := rg.Seq()
	romeo.stop()
	fill(t, jg, n)
	ok(t, jg.UpdateKeys(ctxShort(t)))
	must(jg.Send(ctxShort(t), "the last"))(t)
	var mu sync.Mutex
	var got []uint64
	last := make(chan struct{})
	c := must(client.New(cfg))(t)
	defer c.Close()
	progress := 0
	c.OnMessage(func(_ context.Context, m *client.Message) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m.Seq)
		if len(got) == n/3 {
			go juliet.w.server.CutClient("romeo@" + domain)
		}
		if len(got) == n/2 {
			go func() { juliet.w.killDS(); juliet.w.startDS() }()
		}
		if m.Body == "the last" {
			close(last)
		}
	})
	c.OnEvent(func(_ context.Context, e client.Event) {
		if _, ok := e.(*client.Progress); ok {
			mu.Lock()
			progress++
			mu.Unlock()
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	go c.Run(ctx)
	select {
	case <-last:
	case <-time.After(4 * time.Minute):
		t.Fatal("romeo does not catch up")
	}
	t.Logf("%d entries in %v, %d progress events", n+2, time.Since(began).Round(time.Millisecond), progress)
	mu.Lock()
	defer mu.Unlock()
	if len(got) != n+1 {
		t.Fatalf("heard %d messages, want %d", len(got), n+1)
	}
	for i := 1; i < len(got); i++ {
		if got[i] <= got[i-1] {
			t.Fatalf("entry %d came after %d", got[i], got[i-1])
		}
	}
	if got[0] <= seq0 {
		t.Errorf("began at %d, had %d", got[0], seq0)
	}
}

// TestMemory holds the promise of less than 1 MiB for a group of 100.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a group of 100")
	}
	per := weighGroup(t, 100)
	t.Logf("%d KiB for a group of 100", per>>10)
	if per > 1<<20 {
		t.Errorf("a group of 100 takes %d bytes", per)
	}
}

// weighGroup is what a group adds to the heap of a member.
func weighGroup(t testing.TB, members int) int64 {
	w := newWorld(t)
	cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
	juliet := w.start("juliet", cfg)
	const groups = 6
	var jids []string
	for i := range members - 1 {
		name := fmt.Sprintf("guest%d", i)
		gc := w.config(name, store.NewMemory(name+"@"+domain))
		gc.KeyPackages = groups + 1
		a := w.start(name, gc)
		a.stop()
		jids = append(jids, name+"@"+domain)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	make1 := func() {
		g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
		if _, err := g.Invite(contextFor(t, time.Minute), jids...); err != nil {
			t.Fatal(err)
		}
		if m := must(g.Members())(t); len(m) != members {
			t.Fatalf("%d members", len(m))
		}
	}
	make1()
	// The service is in this process too: it is stopped for the weighing.
	w.killDS()
	before := heap()
	w.startDS()
	for range groups - 1 {
		make1()
	}
	w.killDS()
	return (int64(heap()) - int64(before)) / (groups - 1)
}

// BenchmarkStart is what a group in which nothing has happened adds to the time in
// which a client comes online.
func BenchmarkStart(b *testing.B) {
	const groups = 200
	w := newWorld(b)
	cfg := w.config("juliet", nil)
	cfg.StorePath = filepath.Join(w.dir, "juliet.db")
	juliet := w.start("juliet", cfg)
	for range groups {
		must(juliet.CreateGroup(context.Background(), "", nil))(b)
	}
	juliet.stop()
	start := func() time.Duration {
		began := time.Now()
		a := w.start("juliet", cfg)
		took := time.Since(began)
		a.stop()
		return took
	}
	start()
	b.ResetTimer()
	var took time.Duration
	for range b.N {
		took += start()
	}
	b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/groups, "ns/group")
}
