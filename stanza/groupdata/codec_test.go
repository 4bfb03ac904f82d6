// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"bytes"
	"strings"
	"testing"
)

func mustEncode(t testing.TB, e interface{ Encode() ([]byte, error) }) []byte {
	t.Helper()
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGroupRoundTrip(t *testing.T) {
	for _, g := range []Group{
		{JID: "balcony@mls.capulet.lit", Name: "The balcony", Handshake: Public},
		{JID: "mls.capulet.lit", Handshake: Private},
		{JID: "ß@例え.example", Name: strings.Repeat("é", MaxName/2), Handshake: Public},
	} {
		b := mustEncode(t, &g)
		got, err := DecodeGroup(b)
		if err != nil || *got != g {
			t.Errorf("DecodeGroup(Encode(%v)) = %v, %v", g, got, err)
		}
		for i := range b {
			if _, err := DecodeGroup(b[:i]); err == nil {
				t.Errorf("prefix of %d bytes of %v decodes", i, g)
			}
		}
		if _, err := DecodeGroup(append(b, 0)); err == nil {
			t.Errorf("%v with a trailing byte decodes", g)
		}
	}
}

func TestGroupRefusesWhatNamesNoGroup(t *testing.T) {
	for _, g := range []Group{
		{Handshake: Public},
		{JID: "a@b@c", Handshake: Public},
		{JID: "a@b/c", Handshake: Public},
		{JID: "@b", Handshake: Public},
		{JID: "a@", Handshake: Public},
		{JID: "a b@c", Handshake: Public},
		{JID: "a@b\xff", Handshake: Public},
		{JID: strings.Repeat("a", maxJID+1), Handshake: Public},
		{JID: "a@b"},
		{JID: "a@b", Handshake: 3},
		{JID: "a@b", Name: "two\nlines", Handshake: Public},
		{JID: "a@b", Name: strings.Repeat("x", MaxName+1), Handshake: Public},
		{JID: "a@b", Name: "\xff", Handshake: Public},
	} {
		if b, err := g.Encode(); err == nil {
			t.Errorf("Encode(%q) = %x, want an error", g, b)
		}
	}
}

func TestRolesRoundTrip(t *testing.T) {
	r := NewRoles("juliet@capulet.lit", DefaultPolicy())
	r = r.With("romeo@montague.lit", Admin).With("tybalt@capulet.lit", Outcast)
	r.Policy.MaxDevices = 5
	b := mustEncode(t, r)
	got, err := DecodeRoles(b)
	if err != nil || !got.Equal(r) {
		t.Fatalf("DecodeRoles(Encode(%v)) = %v, %v", r, got, err)
	}
	for i := range b {
		if _, err := DecodeRoles(b[:i]); err == nil {
			t.Errorf("prefix of %d bytes decodes", i)
		}
	}
}

func TestRolesHaveOneEncoding(t *testing.T) {
	good := mustEncode(t, &Roles{Policy: DefaultPolicy(), Entries: map[string]Role{"a@b": Owner, "c@d": Member}})
	head := good[:9:9]
	entry := func(jid string, r Role) []byte { return append(appendVector(nil, []byte(jid)), byte(r)) }
	for name, entries := range map[string][]byte{
		"unsorted":     append(entry("c@d", Member), entry("a@b", Owner)...),
		"twice":        append(entry("a@b", Owner), entry("a@b", Owner)...),
		"none":         entry("a@b", None),
		"unknown role": entry("a@b", 6),
		"full JID":     entry("a@b/c", Owner),
	} {
		if _, err := DecodeRoles(appendVector(head, entries)); err == nil {
			t.Errorf("%s entries decode", name)
		}
	}
	long := append(head, 0x40, byte(len(good)-10)) // a two-byte length for a short vector
	if _, err := DecodeRoles(append(long, good[10:]...)); err == nil {
		t.Error("a length that is not minimal decodes")
	}
	for i, v := range map[int]byte{0: 2, 1: 0, 2: 6, 3: 1, 5: 5, 6: 3} {
		bad := bytes.Clone(good)
		bad[i] = v
		if _, err := DecodeRoles(bad); err == nil {
			t.Errorf("byte %d = %d decodes", i, v)
		}
	}
}

func FuzzDecodeRoles(f *testing.F) {
	f.Add(mustEncode(f, NewRoles("juliet@capulet.lit", DefaultPolicy())))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRoles(b); err == nil && !bytes.Equal(mustEncode(t, r), b) {
			t.Errorf("%x decodes to %v, which encodes differently", b, r)
		}
	})
}

func FuzzDecodeGroup(f *testing.F) {
	f.Add(mustEncode(f, &Group{JID: "a@b", Name: "n", Handshake: Public}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := DecodeGroup(b); err == nil && !bytes.Equal(mustEncode(t, g), b) {
			t.Errorf("%x decodes to %v, which encodes differently", b, g)
		}
	})
}

func FuzzParseAAD(f *testing.F) {
	f.Add(Position{Seq: 7, Chain: Genesis([]byte("g"))}.AAD())
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok, err := ParseAAD(b); err == nil && ok && !bytes.Contains(b, p.Chain[:]) {
			t.Errorf("ParseAAD(%x) invents a chain", b)
		}
	})
}
