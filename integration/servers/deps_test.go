// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps the walls of this room.
func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for bad, why := range map[string]string{
		"testing":       "commands use this package, and no binary links testing",
		"mellium.im/":   "a server is started without knowing XMPP; its users choose their library",
		"lockstep/mls":  "servers know nothing of MLS",
		"lockstep/comp": "servers know nothing of the delivery service",
		"lockstep/cli":  "servers know nothing of the client",
	} {
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			if dep == bad || len(bad) > len("testing") && strings.Contains(dep, bad) {
				t.Errorf("imports %s: %s", dep, why)
			}
		}
	}
}
