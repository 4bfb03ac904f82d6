// SPDX-License-Identifier: Apache-2.0

package xep_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
	"github.com/lockstep-im/lockstep/xep"
)

func vectors(t *testing.T) map[string]string {
	t.Helper()
	all, err := xep.Vectors("mls.xml")
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	for _, v := range all {
		m[v.Name] = v.Value // a name that comes again is a fingerprint: see TestFingerprintsAreTrue
	}
	return m
}

// TestComponentVectors encodes the components of the text, and reads them back.
func TestComponentVectors(t *testing.T) {
	_, chain := readVector(t)
	group := &groupdata.Group{JID: "balcony@mls.capulet.lit", Name: "The balcony", Handshake: groupdata.Public}
	roles := groupdata.NewRoles("juliet@capulet.lit", groupdata.DefaultPolicy()).With("tybalt@capulet.lit", groupdata.Outcast)
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	g, r := must(group.Encode()), must(roles.Encode())
	renamed := *group
	renamed.Name = "The orchard"
	// The proposal's type stands in front of its content.
	update := mls.AppDataUpdate{Component: groupdata.ComponentGroup, Op: mls.AppDataUpdateOp, Update: must(renamed.Encode())}
	proposal := append([]byte{0xf5, 0xa0, byte(update.Op), byte(len(update.Update))}, update.Update...)
	position := groupdata.Position{Seq: 3, Chain: groupdata.Chain(chain[3].chain)}
	have := vectors(t)
	for name, want := range map[string][]byte{
		"Group": g, "Roles": r,
		"AppDataDictionary": mls.AppData{}.With(groupdata.ComponentGroup, g).With(groupdata.ComponentRoles, r).Extension().Data,
		"AppDataUpdate":     proposal,
		"SafeAAD":           position.AAD(),
	} {
		if have[name] != hex.EncodeToString(want) {
			t.Errorf("%s is %s, should be %x", name, have[name], want)
		}
	}
	if aad := mls.SafeAAD(mls.AppData{}.With(groupdata.ComponentPosition, position.AAD()[4:])); !bytes.Equal(aad, position.AAD()) {
		t.Errorf("a SafeAAD with the position is %x, we send %x", aad, position.AAD())
	}
	if p, ok, err := groupdata.ParseAAD(must(hex.DecodeString(have["SafeAAD"]))); !ok || err != nil || p != position {
		t.Errorf("the position is read as %+v, %v", p, err)
	}
}

// TestFingerprintsAreTrue hashes the keys of the text.
func TestFingerprintsAreTrue(t *testing.T) {
	all, err := xep.Vectors("mls.xml")
	if err != nil {
		t.Fatal(err)
	}
	text, n := documentText(t, "mls.xml"), 0
	for i, v := range all {
		if !strings.HasPrefix(v.Name, "signature_key of ") {
			continue
		}
		key, err := hex.DecodeString(v.Value)
		if err != nil || i+1 == len(all) || all[i+1].Name != "fingerprint" {
			t.Fatalf("%s: %v, or no fingerprint follows", v.Name, err)
		}
		sum := sha256.Sum256(key)
		if got := all[i+1].Value; got != hex.EncodeToString(sum[:]) {
			t.Errorf("%s has the fingerprint %s, should be %x", v.Name, got, sum)
		}
		// Juliet's is in the address to scan, Romeo's in the trust message.
		if !strings.Contains(text, ";trust="+hex.EncodeToString(sum[:])) && !strings.Contains(text, "trust>"+base64.StdEncoding.EncodeToString(sum[:])+"<") {
			t.Errorf("no example uses %s", v.Name)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d keys", n)
	}
}

// refHash is RefHash of RFC 9420 §5.2, for values of less than 64 octets.
func refHash(label, value string) string {
	b := append([]byte{byte(len(label))}, label...)
	b = append(append(b, byte(len(value))), value...)
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// TestMLSRefsAreTrue computes the references of MLS in the examples from the
// strings that stand for key packages and proposals.
func TestMLSRefsAreTrue(t *testing.T) {
	known := map[string]string{
		refHash("MLS 1.0 KeyPackage Reference", "one of the Nurse"):           "of the text",
		refHash("MLS 1.0 KeyPackage Reference", "another of the Nurse"):       "of the text",
		refHash("MLS 1.0 Proposal Reference", "a proposal that is not there"): "a proposal that no example shows",
	}
	var refs []string
	for _, e := range examples(t) {
		var doc xmlpull.Doc
		top, err := doc.Parse([]byte(e.XML), nil)
		if err != nil {
			t.Fatal(err)
		}
		eachElement(top, func(el stanza.Element) {
			if v, ok := el.Attr("kp-ref"); ok {
				refs = append(refs, string(v))
			}
			v, ok := el.Attr("ref")
			space, parent := string(el.Space()), string(el.Parent().Local())
			if ok && (space == stanza.NSKeyPackages || parent == "unknown-proposal") {
				refs = append(refs, string(v))
			}
			if el.Is(stanza.NSKeyPackages, "key-package") && el.HasText() {
				b := decode64(t, string(el.Text()))
				if !bytes.HasPrefix(b, []byte{0, 1, 0, 5}) {
					t.Errorf("%s:%d %q: %q does not begin as a key package does", e.Document, e.Line, e.Caption, b)
					return
				}
				known[refHash("MLS 1.0 KeyPackage Reference", string(b[4:]))] = e.Caption
			}
		})
	}
	for _, r := range refs {
		if known[r] == "" {
			t.Errorf("%s is the reference of no key package in the examples", r)
		}
	}
	if len(refs) < 8 {
		t.Errorf("only %d references", len(refs))
	}
}

// TestPiecesAreTrue cuts the large objects of the examples as they do.
func TestPiecesAreTrue(t *testing.T) {
	fill := func(head, text string, n int) []byte { return []byte((head + strings.Repeat(text, n))[:n]) }
	commit := fill("\x00\x01\x00\x01", "a commit with a long path. ", 61440)
	tree := fill("", "the ratchet tree of the balcony. ", 1234)
	n := 0
	for _, e := range examples(t) {
		var doc xmlpull.Doc
		top, err := doc.Parse([]byte(e.XML), nil)
		if err != nil {
			t.Fatal(err)
		}
		eachElement(top, func(el stanza.Element) {
			whole, sum := commit, "sha-256"
			switch {
			case el.Is(stanza.NSDelivery, "tree"), el.Is(stanza.NSDelivery, "group-info"):
				whole, sum = tree, "tree-sha-256"
			case el.Is(stanza.NSDelivery, "stage"), el.Is(stanza.NSDelivery, "entry"):
			default:
				return
			}
			if v, ok := el.Attr(sum); ok {
				n++
				if h := stanza.Hash(sha256.Sum256(whole)); string(v) != h.String() {
					t.Errorf("%s:%d %q: the hash is %s, should be %s", e.Document, e.Line, e.Caption, v, h)
				}
			}
			if _, ok := el.Attr("offset"); !ok || !el.HasText() || el.Is(stanza.NSDelivery, "group-info") {
				return
			}
			n++
			piece := decode64(t, string(el.Text()))
			if !bytes.HasSuffix(whole, piece) {
				t.Errorf("%s:%d %q: the piece is %q", e.Document, e.Line, e.Caption, piece)
			}
			var off stanza.Entry
			v, _ := el.Attr("offset")
			for _, c := range v {
				off.Offset = off.Offset*10 + uint64(c-'0')
			}
			if int(off.Offset)+len(piece) != len(whole) {
				t.Errorf("%s:%d %q: a piece of %d octets at %d of %d", e.Document, e.Line, e.Caption, len(piece), off.Offset, len(whole))
			}
		})
	}
	if n < 6 {
		t.Errorf("only %d pieces and hashes", n)
	}
}
