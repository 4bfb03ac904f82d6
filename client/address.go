// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"strings"

	"mellium.im/xmpp/jid"
)

// bareJID parses and normalises an address and takes its resource away.
func bareJID(s string) (string, error) {
	j, err := jid.Parse(s)
	if err != nil {
		return "", fmt.Errorf("client: the address %q is not a JID: %w", s, err)
	}
	return j.Bare().String(), nil
}

// normalOr gives the normalised bare JID, or s as it is.
func normalOr(s string) string {
	if n, err := bareJID(s); err == nil {
		return n
	}
	return s
}

// bareOf cuts the resource off an address that is known to be normal, without
// parsing it.
func bareOf(s string) string {
	bare, _, _ := strings.Cut(s, "/")
	return bare
}

// domainOf is the domain of a normal address.
func domainOf(s string) string {
	s = bareOf(s)
	if i := strings.IndexByte(s, '@'); i >= 0 {
		return s[i+1:]
	}
	return s
}
