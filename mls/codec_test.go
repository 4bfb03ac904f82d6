// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
)

// A codec decodes what is named and encodes it again.
type codec struct {
	name   string
	encode func(b []byte) ([]byte, error)
}

// recode makes a codec of a reader and a writer that keep no raw bytes.
func recode[T any](name string, read func(*reader) T, write func(T, []byte) []byte) codec {
	return codec{name, func(b []byte) ([]byte, error) {
		v, err := decode(b, name, read)
		if err != nil {
			return nil, err
		}
		return write(v, nil), nil
	}}
}

// codecs are all top-level decoders of bytes from strangers.
var codecs = []codec{
	{"message", func(b []byte) ([]byte, error) {
		m, err := ParseMessage(b)
		if err != nil {
			return nil, err
		}
		m.raw = nil
		clearRaw(m)
		return m.Bytes(), nil
	}},
	recode("key package", readKeyPackage, func(kp *KeyPackage, b []byte) []byte {
		kp.raw, kp.LeafNode.raw = nil, nil
		return kp.appendTo(b)
	}),
	recode("leaf node", readLeafNode, func(l *LeafNode, b []byte) []byte {
		l.raw = nil
		return l.appendTo(b)
	}),
	recode("proposal", readProposal, func(p Proposal, b []byte) []byte { return appendProposal(b, p) }),
	recode("commit", readCommit, (*Commit).appendTo),
	recode("group info", readGroupInfo, func(gi *GroupInfo, b []byte) []byte {
		gi.raw = nil
		return gi.appendTo(b)
	}),
	recode("group secrets", readGroupSecrets, (*groupSecrets).appendTo),
	recode("welcome", readWelcome, (*Welcome).appendTo),
	recode("extensions", readExtensions, Extensions.appendTo),
	recode("dictionary", readAppData, AppData.appendTo),
	recode("authenticated content", readAuthenticatedContent, (*authenticatedContent).appendTo),
	recode("credential", readCredential, Credential.appendTo),
	recode("psk id", readPreSharedKeyID, func(id PreSharedKeyID, b []byte) []byte { return id.appendTo(b) }),
	{"ratchet tree", func(b []byte) ([]byte, error) {
		t, err := parseRatchetTree(suites[0], b, 1<<10)
		if err != nil {
			return nil, err
		}
		return t.marshal(nil), nil
	}},
	{"required capabilities", func(b []byte) ([]byte, error) {
		c, err := Extensions{{ExtensionRequiredCapabilities, b}}.RequiredCapabilities()
		if err != nil {
			return nil, err
		}
		return c.Extension().Data, nil
	}},
	{"external senders", func(b []byte) ([]byte, error) {
		s, err := Extensions{{ExtensionExternalSenders, b}}.ExternalSenders()
		if err != nil {
			return nil, err
		}
		return ExternalSendersExtension(s...).Data, nil
	}},
	{"components", func(b []byte) ([]byte, error) {
		ids, err := ParseComponentsList(b)
		if err != nil {
			return nil, err
		}
		return ComponentsList(ids...), nil
	}},
}

// clearRaw makes the parts of a message encode themselves.
func clearRaw(m *Message) {
	if m.GroupInfo != nil {
		m.GroupInfo.raw = nil
	}
	if m.KeyPackage != nil {
		m.KeyPackage.raw, m.KeyPackage.LeafNode.raw = nil, nil
	}
}

// samples returns real objects by the name of their codec.
func samples(t testing.TB) map[string][][]byte {
	t.Helper()
	tg := newTestGroup(t, &Config{PSKs: ExternalPSKs{"feud": []byte("x")}}, suite1, "juliet", "romeo", "nurse")
	out := make(map[string][][]byte)
	add := func(name string, b []byte) { out[name] = append(out[name], b) }
	message := func(m *Message) {
		add("message", m.Bytes())
		if m.Public != nil {
			a := m.Public.authenticated()
			add("authenticated content", a.appendTo(nil))
			if a.content.Proposal != nil {
				add("proposal", MarshalProposal(a.content.Proposal))
			} else {
				add("commit", a.content.Commit.appendTo(nil))
			}
		}
	}
	juliet := tg.members["juliet"]
	kp := testKeyPackage(t, nil, suite1, "mercutio")
	message(kp.KeyPackage.Message())
	add("key package", kp.KeyPackage.Bytes())
	add("leaf node", kp.KeyPackage.LeafNode.Bytes())
	add("credential", kp.KeyPackage.LeafNode.Credential.appendTo(nil))
	add("credential", X509Credential([]byte("a"), []byte("bc")).appendTo(nil))
	senders := ExternalSendersExtension(ExternalSender{kp.KeyPackage.LeafNode.SignatureKey, BasicCredential([]byte("ds"))})
	required := (&RequiredCapabilities{Extensions: []ExtensionType{ExtensionAppDataDictionary}, Credentials: []CredentialType{1}}).Extension()
	d := AppData{{1, []byte{2, 0, 1}}, {0x8000, []byte("roles")}}
	add("dictionary", d.appendTo(nil))
	add("components", ComponentsList(1, 2, 0x8000))
	add("external senders", senders.Data)
	add("required capabilities", required.Data)
	x := Extensions{senders, required, d.Extension()}
	add("extensions", x.appendTo(nil))
	psk := PreSharedKeyID{Type: PSKExternal, ID: []byte("feud"), Nonce: make([]byte, 32)}
	resumption := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: juliet.GroupID(), Epoch: 1, Nonce: make([]byte, 32)}
	add("psk id", psk.appendTo(nil))
	add("psk id", resumption.appendTo(nil))
	add("psk id", (&PreSharedKeyID{Type: PSKApplication, Component: 7, ID: []byte("x"), Nonce: make([]byte, 32)}).appendTo(nil))
	for _, p := range []Proposal{
		&Add{kp.KeyPackage}, &Remove{2}, &PreSharedKey{psk}, &PreSharedKey{resumption}, &ReInit{GroupID("next"), MLS10, 1, x},
		&GroupContextExtensions{x}, &AppDataUpdate{0x8000, AppDataUpdateOp, []byte("u")}, &AppEphemeral{0x8000, []byte("e")}, &SelfRemove{},
	} {
		for _, format := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
			if _, ok := p.(*SelfRemove); ok && format == WireFormatPrivateMessage {
				continue
			}
			m, _, err := juliet.Propose(p, &ProposeOptions{Wire: format, AAD: []byte("aad")})
			if err != nil {
				t.Fatal(err)
			}
			message(m)
		}
	}
	update, _, err := juliet.ProposeUpdate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	message(update)
	for _, o := range []*CommitOptions{
		nil, {Wire: WireFormatPrivateMessage}, {Remove: []LeafIndex{1}, InlineTree: true, GroupInfoExternalPub: true},
		{Add: []*KeyPackage{kp.KeyPackage}, PSKs: []PreSharedKeyID{psk}, InlineTree: true, ForcePath: true},
	} {
		p, err := juliet.Commit(o)
		if err != nil {
			t.Fatal(err)
		}
		message(p.Message())
		if w := p.Welcome(); w != nil {
			message(w)
			add("welcome", w.Welcome.appendTo(nil))
		}
		if gi := p.GroupInfo(); gi != nil {
			message(gi)
			add("group info", gi.GroupInfo.Bytes())
		}
	}
	message(juliet.mustSeal(t, "hello"))
	add("group secrets", (&groupSecrets{make([]byte, 32), make([]byte, 32), []PreSharedKeyID{psk}}).appendTo(nil))
	add("group secrets", (&groupSecrets{make([]byte, 32), nil, nil}).appendTo(nil))
	add("ratchet tree", juliet.Tree())
	return out
}

// TestCodecs: decoding and encoding is the identity, and every proper prefix and
// every trailing octet is an error.
func TestCodecs(t *testing.T) {
	all := samples(t)
	for _, c := range codecs {
		t.Run(c.name, func(t *testing.T) {
			if len(all[c.name]) == 0 {
				t.Fatal("no sample")
			}
			for i, b := range all[c.name] {
				got, err := c.encode(b)
				if err != nil {
					t.Fatalf("sample %d: %v", i, err)
				}
				if !bytes.Equal(got, b) {
					t.Errorf("sample %d encodes differently", i)
				}
				for n := range b {
					if _, err := c.encode(b[:n]); err == nil {
						t.Fatalf("sample %d: the first %d of %d octets were accepted", i, n, len(b))
					}
				}
				if _, err := c.encode(append(bytes.Clone(b), 0)); err == nil {
					t.Errorf("sample %d: a trailing octet was accepted", i)
				}
			}
		})
	}
}

// TestVarintIsMinimal: a length has one encoding (RFC 9420 §2.1.2).
func TestVarintIsMinimal(t *testing.T) {
	for _, n := range []int{0, 1, 0x3e, 0x3f, 0x40, 0x41, 0x3ffe, 0x3fff, 0x4000, 0x4001, 1 << 20, maxVarint} {
		b := appendVarint(nil, n)
		r := reader{b: b}
		if got := r.varint(); got != n || r.err != nil || len(r.b) != 0 {
			t.Errorf("%#x comes back as %#x, %v", n, got, r.err)
		}
		if varintLen(n) != len(b) {
			t.Errorf("%#x has %d octets, varintLen says %d", n, len(b), varintLen(n))
		}
	}
	for _, b := range [][]byte{{0x40, 0x3f}, {0x80, 0, 0x3f, 0xff}, {0x80, 0, 0, 1}, {0xc0, 0, 0, 0, 0, 0, 0, 0}, {0xff}, {0x40}, {0x80, 0, 0}} {
		r := reader{b: b}
		if r.varint(); r.err == nil {
			t.Errorf("%x was accepted", b)
		}
	}
}

// TestDecodersAllocateWhatTheyRead: a length promises nothing.
func TestDecodersAllocateWhatTheyRead(t *testing.T) {
	huge := appendVarint(nil, maxVarint)
	for _, c := range codecs {
		t.Run(c.name, func(t *testing.T) {
			for _, b := range [][]byte{huge, append([]byte{0, 1, 0, 3, 0, 1}, huge...), append(bytes.Repeat([]byte{0, 1}, 8), huge...)} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, _ = c.encode(b)
				runtime.ReadMemStats(&after)
				if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
					t.Errorf("%d octets of input made %d octets of garbage", len(b), n)
				}
			}
		})
	}
}

// TestManyExtensions: duplicates among many are found in linear time, and many
// are too many.
func TestManyExtensions(t *testing.T) {
	var x Extensions
	for i := range 65_000 {
		x = append(x, Extension{ExtensionType(i), []byte{}})
	}
	if _, ok := x.duplicate(); ok {
		t.Error("a duplicate among different types")
	}
	if typ, ok := append(x, Extension{77, nil}).duplicate(); !ok || typ != 77 {
		t.Error("the duplicate was not found")
	}
	if err := zeroConfig.checkExtensions(x, "test"); !hasRule(err, RuleLimit) {
		t.Errorf("65,000 extensions: %v", err)
	}
}

func ExampleParseMessage() {
	_, err := ParseMessage([]byte{0, 1, 0, 9})
	fmt.Println(err)
	// Output: mls: decoding MLSMessage: mls: wire format 0x0009 is unknown
}

func TestDeserializationVectors(t *testing.T) {
	type vector struct {
		Header hexBytes `json:"vlbytes_header"`
		Length int      `json:"length"`
	}
	for i, v := range loadVectors[vector](t, "deserialization.json") {
		r := reader{b: v.Header}
		if got := r.varint(); got != v.Length || r.done() != nil {
			t.Errorf("%d: %x is %d, %v, want %d", i, v.Header, got, r.done(), v.Length)
		}
		if got := appendVarint(nil, v.Length); !bytes.Equal(got, v.Header) {
			t.Errorf("%d: %d encodes as %x, want %x", i, v.Length, got, v.Header)
		}
	}
}
