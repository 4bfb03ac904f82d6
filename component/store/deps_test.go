// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/lockstep-im/lockstep/"

// TestDeps holds the walls of this room: the store keeps bytes and knows neither
// what they mean nor how they came.
func TestDeps(t *testing.T) {
	for _, pkg := range []string{"component/store", "component/store/internal/relational", "component/store/sqlite", "component/store/postgres"} {
		out, err := exec.Command("go", "list", "-deps", module+pkg).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		deps := strings.Fields(string(out))
		if len(deps) < 10 {
			t.Fatalf("go list found only %v", deps)
		}
		for _, dep := range deps {
			for bad, why := range map[string]string{
				module + "mls":              "MLS objects are opaque to the store",
				module + "stanza":           "XML is opaque to the store",
				module + "client":           "the two sides never meet",
				"mellium.im/xmpp":           "JIDs are strings here, normalised by the caller",
				"encoding/xml":              "XML is opaque to the store",
				"testing":                   "no binary links testing",
				"github.com/google/go-cmp/": "for tests only",
			} {
				if bad == "encoding/xml" && pkg == "component/store/postgres" {
					continue // pgx has it for PostgreSQL's xml type
				}
				if dep == bad || strings.HasPrefix(dep, bad+"/") {
					t.Errorf("%s depends on %s: %s", pkg, dep, why)
				}
			}
		}
	}
}
