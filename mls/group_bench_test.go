// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
)

// Each benchmark names suite and group size, and reports as x-floor the multiple
// of the time that the unavoidable cryptography takes (floor_bench_test.go).

var runHuge = flag.Bool("huge", false, "run the benchmark of 100,000 members")

var fabrications sync.Map

type fabricationKey struct {
	cs   CipherSuite
	n    int
	full bool
}

func benchConfig() *Config {
	return &Config{Suites: AllCipherSuites(), Limits: Limits{MaxProposals: -1, MaxMessage: -1, MaxMembers: 1 << 20}}
}

func benchGroup(b *testing.B, cs CipherSuite, n int, full bool) *fabricated {
	b.Helper()
	key := fabricationKey{cs, n, full}
	if f, ok := fabrications.Load(key); ok {
		return f.(*fabricated)
	}
	f := fabricate(b, benchConfig(), cs, n, full)
	fabrications.Store(key, f)
	return f
}

// sizes runs a benchmark for every suite and size.
func sizes(b *testing.B, run func(b *testing.B, cs CipherSuite, n int)) {
	for _, cs := range benchSuites {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%s/N=%d", suiteLabel(cs), n), func(b *testing.B) {
				if testing.Short() && n > 1000 {
					b.Skip("large groups are left out with -short")
				}
				b.ReportAllocs()
				run(b, cs, n)
			})
		}
	}
}

func benchKeyPackages(b *testing.B, cs CipherSuite, n int) []*PrivateKeyPackage {
	b.Helper()
	list := make([]*PrivateKeyPackage, n)
	cfg := benchConfig()
	if err := inParallel(n, func(i int) error {
		key, err := GenerateSignatureKey(cs, nil)
		if err != nil {
			return err
		}
		list[i], err = NewKeyPackage(cfg, cs, &Identity{BasicCredential(fmt.Appendf(nil, "guest%d@capulet.lit", i)), key}, &KeyPackageOptions{DeviceID: fmt.Appendf(nil, "device %8d", i)})
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return list
}

func publicHalves(b *testing.B, list []*PrivateKeyPackage) []*KeyPackage {
	b.Helper()
	out := make([]*KeyPackage, len(list))
	for i, kp := range list {
		var err error
		if out[i], err = ParseKeyPackage(kp.KeyPackage.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

// BenchmarkCreateAddAll creates a group and adds all others in one commit.
func BenchmarkCreateAddAll(b *testing.B) {
	sizes(b, func(b *testing.B, cs CipherSuite, n int) {
		add := publicHalves(b, benchKeyPackages(b, cs, n-1))
		cfg, me := benchConfig(), testIdentity(b, cs, "juliet")
		for b.Loop() {
			g, err := NewGroup(cfg, cs, GroupID("bench"), me, nil)
			if err != nil {
				b.Fatal(err)
			}
			p, err := g.Commit(&CommitOptions{Add: add, InlineTree: true})
			if err != nil {
				b.Fatal(err)
			}
			if _, err = p.Merge(); err != nil {
				b.Fatal(err)
			}
		}
		reportFloor(b, floorAddAll, cs, n)
	})
}

func benchmarkCommit(b *testing.B, full bool, op floorOp) {
	sizes(b, func(b *testing.B, cs CipherSuite, n int) {
		g := benchGroup(b, cs, n, full).group(n / 3)
		for b.Loop() {
			if _, err := g.Commit(nil); err != nil {
				b.Fatal(err)
			}
		}
		reportFloor(b, op, cs, n)
	})
}

// BenchmarkCommitFull and BenchmarkCommitBlank renew the committer's path.
func BenchmarkCommitFull(b *testing.B)  { benchmarkCommit(b, true, floorCreateFull) }
func BenchmarkCommitBlank(b *testing.B) { benchmarkCommit(b, false, floorCreateBlank) }

// BenchmarkProcess receives a commit: an update of the committer's path, an Add,
// a Remove; by the sibling of the committer, who derives the most keys, and by
// the average member.
func BenchmarkProcess(b *testing.B) {
	type kind struct {
		name string
		o    func(b *testing.B, f *fabricated, n int) *CommitOptions
	}
	kinds := []kind{
		{"update", func(*testing.B, *fabricated, int) *CommitOptions { return nil }},
		{"add", func(b *testing.B, f *fabricated, n int) *CommitOptions {
			return &CommitOptions{Add: publicHalves(b, benchKeyPackages(b, f.s.cipher, 1)), ForcePath: true}
		}},
		{"remove", func(_ *testing.B, _ *fabricated, n int) *CommitOptions {
			return &CommitOptions{Remove: []LeafIndex{LeafIndex(n - 1)}}
		}},
	}
	for _, k := range kinds {
		for _, worst := range []bool{true, false} {
			who, op := "average", floorProcessMean
			switch {
			case worst && k.name == "add":
				who, op = "worst", floorAddWorst
			case worst:
				who, op = "worst", floorProcessWorst
			case k.name == "add":
				op = floorAddMean
			}
			b.Run(k.name+"/"+who, func(b *testing.B) {
				sizes(b, func(b *testing.B, cs CipherSuite, n int) {
					if k.name == "remove" && n < 10 {
						b.Skip("there is nobody to remove")
					}
					f := benchGroup(b, cs, n, true)
					receiver := 1
					if !worst {
						receiver = n * 3 / 4
					}
					p, err := f.group(0).Commit(k.o(b, f, n))
					if err != nil {
						b.Fatal(err)
					}
					g, raw := f.group(receiver), p.Message().Bytes()
					for b.Loop() {
						m, err := ParseMessage(raw)
						if err != nil {
							b.Fatal(err)
						}
						r, err := g.Process(m)
						if err != nil {
							b.Fatal(err)
						}
						if _, err := r.(*StagedCommit).Merge(); err != nil {
							b.Fatal(err)
						}
					}
					reportFloor(b, op, cs, n)
				})
			})
		}
	}
}

// BenchmarkPublicProcess lets an outsider apply a commit.
func BenchmarkPublicProcess(b *testing.B) {
	sizes(b, func(b *testing.B, cs CipherSuite, n int) {
		f := benchGroup(b, cs, n, true)
		p, err := f.group(0).Commit(nil)
		if err != nil {
			b.Fatal(err)
		}
		g, raw := f.public(), p.Message().Bytes()
		for b.Loop() {
			m, err := ParseMessage(raw)
			if err != nil {
				b.Fatal(err)
			}
			r, err := g.Process(m)
			if err != nil {
				b.Fatal(err)
			}
			r.(*StagedPublicCommit).ChangedNodes()
			r.Merge()
		}
		reportFloor(b, floorPublicProcess, cs, n)
	})
}

// BenchmarkStageMerge is the bookkeeping alone: what is left of a commit when no
// signature, hash or key is computed. Each commit, of another member, follows on
// the last, so that what is done only now and then is counted.
func BenchmarkStageMerge(b *testing.B) {
	for _, n := range benchSizes {
		b.Run("N="+strconv.Itoa(n), func(b *testing.B) {
			if testing.Short() && n > 1000 {
				b.Skip("large groups are left out with -short")
			}
			b.ReportAllocs()
			g := benchGroup(b, suite1, n, true).group(min(1, n-1))
			commits := uint32(0)
			for b.Loop() {
				commits++
				committer := LeafIndex(commits * 2654435761 % uint32(n))
				key := freshKeys(commits)
				e := g.tree.edit()
				steps := e.t.filteredPath(committer)
				e.change(committer, func(nodes []*treeNode) {
					blankPath(nodes)
					for _, step := range steps {
						p := &parentNode{encryptionKey: key(), edit: e.id}
						nodes[step.at.level()].parent = p
						e.addKey(encryptionKeyKind, p.encryptionKey, step.at)
					}
				})
				leaf := *e.t.leaf(committer)
				leaf.EncryptionKey = key()
				e.setLeaf(committer, &leaf)
				if err := e.indexKeys(); err != nil {
					b.Fatal(err)
				}
				st := g.publicState
				st.tree = &e.t
				next := &Group{publicState: st, me: g.me, self: g.self, private: g.private.matching(st.tree)}
				next.keepPast(g)
				g.tree = st.tree
			}
		})
	}
}

// freshKeys yields up to 32 keys that no other number yields.
func freshKeys(number uint32) func() []byte {
	const size = 32
	b := make([]byte, 32*size)
	return func() []byte {
		key := b[:size:size]
		binary.BigEndian.PutUint32(key, number)
		key[4] = byte(len(b) / size)
		b = b[size:]
		return key
	}
}

func benchmarkJoin(b *testing.B, inline bool) {
	sizes(b, func(b *testing.B, cs CipherSuite, n int) {
		f := benchGroup(b, cs, n-1, true)
		kp := benchKeyPackages(b, cs, 1)[0]
		p, err := f.group(0).Commit(&CommitOptions{Add: []*KeyPackage{kp.KeyPackage}, InlineTree: inline, ForcePath: true})
		if err != nil {
			b.Fatal(err)
		}
		raw := p.Welcome().Bytes()
		var o JoinOptions
		if !inline {
			o.Tree = p.next.Tree()
		}
		cfg := benchConfig()
		for b.Loop() {
			m, err := ParseMessage(raw)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Join(cfg, m.Welcome, kp, &o); err != nil {
				b.Fatal(err)
			}
		}
		reportFloor(b, floorJoin, cs, n)
	})
}

// BenchmarkJoinInline and BenchmarkJoinApart join by a Welcome, with the tree
// inside and beside it.
func BenchmarkJoinInline(b *testing.B) { benchmarkJoin(b, true) }
func BenchmarkJoinApart(b *testing.B)  { benchmarkJoin(b, false) }

var messageSizes = []int{100, 1024, 10 << 10}

// BenchmarkEncrypt seals a message.
func BenchmarkEncrypt(b *testing.B) {
	for _, size := range messageSizes {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			sizes(b, func(b *testing.B, cs CipherSuite, n int) {
				g := benchGroup(b, cs, n, true).group(0)
				g.cfg = (&Config{Padding: PadNone}).resolve()
				data, aad := make([]byte, size), make([]byte, 40)
				for b.Loop() {
					if _, err := g.Seal(data, aad); err != nil {
						b.Fatal(err)
					}
				}
				reportFloor(b, floorEncrypt, cs, size)
			})
		})
	}
}

// BenchmarkDecrypt opens messages of one sender, in order.
func BenchmarkDecrypt(b *testing.B) {
	for _, size := range messageSizes {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			sizes(b, func(b *testing.B, cs CipherSuite, n int) {
				f := benchGroup(b, cs, n, true)
				g, sender := f.group(0), f.group(n-1)
				sender.cfg = (&Config{Padding: PadNone}).resolve()
				batch := make([][]byte, 128)
				for i := range batch {
					m, err := sender.Seal(make([]byte, size), make([]byte, 40))
					if err != nil {
						b.Fatal(err)
					}
					batch[i] = m.Bytes()
				}
				fresh := g.keys.messages
				i := 0
				for b.Loop() {
					if i%len(batch) == 0 {
						g.keys.messages = fresh.clone()
					}
					m, err := ParseMessage(batch[i%len(batch)])
					if err != nil {
						b.Fatal(err)
					}
					if _, err := g.Process(m); err != nil {
						b.Fatal(err)
					}
					i++
				}
				reportFloor(b, floorDecrypt, cs, size)
			})
		})
	}
}

// BenchmarkDecryptPrepared opens messages of one sender, in order, 64 of which are
// prepared at a time.
func BenchmarkDecryptPrepared(b *testing.B) {
	const size = 1024
	sizes(b, func(b *testing.B, cs CipherSuite, n int) {
		f := benchGroup(b, cs, n, true)
		g, sender := f.group(0), f.group(n-1)
		sender.cfg = (&Config{Padding: PadNone}).resolve()
		sealed := make([][]byte, 64)
		for i := range sealed {
			m, err := sender.Seal(make([]byte, size), make([]byte, 40))
			if err != nil {
				b.Fatal(err)
			}
			sealed[i] = m.Bytes()
		}
		fresh := g.keys.messages
		var messages []*Message
		i := 0
		for b.Loop() {
			if i%len(sealed) == 0 {
				g.keys.messages, messages = fresh.clone(), nil
				for _, raw := range sealed {
					m, err := ParseMessage(raw)
					if err != nil {
						b.Fatal(err)
					}
					messages = append(messages, m)
				}
				g.Prepare(messages)
			}
			if _, err := g.Process(messages[i%len(sealed)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
		reportFloor(b, floorDecrypt, cs, size)
	})
}

// BenchmarkState saves and loads a group, whole and by the delta of a message and
// of a commit.
func BenchmarkState(b *testing.B) {
	for _, n := range benchSizes {
		f := func(b *testing.B) *Group { return benchGroup(b, suite1, n, true).group(0) }
		b.Run(fmt.Sprintf("save/N=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			g := f(b)
			var size int
			for b.Loop() {
				size = len(g.Save())
			}
			b.ReportMetric(float64(size), "octets")
		})
		b.Run(fmt.Sprintf("load/N=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			saved := f(b).Save()
			for b.Loop() {
				if _, err := Load(benchConfig(), saved); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("delta-message/N=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			g := f(b)
			g.Delta()
			size := 0
			for b.Loop() {
				if _, key, _, err := g.keys.messages.next(g.self, ratchetApplication); err != nil {
					b.Fatal(err)
				} else {
					wipe(key)
				}
				size = make(rowStore).apply(g.Delta())
			}
			b.ReportMetric(float64(size), "octets")
		})
		b.Run(fmt.Sprintf("delta-commit/N=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			g := f(b)
			g.Delta()
			p, err := g.Commit(nil)
			if err != nil {
				b.Fatal(err)
			}
			size := 0
			for b.Loop() {
				size = make(rowStore).apply(p.next.Delta())
				g.Delta()
			}
			b.ReportMetric(float64(size), "octets")
		})
	}
}

// BenchmarkMemory prints the memory of a group beyond the wire bytes of its tree.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run("N="+strconv.Itoa(n), func(b *testing.B) {
			f := benchGroup(b, suite1, n, true)
			gi, err := f.group(0).GroupInfo(nil)
			if err != nil {
				b.Fatal(err)
			}
			tree := f.st.tree.marshal(nil)
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				g, err := NewPublicGroup(benchConfig(), gi.GroupInfo, tree)
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(g)
			}
			total := float64(after.HeapAlloc) - float64(before.HeapAlloc)
			b.ReportMetric(total/float64(n), "octets/member")
			b.ReportMetric((total-float64(len(tree)))/float64(n), "octets-beyond-wire/member")
		})
	}
}

// BenchmarkHuge creates, joins and commits to a group of 100,000 members. It takes
// minutes and is run by hand: go test -run - -bench Huge -benchtime 1x -timeout 1h -huge
func BenchmarkHuge(b *testing.B) {
	if !*runHuge {
		b.Skip("run by hand: -huge")
	}
	const n = 100_000
	kps := benchKeyPackages(b, suite1, n-1)
	add := publicHalves(b, kps)
	var p *PendingCommit
	b.Run("create-add-all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g, err := NewGroup(benchConfig(), suite1, GroupID("huge"), testIdentity(b, suite1, "juliet"), nil)
			if err != nil {
				b.Fatal(err)
			}
			if p, err = g.Commit(&CommitOptions{Add: add}); err != nil {
				b.Fatal(err)
			}
		}
		reportFloor(b, floorAddAll, suite1, n)
	})
	var g *Group
	tree := p.next.Tree()
	b.Run("join", func(b *testing.B) {
		var before, after runtime.MemStats
		for b.Loop() {
			runtime.GC()
			runtime.ReadMemStats(&before)
			var err error
			if g, err = Join(benchConfig(), p.Welcome().Welcome, kps[n/2], &JoinOptions{Tree: tree}); err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
		}
		reportFloor(b, floorJoin, suite1, n)
		b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/1e6, "MB")
		b.ReportMetric(float64(len(tree))/1e6, "MB-tree")
	})
	var commit *PendingCommit
	b.Run("commit-blank", func(b *testing.B) {
		for b.Loop() {
			var err error
			if commit, err = g.Commit(nil); err != nil {
				b.Fatal(err)
			}
		}
		reportFloor(b, floorCreateBlank, suite1, n)
	})
	b.Run("process", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.next.Process(commit.Message()); err != nil {
				b.Fatal(err)
			}
		}
		reportFloor(b, floorProcessMean, suite1, n)
	})
	if !bytes.Equal(g.EpochAuthenticator(), p.next.EpochAuthenticator()) {
		b.Fatal("the members are in different states")
	}
}
