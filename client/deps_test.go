// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestWalls holds the room's walls: what the packages here must not import, and
// why.
func TestWalls(t *testing.T) {
	const module = "github.com/lockstep-im/lockstep/"
	walls := []struct {
		pkg  string
		bad  map[string]string
		deps bool
	}{
		{module + "client", map[string]string{
			module + "component":            "the two sides of the wire never import each other",
			module + "integration/loopback": "a bot does not carry a server",
			"testing":                       "no binary links testing",
			"mellium.im/xmpp/mux":           "it ends the stream on remote input",
			"mellium.im/xmpp/component":     "this is the client",
		}, true},
		{module + "client/store", map[string]string{
			module + "mls":    "the store keeps bytes",
			module + "stanza": "the store keeps bytes",
			"mellium.im/xmpp": "the store keeps bytes",
			"testing":         "no binary links testing",
		}, true},
	}
	for _, w := range walls {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", w.pkg).Output()
		if err != nil {
			t.Fatalf("listing the dependencies of %s: %v", w.pkg, err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			for bad, why := range w.bad {
				if dep == bad || strings.HasPrefix(dep, bad+"/") && bad != "mellium.im/xmpp" {
					t.Errorf("%s imports %s: %s", w.pkg, dep, why)
				}
			}
		}
	}
}
