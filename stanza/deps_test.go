// SPDX-License-Identifier: Apache-2.0

package stanza_test

import (
	"os/exec"
	"strings"
	"testing"
)

// badDeps is what this room must not import, and why.
var badDeps = map[string]string{
	"github.com/lockstep-im/lockstep/mls":       "stanza knows no MLS: MLS objects are opaque bytes",
	"github.com/lockstep-im/lockstep/component": "the wire imports nothing of ours",
	"github.com/lockstep-im/lockstep/client":    "the wire imports nothing of ours",
	"encoding/xml":                              "it reflects, and takes ten times as long",
	"reflect":                                   "",
	"testing":                                   "no binary links testing",
	"mellium.im":                                "its stanza types refuse addresses that must be answered",
	"net":                                       "no I/O but io.Reader",
	"database/sql":                              "no storage",
	"net/http":                                  "no I/O but io.Reader",
	"github.com/":                               "no dependencies",
	"golang.org/x/":                             "no dependencies",
	"encoding/json":                             "it reflects",
	"text/template":                             "it reflects",
	"html/template":                             "it reflects",
	"encoding/gob":                              "it reflects",
	"encoding/asn1":                             "no certificates here",
	"crypto/tls":                                "no I/O but io.Reader",
	"crypto/x509":                               "no certificates here",
	"math/rand":                                 "nothing random here",
	"crypto/rand":                               "nothing random here",
	"crypto/ecdh":                               "no keys here",
	"crypto/ed25519":                            "no keys here",
}

func TestImports(t *testing.T) {
	const self = "github.com/lockstep-im/lockstep/stanza"
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, self+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := strings.Fields(string(out))
	if len(imports) == 0 {
		t.Fatal("no imports found: the test looks at nothing")
	}
	for _, imp := range imports {
		if imp == self || strings.HasPrefix(imp, self+"/") {
			continue
		}
		for bad, why := range badDeps {
			if imp == bad || strings.HasPrefix(imp, bad) && strings.HasSuffix(bad, "/") || strings.HasPrefix(imp, bad+"/") {
				t.Errorf("stanza imports %s: %s", imp, why)
			}
		}
	}
}
