// SPDX-License-Identifier: Apache-2.0

package component

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/lockstep-im/lockstep/stanza"
)

// TestMulticastWithoutTheSender: a stanza without addresses is an error, after
// which a service would be left alone for a while.
func TestMulticastWithoutTheSender(t *testing.T) {
	s, err := New(Config{Domain: "mls.capulet.lit", Address: "localhost:1", Store: noStore{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.link.out.reset(true)
	s.multi.set("multicast.capulet.lit")
	var to []string
	for i := range multicastMax {
		to = append(to, fmt.Sprintf("user%d@capulet.lit/x", i))
	}
	to = append(to, "sender@capulet.lit/x")
	if !s.multi.send(s, []byte("<message to='"), []byte("'></message>"), to, "sender@capulet.lit/x") {
		t.Fatal("the multicast service is not used")
	}
	b, _ := s.link.out.fill(nil, 1<<20)
	if n := bytes.Count(b, []byte("<address ")); n != multicastMax {
		t.Errorf("%d addresses, want %d", n, multicastMax)
	}
	if n := bytes.Count(b, []byte(stanza.NSAddress)); n != 1 {
		t.Errorf("%d stanzas, want one: %s", n, b)
	}
}
