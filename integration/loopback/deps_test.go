// SPDX-License-Identifier: Apache-2.0

package loopback_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps the test double a stage that a demo binary may carry.
func TestDeps(t *testing.T) {
	bad := map[string]string{
		"testing":                                   "lockstep demo links this package; no binary links testing",
		"github.com/lockstep-im/lockstep/client":    "a server knows neither side",
		"github.com/lockstep-im/lockstep/component": "a server knows neither side",
		"github.com/lockstep-im/lockstep/mls":       "a server carries bytes that it cannot read",
		"mellium.im/xmpp":                           "a double that shares the client's library shares its bugs",
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(string(out))
	if len(list) < 10 {
		t.Fatalf("only %d dependencies listed", len(list))
	}
	for _, d := range list {
		if why, ok := bad[d]; ok {
			t.Errorf("loopback depends on %s: %s", d, why)
		}
	}
}
