// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/hex"
	"testing"

	"github.com/lockstep-im/lockstep/xep"
)

// TestTextVectors computes the numbers that people compare as the text has them.
func TestTextVectors(t *testing.T) {
	list, err := xep.Vectors("mls.xml")
	if err != nil {
		t.Fatal(err)
	}
	var fps []string
	var auth []byte
	compared := 0
	for _, v := range list {
		switch v.Name {
		case "fingerprint":
			fps = append(fps, v.Value)
		case "safety number":
			if len(fps) != 3 {
				t.Fatalf("%d fingerprints before the safety number", len(fps))
			}
			if got := safetyNumber("romeo@montague.lit", []string{fps[2], fps[1], fps[2]}, "juliet@capulet.lit", fps[:1]); got != v.Value {
				t.Errorf("the safety number is %s, the text has %s", got, v.Value)
			}
			compared++
		case "epoch_authenticator":
			if auth, err = hex.DecodeString(v.Value); err != nil {
				t.Fatal(err)
			}
		case "number of the epoch":
			if got := epochCode(auth); got != v.Value {
				t.Errorf("the number of the epoch is %s, the text has %s", got, v.Value)
			}
			compared++
		}
	}
	if compared != 2 {
		t.Errorf("%d numbers were compared", compared)
	}
}
