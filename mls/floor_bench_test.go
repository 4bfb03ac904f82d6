// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"fmt"
	"math/bits"
	"sync"
	"testing"
	"time"
)

// This file measures floors: for each operation of a group, only the
// cryptography that RFC 9420 makes unavoidable, without encoding, state or
// bookkeeping. A benchmark of the real operation calls reportFloor and so
// prints its distance to the floor, measured in the same run on the same
// machine. One core: an operation that uses more may fall below 1.

// floorOp is an operation with a floor. The number that goes with it is the
// number of members, or bytes of plaintext for floorEncrypt and floorDecrypt.
type floorOp string

const (
	floorEncrypt       floorOp = "encrypt"
	floorDecrypt       floorOp = "decrypt"
	floorProcessWorst  floorOp = "process-worst"     // by the sibling of the committer: log2 N path keys
	floorProcessMean   floorOp = "process-average"   // by the average member: two path keys
	floorAddWorst      floorOp = "process-add-worst" // the same, of a commit that also adds a member
	floorAddMean       floorOp = "process-add-average"
	floorCreateFull    floorOp = "create-full"    // commit with path, no blank node
	floorCreateBlank   floorOp = "create-blank"   // commit with path, all parents blank
	floorJoin          floorOp = "join"           // with the whole tree in the Welcome
	floorAddAll        floorOp = "addAll"         // N-1 members in one commit without path
	floorPublicProcess floorOp = "public-process" // an outsider applies a commit with path
)

var floorGroupOps = []floorOp{
	floorProcessWorst, floorProcessMean, floorAddWorst, floorAddMean, floorCreateFull, floorCreateBlank, floorJoin, floorAddAll, floorPublicProcess,
}

// floorKit holds the inputs of a suite's floors.
type floorKit struct {
	s      *suite
	key    *SignaturePrivateKey
	pub    []byte
	tbs    []byte // a typical FramedContentTBS
	sig    []byte
	leaf   []byte // a typical LeafNode
	priv   *hpkePrivateKey
	hpke   []byte
	pathCt HPKECiphertext
	path   *labelContext
	secret []byte
}

var floorKits sync.Map // CipherSuite → *floorKit

func floorKitOf(tb testing.TB, cs CipherSuite) *floorKit {
	tb.Helper()
	if k, ok := floorKits.Load(cs); ok {
		return k.(*floorKit)
	}
	s := mustSuite(tb, cs)
	key, err := GenerateSignatureKey(cs, nil)
	if err != nil {
		tb.Fatal(err)
	}
	priv, pub, err := s.generateHPKEKeyPair(nil)
	if err != nil {
		tb.Fatal(err)
	}
	k := &floorKit{
		s: s, key: key, pub: key.Public(), tbs: make([]byte, 300), priv: priv, hpke: pub,
		path: s.newLabelContext("UpdatePathNode", make([]byte, 200)), secret: make([]byte, s.nh),
	}
	k.leaf = make([]byte, len(pub)+len(k.pub)+200)
	if k.sig, err = s.signWithLabel(key, "FramedContentTBS", k.tbs); err != nil {
		tb.Fatal(err)
	}
	if k.pathCt, err = k.path.seal(nil, pub, k.secret); err != nil {
		tb.Fatal(err)
	}
	floorKits.Store(cs, k)
	return k
}

// must ends the benchmark on an error: floors only do what must succeed.
func (k *floorKit) must(err error) {
	if err != nil {
		panic(err)
	}
}

func (k *floorKit) sign() { k.signed(k.tbs) }

func (k *floorKit) signed(tbs []byte) []byte {
	sig, err := k.s.signWithLabel(k.key, "FramedContentTBS", tbs)
	k.must(err)
	return sig
}

func (k *floorKit) verify() { k.must(k.s.verifyWithLabel(k.pub, "FramedContentTBS", k.tbs, k.sig)) }

func (k *floorKit) expand(n int) {
	var out hashBuf
	for range n {
		k.s.expandInto(out[:k.s.nh], k.secret, "path", nil)
	}
}

func (k *floorKit) hash(times, size int) {
	data := make([]byte, size)
	var out hashBuf
	for range times {
		k.s.kdf.sum(&out, data)
	}
}

// pathKeys is the derivation of n node key pairs: path secret, node secret,
// DeriveKeyPair.
func (k *floorKit) pathKeys(n int) {
	for range n {
		k.expand(2)
		_, _, err := k.s.deriveKeyPair(k.secret)
		k.must(err)
	}
}

func (k *floorKit) seals(n int) {
	for range n {
		_, err := k.path.seal(nil, k.hpke, k.secret)
		k.must(err)
	}
}

func (k *floorKit) schedule() { k.s.epochSecretsFromInit(k.secret, k.secret, nil, k.tbs[:150]).wipe() }

// treeHashes are the hashes of the nodes on one path, and their parent hashes.
func (k *floorKit) treeHashes(depth int) {
	k.hash(1, len(k.leaf))
	k.hash(depth, len(k.hpke)+3*k.s.nh)
	k.hash(depth, len(k.hpke)+2*k.s.nh)
}

// transcript are membership tag, confirmation tag and transcript hashes of a
// commit with a path of the given depth.
func (k *floorKit) transcript(depth int) {
	size := len(k.leaf) + depth*(len(k.hpke)+k.s.kem.encSize()+k.s.nh+20) + 100
	k.hash(2, size) // membership tag, confirmed transcript hash
	k.hash(2, 2*k.s.nh)
}

// messageKeys are the expands of one message: key, nonce and next secret of the
// ratchet, key and nonce of the sender data.
func (k *floorKit) messageKeys() { k.expand(5) }

// floor returns the operation's unavoidable cryptography.
func floor(tb testing.TB, op floorOp, cs CipherSuite, n int) func() {
	k := floorKitOf(tb, cs)
	s := k.s
	depth := 0
	if n > 1 {
		depth = bits.Len(uint(n - 1))
	}
	switch op {
	case floorEncrypt:
		plaintext := make([]byte, n+len(k.sig)+10)
		key, nonce := make([]byte, s.nk), make([]byte, s.nn)
		tbs := make([]byte, len(k.tbs)+n) // a signature hashes what it signs, some twice
		return func() {
			k.signed(tbs)
			k.messageKeys()
			var guard [4]byte
			k.must(readRandom(nil, guard[:]))
			ct, err := s.seal(key, nonce, k.tbs[:100], plaintext)
			k.must(err)
			_, err = s.seal(key, nonce, ct[:50], guard[:])
			k.must(err)
		}
	case floorDecrypt:
		key, nonce := make([]byte, s.nk), make([]byte, s.nn)
		ct, err := s.seal(key, nonce, k.tbs[:100], make([]byte, n+len(k.sig)+10))
		k.must(err)
		head, err := s.seal(key, nonce, k.tbs[:50], make([]byte, 12))
		k.must(err)
		tbs := make([]byte, len(k.tbs)+n)
		sig := k.signed(tbs)
		return func() {
			k.messageKeys()
			_, err := s.open(key, nonce, k.tbs[:50], head)
			k.must(err)
			_, err = s.open(key, nonce, k.tbs[:100], ct)
			k.must(err)
			k.must(s.verifyWithLabel(k.pub, "FramedContentTBS", tbs, sig))
		}
	case floorProcessWorst, floorProcessMean, floorAddWorst, floorAddMean:
		keys := depth
		if op == floorProcessMean || op == floorAddMean {
			keys = min(depth, 2)
		}
		added := 0
		if op == floorAddWorst || op == floorAddMean {
			added = 1
		}
		return func() {
			for range added {
				k.verify() // KeyPackage
				k.verify() // its LeafNode
			}
			k.verify() // FramedContent
			k.verify() // LeafNode of the path
			k.transcript(depth)
			k.treeHashes(depth)
			_, err := k.path.open(k.priv, k.pathCt)
			k.must(err)
			k.pathKeys(keys)
			k.schedule()
		}
	case floorPublicProcess:
		return func() {
			k.verify()
			k.verify()
			k.transcript(depth)
			k.treeHashes(depth)
		}
	case floorCreateFull, floorCreateBlank:
		recipients := depth
		if op == floorCreateBlank {
			recipients = n - 1
		}
		return func() {
			_, _, err := s.generateHPKEKeyPair(nil)
			k.must(err)
			k.pathKeys(depth)
			k.treeHashes(depth)
			k.sign() // LeafNode
			k.seals(recipients)
			k.sign() // FramedContent
			k.transcript(depth)
			k.schedule()
		}
	case floorJoin:
		treeSize := n*len(k.leaf) + n*(len(k.hpke)+s.nh+10)
		groupInfo := make([]byte, treeSize+500)
		key, nonce := make([]byte, s.nk), make([]byte, s.nn)
		sealed, err := s.seal(key, nonce, nil, groupInfo)
		k.must(err)
		sig, err := s.signWithLabel(k.key, "GroupInfoTBS", groupInfo)
		k.must(err)
		return func() {
			c := s.newLabelContext("Welcome", sealed)
			ct := HPKECiphertext{KEMOutput: k.pathCt.KEMOutput, Ciphertext: k.pathCt.Ciphertext}
			_, _ = c.open(k.priv, ct) // another context: it fails in the last step, the tag
			_, err := s.open(key, nonce, nil, sealed)
			k.must(err)
			k.must(s.verifyWithLabel(k.pub, "GroupInfoTBS", groupInfo, sig))
			for range n {
				k.verify()
			}
			k.hash(n, len(k.leaf))
			k.hash(n, len(k.hpke)+3*s.nh)
			k.hash(n, len(k.hpke)+2*s.nh)
			k.pathKeys(depth)
			k.schedule()
		}
	case floorAddAll:
		treeSize := n*len(k.leaf) + n*(len(k.hpke)+s.nh+10)
		groupInfo := make([]byte, treeSize+500)
		key, nonce := make([]byte, s.nk), make([]byte, s.nn)
		return func() {
			for range n - 1 {
				k.verify() // KeyPackage
				k.verify() // LeafNode
				k.hash(1, len(k.leaf)+len(k.hpke)+100)
			}
			k.hash(n, len(k.leaf))
			k.hash(n, 3*s.nh)
			k.sign() // FramedContent
			k.schedule()
			_, err := s.signWithLabel(k.key, "GroupInfoTBS", groupInfo)
			k.must(err)
			sealed, err := s.seal(key, nonce, nil, groupInfo)
			k.must(err)
			c := s.newLabelContext("Welcome", sealed)
			for range n - 1 {
				_, err := c.seal(nil, k.hpke, k.secret)
				k.must(err)
			}
		}
	}
	tb.Fatalf("no floor for %q", op)
	return nil
}

type floorKey struct {
	op floorOp
	cs CipherSuite
	n  int
}

var floorTimes sync.Map // floorKey → time.Duration

// floorTime measures a floor, once for a test run: the best of three rounds of
// at least 20 ms each.
func floorTime(tb testing.TB, op floorOp, cs CipherSuite, n int) time.Duration {
	tb.Helper()
	at := floorKey{op, cs, n}
	if d, ok := floorTimes.Load(at); ok {
		return d.(time.Duration)
	}
	f := floor(tb, op, cs, n)
	best := time.Duration(0)
	for range 3 {
		count, start := 0, time.Now()
		for time.Since(start) < 20*time.Millisecond {
			f()
			count++
		}
		if d := time.Since(start) / time.Duration(count); best == 0 || d < best {
			best = d
		}
	}
	floorTimes.Store(at, best)
	return best
}

// reportFloor adds "x-floor", the time per operation as a multiple of the
// floor, to the result of a benchmark whose loop has just ended.
func reportFloor(b *testing.B, op floorOp, cs CipherSuite, n int) {
	b.Helper()
	perOp := b.Elapsed() / time.Duration(max(b.N, 1))
	b.StopTimer()
	b.ReportMetric(float64(perOp)/float64(floorTime(b, op, cs, n)), "x-floor")
}

// benchSizes are the group sizes of the benchmarks.
var benchSizes = []int{2, 10, 100, 1000, 10_000}

func BenchmarkFloor(b *testing.B) {
	for _, cs := range benchSuites {
		for _, op := range []floorOp{floorEncrypt, floorDecrypt} {
			for _, n := range []int{100, 1024, 10_240} {
				b.Run(fmt.Sprintf("%s/%s/bytes=%d", suiteLabel(cs), op, n), func(b *testing.B) {
					f := floor(b, op, cs, n)
					b.ReportAllocs()
					for b.Loop() {
						f()
					}
				})
			}
		}
		for _, op := range floorGroupOps {
			for _, n := range benchSizes {
				b.Run(fmt.Sprintf("%s/%s/N=%d", suiteLabel(cs), op, n), func(b *testing.B) {
					f := floor(b, op, cs, n)
					b.ReportAllocs()
					for b.Loop() {
						f()
					}
				})
			}
		}
	}
}

// Every floor can be computed, for every suite.
func TestFloors(t *testing.T) {
	for _, cs := range benchSuites {
		for _, op := range append([]floorOp{floorEncrypt, floorDecrypt}, floorGroupOps...) {
			floor(t, op, cs, 3)()
		}
	}
}
