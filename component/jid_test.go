// SPDX-License-Identifier: Apache-2.0

package component

import (
	"strings"
	"testing"

	"mellium.im/xmpp/jid"
)

func TestParseAddr(t *testing.T) {
	for _, tc := range []struct {
		in, bare, local, domain, resource string
	}{
		{"juliet@capulet.lit/balcony", "juliet@capulet.lit", "juliet", "capulet.lit", "balcony"},
		{"capulet.lit", "capulet.lit", "", "capulet.lit", ""},
		{"Juliet@Capulet.LIT/Balcony", "juliet@capulet.lit", "juliet", "capulet.lit", "Balcony"},
		{"fußball@example.com", "fußball@example.com", "fußball", "example.com", ""},
		{"a@xn--bcher-kva.example", "a@bücher.example", "a", "bücher.example", ""},
		{"a@b.example/c/d@e", "a@b.example", "a", "b.example", "c/d@e"},
	} {
		a, err := parseAddr(tc.in)
		if err != nil {
			t.Errorf("parseAddr(%q): %v", tc.in, err)
			continue
		}
		if a.full != tc.in || a.bare != tc.bare || a.local != tc.local || a.domain != tc.domain || a.resource != tc.resource {
			t.Errorf("parseAddr(%q) = %+v, want %+v", tc.in, a, tc)
		}
	}
	for _, bad := range []string{"", "@b", "a@", "/r", "a@b/", "i♥@example.com", "☃@example.com", "a@ex_ample.com", "a b@c", "\xff@b", strings.Repeat("a", 5000)} {
		if a, err := parseAddr(bad); err == nil {
			t.Errorf("parseAddr(%q) = %+v, want an error", bad, a)
		}
	}
}

// FuzzParseAddr checks that the short path agrees with the library.
func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"a@b.c/d", "a.b@c-d.e", "xn--a@b", "a@xn--b", "1.2.3.4", "a@b..c", "a-@b-", "a@b/", "ab--c.d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := parsePlain(s)
		if !ok {
			return
		}
		j, err := jid.Parse(s)
		if err != nil || j.String() != s || j.Bare().String() != a.bare || j.Localpart() != a.local || j.Domainpart() != a.domain || j.Resourcepart() != a.resource {
			t.Errorf("parsePlain(%q) = %+v, the library says %v, %v", s, a, j, err)
		}
	})
}
