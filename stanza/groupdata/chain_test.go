// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// TestChainIsFixed pins the formula: any other implementation must get the same
// bytes.
func TestChainIsFixed(t *testing.T) {
	c := Genesis([]byte("group"))
	c = c.Next(1, Commit, 0, []byte("first"))
	c = c.Next(2, Application, 1, []byte("second"))
	// The same, spelled out.
	want := sha256.Sum256([]byte("group"))
	for _, e := range []struct{ head, body string }{
		{"0000000000000001" + "03" + "0000000000000000", "first"},
		{"0000000000000002" + "01" + "0000000000000001", "second"},
	} {
		head, err := hex.DecodeString(e.head)
		if err != nil {
			t.Fatal(err)
		}
		body := sha256.Sum256([]byte(e.body))
		want = sha256.Sum256(append(append(want[:], head...), body[:]...))
	}
	if c != want {
		t.Errorf("chain = %x, want %x", c, want)
	}
	if p, err := ParseChain(c.String()); err != nil || p != c {
		t.Errorf("ParseChain(%q) = %v, %v", c, p, err)
	}
	for _, bad := range []string{"", "AAAA", c.String() + "\n", c.String()[:43]} {
		if _, err := ParseChain(bad); err == nil {
			t.Errorf("ParseChain(%q) succeeds", bad)
		}
	}
}

func TestPositionInAAD(t *testing.T) {
	p := Position{Seq: 1 << 40, Chain: Genesis([]byte("g"))}
	b := p.AAD()
	got, ok, err := ParseAAD(b)
	if err != nil || !ok || got != p {
		t.Errorf("ParseAAD(AAD(%v)) = %v, %v, %v", p, got, ok, err)
	}
	if _, ok, err := ParseAAD(nil); ok || err != nil {
		t.Errorf("ParseAAD(nil) = %v, %v; want no position and no error", ok, err)
	}
	for i := 1; i < len(b); i++ {
		if _, _, err := ParseAAD(b[:i]); err == nil {
			t.Errorf("prefix of %d bytes parses", i)
		}
	}
	// Items of other components, before and after, do not matter.
	other := appendVector(nil, append(append([]byte{0, 9, 1, 'x'}, b[1:]...), 0xff, 0xff, 0))
	if got, ok, err := ParseAAD(other); err != nil || !ok || got != p {
		t.Errorf("ParseAAD with other items = %v, %v, %v", got, ok, err)
	}
	if _, _, err := ParseAAD(appendVector(nil, append(b[1:len(b):len(b)], b[1:]...))); err == nil {
		t.Error("two positions parse")
	}
}

func TestKindNames(t *testing.T) {
	for _, k := range []Kind{Application, Proposal, Commit, Control} {
		if got, err := ParseKind(k.String()); err != nil || got != k {
			t.Errorf("ParseKind(%q) = %v, %v", k, got, err)
		}
	}
	if _, err := ParseKind("kind 9"); err == nil {
		t.Error("an unknown kind parses")
	}
}
