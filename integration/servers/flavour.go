// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"fmt"
	"strings"
)

// A Flavour is a server and its generation.
type Flavour string

// The four servers that lockstep is tested with.
const (
	Prosody12  Flavour = "prosody-0.12"   // Debian 12
	Prosody13  Flavour = "prosody-13"     // Debian 12 backports, Debian 13
	Ejabberd23 Flavour = "ejabberd-23.01" // Debian 12
	Ejabberd24 Flavour = "ejabberd-24.12" // Debian 12 backports, Debian 13
)

// All returns the four flavours, Prosody first.
func All() []Flavour { return []Flavour{Prosody12, Prosody13, Ejabberd23, Ejabberd24} }

// ParseFlavour accepts a flavour's own name, and "prosody" and "ejabberd" for
// the newer generation of each.
func ParseFlavour(s string) (Flavour, error) {
	switch s {
	case "prosody":
		return Prosody13, nil
	case "ejabberd":
		return Ejabberd24, nil
	}
	var names []string
	for _, f := range All() {
		if s == string(f) {
			return f, nil
		}
		names = append(names, string(f))
	}
	return "", fmt.Errorf("servers: unknown server %q: one of %s", s, strings.Join(names, ", "))
}

// Prosody reports whether the flavour is a Prosody; else it is an ejabberd.
func (f Flavour) Prosody() bool { return strings.HasPrefix(string(f), "prosody-") }

// Generation is the part after the server's name: "0.12", "24.12".
func (f Flavour) Generation() string {
	_, g, _ := strings.Cut(string(f), "-")
	return g
}

func (f Flavour) kind() string {
	k, _, _ := strings.Cut(string(f), "-")
	return k
}

// image is the tag that docker/build.sh gives.
func (f Flavour) image() string { return "lockstep/" + f.kind() + ":" + f.Generation() }

// sharedDomain is the virtual host of the process's shared server: each flavour
// has its own, so that all four can federate.
func (f Flavour) sharedDomain() string {
	switch f {
	case Prosody12:
		return "capulet.example"
	case Prosody13:
		return "escalus.example"
	case Ejabberd23:
		return "montague.example"
	}
	return "paris.example"
}
