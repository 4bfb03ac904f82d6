// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// TestChain pins the formula, which clients compute too.
func TestChain(t *testing.T) {
	c := FirstChain([]byte("group"))
	c = c.Next(1, KindCommit, 0, RefOf([]byte("first")))
	c = c.Next(2, KindApplication, 1, RefOf([]byte("second")))
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
		t.Errorf("chain is %x, want %x", c, want)
	}
}
