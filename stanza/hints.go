// SPDX-License-Identifier: Apache-2.0

package stanza

// Hint is a message processing hint (XEP-0334), by its XML name:
//
//	<no-store xmlns='urn:xmpp:hints'/>
type Hint string

// Hints. Live traffic has no-store, the notices that offline accounts need
// have store (xep/mls-delivery.xml#types).
const (
	HintStore            Hint = "store"
	HintNoStore          Hint = "no-store"
	HintNoPermanentStore Hint = "no-permanent-store"
	HintNoCopy           Hint = "no-copy"
)

// Append appends the element.
func (h *Hint) Append(dst []byte) []byte { return appendEmpty(dst, NSHints, string(*h)) }

// Parse reads the element.
func (h *Hint) Parse(el Element) error {
	for _, known := range [...]Hint{HintStore, HintNoStore, HintNoPermanentStore, HintNoCopy} {
		if string(el.Local()) == string(known) {
			*h = known
			return parseEmpty(el, NSHints, string(known))
		}
	}
	return expect(el, NSHints, "store").err
}
