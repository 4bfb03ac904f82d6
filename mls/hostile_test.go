// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
)

// Bytes from strangers: what any decoder must do with them.

// A decoder reads all of its input and, when it succeeds, returns its encoding.
type decoder struct {
	// canonical: what is decoded has this one encoding. The others are restored from
	// trusted storage, and are only not to break.
	canonical bool
	decode    func(b []byte) ([]byte, error)
}

func encodingOf[T any](parse func([]byte) (T, error), encode func(T) []byte) decoder {
	return decoder{true, func(b []byte) ([]byte, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return encode(v), nil
	}}
}

// decoders are the decoders that are not among codecs: of what is stored, and of
// small things.
func decoders() map[string]decoder {
	stored := func(encode func(b []byte) ([]byte, error)) decoder { return decoder{false, encode} }
	return map[string]decoder{
		"external sender": encodingOf(ParseExternalSender, ExternalSender.Bytes),
		"safe AAD":        encodingOf(ParseSafeAAD, SafeAAD),
		"group": stored(func(b []byte) ([]byte, error) {
			g, err := Load(nil, b)
			if err != nil {
				return nil, err
			}
			return g.Save(), nil
		}),
		"observer": stored(func(b []byte) ([]byte, error) {
			// Without nodes: only the state itself is under test.
			r := reader{b: bytes.Clone(b)}
			if v := r.u8(); r.err == nil && v != publicStateVersion {
				return nil, errBadRows
			}
			v := readState(&r)
			if err := r.done(); err != nil {
				return nil, err
			}
			_, err := LoadPublicGroup(nil, b, func(func(TreeNode) bool) {})
			if err == nil {
				return nil, fmt.Errorf("loaded without a tree")
			}
			st := publicState{ctxBytes: v.ctx.Bytes(), confirmationTag: v.confirmationTag, reinit: v.reinit, pending: v.pending}
			return st.appendState([]byte{publicStateVersion}), nil
		}),
		"pending commit": stored(func(b []byte) ([]byte, error) {
			p, err := UnmarshalPendingCommit(nil, b)
			if err != nil {
				return nil, err
			}
			return p.Marshal(), nil
		}),
		"private key package": stored(func(b []byte) ([]byte, error) {
			p, err := UnmarshalPrivateKeyPackage(b)
			if err != nil {
				return nil, err
			}
			return p.Marshal(), nil
		}),
	}
}

// storedSamples are genuine encodings by the name of their decoder.
func storedSamples(t testing.TB) map[string][][]byte {
	cfg := &Config{PSKs: ExternalPSKs{"feud": []byte("Montague")}}
	tg := newTestGroup(t, cfg, suite1, "juliet", "mallory", "romeo", "mercutio", "nurse")
	tg.commit("juliet", &CommitOptions{Remove: []LeafIndex{3}})
	tg.commit("nurse", nil)
	g := tg.members["mallory"]
	m := make(map[string][][]byte)
	add := func(name string, list ...[]byte) { m[name] = append(m[name], list...) }
	kp := forgeKeyPackage(t, suite1, "tybalt", nil)
	last := must(NewKeyPackage(nil, suite1, testIdentity(t, suite1, "paris"), &KeyPackageOptions{LastResort: true, DeviceID: []byte("device")}))
	psk := PreSharedKeyID{Type: PSKExternal, ID: []byte("feud")}
	p := must(g.Commit(&CommitOptions{Add: []*KeyPackage{kp.KeyPackage, last.KeyPackage}, PSKs: []PreSharedKeyID{psk}, InlineTree: true, GroupInfoExternalPub: true}))
	add("external sender", ExternalSender{[]byte("key"), X509Credential([]byte("a"), []byte("b"))}.Bytes(), ExternalSender{[]byte("key"), Credential{Type: 9, Raw: []byte("x")}}.Bytes())
	add("safe AAD", SafeAAD(AppData{{1, []byte("x")}, {2, nil}}))
	_, withUpdate, err := g.ProposeUpdate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	add("group", g.Save(), withUpdate.Save())
	add("observer", tg.public.State(), withUpdate.Public().State())
	add("private key package", kp.Marshal(), last.Marshal())
	add("pending commit", p.Marshal(), must(JoinExternal(nil, p.GroupInfo().GroupInfo, testIdentity(t, suite1, "paris"), nil)).Marshal())
	return m
}

// TestStoredDecoders: every sample decodes to itself; every proper prefix of it fails,
// and so does every continuation.
func TestStoredDecoders(t *testing.T) {
	all, have := decoders(), storedSamples(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			d := all[name]
			if len(have[name]) == 0 {
				t.Fatal("no samples")
			}
			for i, b := range have[name] {
				whole := bytes.Clone(b)
				got, err := d.decode(b)
				if err != nil {
					t.Fatalf("sample %d: %v", i, err)
				}
				if !bytes.Equal(got, b) {
					t.Errorf("sample %d: decodes %x, encodes %x", i, b, got)
				}
				for n := range len(b) {
					if n > 4096 && n%61 != 0 {
						continue // the long ones are made of the same parts
					}
					if name == "pending commit" && n < len(b) && !isWholePendingCommit(t, b) && n > messagesOf(t, b) {
						continue // the rest is looked at by Bind, see TestPendingCommitPrefixes
					}
					if _, err := d.decode(b[:n:n]); err == nil {
						t.Errorf("sample %d: its first %d of %d octets decode", i, n, len(b))
					}
				}
				if name == "pending commit" && !isWholePendingCommit(t, b) {
					continue
				}
				for _, tail := range [][]byte{{0}, {1}, {0xff}, b} {
					if _, err := d.decode(append(bytes.Clone(b), tail...)); err == nil {
						t.Errorf("sample %d: followed by %d octets decodes", i, len(tail))
					}
				}
				if !bytes.Equal(whole, b) {
					t.Errorf("sample %d: the decoder changed its input", i)
				}
			}
		})
	}
}

// messagesOf returns where the messages of a stored commit end.
func messagesOf(t testing.TB, b []byte) int {
	t.Helper()
	r := reader{b: b[1:]}
	for range 3 {
		if r.optional() {
			r.opaque()
		}
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	return len(b) - len(r.b)
}

func isWholePendingCommit(t testing.TB, b []byte) bool {
	return b[messagesOf(t, b)] == pendingWholeGroup
}

// TestPendingCommitPrefixes: what a group completes is looked at to its end.
func TestPendingCommitPrefixes(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo", "nurse")
	g := tg.members["juliet"]
	b := must(g.Commit(&CommitOptions{Remove: []LeafIndex{1}})).Marshal()
	if _, err := g.UnmarshalPendingCommit(b); err != nil {
		t.Fatal(err)
	}
	for n := range len(b) {
		if _, err := g.UnmarshalPendingCommit(b[:n:n]); err == nil {
			t.Errorf("its first %d of %d octets are a commit", n, len(b))
		}
	}
	if _, err := g.UnmarshalPendingCommit(append(bytes.Clone(b), 0)); err == nil {
		t.Error("an octet after the commit")
	}
}

// TestBrokenOctets: no decoder breaks at a wrong octet, and what is decoded from
// untrusted bytes has no other encoding.
func TestBrokenOctets(t *testing.T) {
	t.Parallel()
	try := func(name string, b []byte, step int, canonical bool, decode func([]byte) ([]byte, error)) {
		t.Helper()
		for i := 0; i < len(b); i += step {
			for _, v := range []byte{b[i] ^ 1, b[i] ^ 0x80, 0, 0xff, b[i] | 0x40} {
				c := bytes.Clone(b)
				c[i] = v
				if got, err := decode(c); err == nil && canonical && !bytes.Equal(got, c) {
					t.Fatalf("%s: octet %d: decodes %x, encodes %x", name, i, c, got)
				}
			}
		}
	}
	all, have := decoders(), storedSamples(t)
	for name, d := range all {
		for _, b := range have[name] {
			step := 1
			if !d.canonical {
				step += len(b) / 30
			}
			try(name, b, step, d.canonical, d.decode)
		}
	}
	have = samples(t)
	for _, c := range codecs {
		for _, b := range have[c.name] {
			try(c.name, b, 1+len(b)/400, true, c.encode)
		}
	}
}

// allocatedBy returns how many octets a function allocates. Other goroutines
// count too: the tests that use it do not run in parallel.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDecoderMemory: lengths that promise much, and lists of the smallest items,
// cost a small multiple of the input.
func TestDecoderMemory(t *testing.T) {
	head := func(wire WireFormat) []byte { return appendU16(appendU16(nil, uint16(MLS10)), uint16(wire)) }
	framed := func(t ContentType, body []byte) []byte {
		b := appendOpaque(head(WireFormatPublicMessage), []byte("balcony"))
		b = Sender{SenderMember, 0}.appendTo(appendU64(b, 1))
		return append(appendU8(appendOpaque(b, nil), uint8(t)), body...)
	}
	leaf := func(caps func([]byte) []byte, x []byte) []byte {
		b := appendOpaque(nil, make([]byte, 32))
		b = appendOpaque(b, make([]byte, 32))
		b = BasicCredential([]byte("mallory")).appendTo(b)
		b = caps(b)
		b = appendU8(b, uint8(LeafNodeUpdate))
		return appendOpaque(append(b, x...), make([]byte, 64))
	}
	const n = 65_000
	none := func(b []byte) []byte { return append(b, 0, 0, 0, 0, 0) }
	many := func(b []byte) []byte {
		for range 5 {
			b = appendOpaque(b, bytes.Repeat([]byte{0xf0, 0x0d}, n))
		}
		return b
	}
	extensions := appendOpaque(nil, bytes.Repeat([]byte{0xf0, 0x0d, 0}, n))
	huge := []byte{0xbf, 0xff, 0xff, 0xff}
	update := append(appendU16(nil, uint16(ProposalUpdate)), leaf(none, []byte{0})...)
	for _, v := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"proposals", append(appendOpaque(framed(ContentCommit, nil), bytes.Repeat([]byte{2, 0}, n)), 0, 0, 0, 0), true},
		{"removes", append(appendOpaque(framed(ContentCommit, nil), bytes.Repeat([]byte{1, 0, 3, 0, 0, 0, 1}, n)), 0, 0, 0, 0), true},
		{"updates", append(appendOpaque(framed(ContentCommit, nil), bytes.Repeat(append([]byte{1}, update...), 5000)), 0, 0, 0, 0), true},
		{"path nodes", append(append(framed(ContentCommit, append([]byte{0, 1}, leaf(none, []byte{0})...)), appendOpaque(nil, bytes.Repeat([]byte{0, 0}, n))...), 0, 0, 0), true},
		{"ciphertexts", append(append(framed(ContentCommit, append([]byte{0, 1}, leaf(none, []byte{0})...)), appendOpaque(nil, appendOpaque([]byte{0}, bytes.Repeat([]byte{0, 0}, n)))...), 0, 0, 0), true},
		{"capabilities", append(framed(ContentProposal, append(appendU16(nil, uint16(ProposalUpdate)), leaf(many, []byte{0})...)), 0, 0), true},
		{"extensions", append(framed(ContentProposal, append(appendU16(nil, uint16(ProposalUpdate)), leaf(none, extensions)...)), 0, 0), true},
		{"context extensions", append(framed(ContentProposal, append(appendU16(nil, uint16(ProposalGroupContextExtensions)), extensions...)), 0, 0), true},
		{"welcome entries", append(appendOpaque(appendU16(head(WireFormatWelcome), 1), bytes.Repeat([]byte{0, 0, 0}, n)), 0), true},
		{"huge group id", append(head(WireFormatPublicMessage), huge...), false},
		{"huge proposals", framed(ContentCommit, huge), false},
		{"huge welcome", append(appendU16(head(WireFormatWelcome), 1), huge...), false},
		{"huge ciphertext", append(append(appendOpaque(head(WireFormatPrivateMessage), nil), 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0), huge...), false},
		{"huge data", framed(ContentApplication, huge), false},
	} {
		var err error
		got := allocatedBy(func() { _, err = ParseMessage(v.b) })
		if (err == nil) != v.ok {
			t.Errorf("%s: %v", v.name, err)
		}
		// The worst is a ciphertext of two octets, which becomes two slices of three
		// words each.
		if limit := uint64(36*len(v.b) + 8192); got > limit {
			t.Errorf("%s: %d octets of input, %d of memory", v.name, len(v.b), got)
		}
		t.Logf("%-20s %8d octets of input, %9d of memory, factor %.1f", v.name, len(v.b), got, float64(got)/float64(len(v.b)))
	}
	// A tree of blanks.
	s := mustSuite(t, suite1)
	node := append([]byte{1, nodeTypeLeaf}, testKeyPackage(t, nil, suite1, "juliet").KeyPackage.LeafNode.Bytes()...)
	b := appendOpaque(nil, append(make([]byte, 1<<17), node...))
	if got := allocatedBy(func() {
		if _, err := parseRatchetTree(s, b, 1<<17); err != nil {
			t.Error(err)
		}
	}); got > 4*uint64(len(b)) {
		t.Errorf("a tree of %d octets takes %d of memory", len(b), got)
	} else {
		t.Logf("a tree of %d octets takes %d of memory", len(b), got)
	}
}

// TestLongLists: lists of thousands that a stranger makes cost what they are long,
// not its square.
func TestLongLists(t *testing.T) {
	const n = DefaultMaxProposals
	var updates []*AppDataUpdate
	for i := range n {
		updates = append(updates, &AppDataUpdate{ComponentID(n - i), AppDataUpdateOp, []byte("x")})
	}
	var x Extensions
	if got := allocatedBy(func() { x = must(zeroConfig.updateAppData(nil, updates)) }); got > 1000*n {
		t.Errorf("%d AppDataUpdates take %d octets of memory", n, got)
	}
	if d := must(x.AppData()); len(d) != n || d[0].ID != 1 {
		t.Errorf("%d components", len(d))
	}
	for _, u := range updates {
		u.Op, u.Update = AppDataRemoveOp, nil
	}
	if got := allocatedBy(func() { x = must(zeroConfig.updateAppData(x, updates)) }); got > 1000*n {
		t.Errorf("%d removals take %d octets of memory", n, got)
	}
	if d := must(x.AppData()); len(d) != 0 {
		t.Errorf("%d components are left", len(d))
	}

	var have, want []ProposalType
	for i := range 60_000 {
		have = append(have, ProposalType(0x1000+i))
		want = append(want, ProposalType(0x1000+59_999-i))
	}
	if p, ok := missing(have, want, ProposalType.isDefault); ok {
		t.Errorf("%v is missing", p)
	}
	if p, ok := missing(have[1:], append([]ProposalType{ProposalAdd}, want...), ProposalType.isDefault); !ok || p != 0x1000 {
		t.Errorf("%v is missing: %v", p, ok)
	}

	// 60,000 capabilities of each kind in a leaf, and a commit of very many proposals.
	c := newCourt(t, &offence{cfg: func(c *Config) { c.PSKs = PSKFunc(func(*PreSharedKeyID) ([]byte, error) { return []byte("psk"), nil }) }})
	romeo := c.tg.members["romeo"]
	m := addLeaf(func(l *LeafNode) {
		for i := range 60_000 {
			l.Capabilities.Extensions = append(l.Capabilities.Extensions, ExtensionType(0x1000+i))
			l.Capabilities.Proposals = append(l.Capabilities.Proposals, ProposalType(0x1000+i))
			l.Capabilities.Credentials = append(l.Capabilities.Credentials, CredentialType(0x1000+i))
		}
	})(c)
	size := uint64(len(m.Bytes()))
	if got := allocatedBy(func() {
		if _, err := romeo.Process(m); err != nil {
			t.Error(err)
		}
	}); got > 400*size {
		t.Errorf("a leaf of %d octets takes %d octets of memory", size, got)
	} else {
		t.Logf("a leaf of %d octets takes %d octets of memory", size, got)
	}
	var list []Proposal
	var psks [][]byte
	for i := range 4000 {
		list = append(list, &PreSharedKey{PreSharedKeyID{Type: PSKExternal, ID: fmt.Appendf(nil, "%d", i), Nonce: make([]byte, 32)}})
		psks = append(psks, []byte("psk"))
	}
	m = c.commit(forgery{psks: psks}, list...)
	size = uint64(len(m.Bytes()))
	if got := allocatedBy(func() {
		if _, err := romeo.Process(m); err != nil {
			t.Error(err)
		}
	}); got > 100*size {
		t.Errorf("a commit of %d octets takes %d octets of memory", size, got)
	} else {
		t.Logf("a commit of %d octets takes %d octets of memory", size, got)
	}
}
