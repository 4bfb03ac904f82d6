// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies keeps the walls of this room.
func TestDependencies(t *testing.T) {
	bad := map[string]string{
		"mellium.im/":               "MLS knows no XMPP",
		"encoding/xml":              "MLS messages are binary",
		"encoding/gob":              "stored state has a format of its own",
		"net":                       "the package does no I/O",
		"os/exec":                   "the package runs nothing",
		"testing":                   "no binary links testing",
		"github.com/lockstep-im/":   "mls imports nothing of ours",
		"github.com/stretchr/":      "no second test library",
		"golang.org/x/net":          "the package does no I/O",
		"modernc.org/":              "the package stores nothing",
		"github.com/prometheus/":    "the package measures nothing",
		"google.golang.org/":        "interop has a module of its own",
		"github.com/jackc/":         "the package stores nothing",
		"github.com/charmbracelet/": "the package shows nothing",
	}
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skipf("NO go COMMAND TO LIST DEPENDENCIES WITH: %v", err)
	}
	deps := bytes.Fields(out)
	if len(deps) < 10 {
		t.Fatalf("go list names %d packages", len(deps))
	}
	const own = "github.com/lockstep-im/lockstep/mls"
	for _, d := range deps {
		for prefix, why := range bad {
			dep := string(d)
			if dep != own && (dep == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(dep, prefix)) {
				t.Errorf("mls depends on %s: %s", dep, why)
			}
		}
	}
}
