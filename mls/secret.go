// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// wipe overwrites a secret that is done with. It is kept out of line so that
// the compiler cannot drop the stores to a buffer that is about to die. Go may
// have copied the bytes elsewhere (stack growth, registers): wiping shortens
// the life of a secret, it does not prove its end.
//
//go:noinline
func wipe(b []byte) {
	clear(b)
}

// redactedText is what every secret prints as.
const redactedText = "[redacted]"

// redacted is embedded by types that hold secrets: whatever the verb or the
// logger, they print as [redacted].
type redacted struct{}

// String implements fmt.Stringer without showing anything of the secret.
func (redacted) String() string { return redactedText }

// GoString implements fmt.GoStringer without showing anything of the secret.
func (redacted) GoString() string { return redactedText }

// Format implements fmt.Formatter without showing anything of the secret,
// whichever the verb.
func (redacted) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedText) }

// LogValue implements slog.LogValuer without showing anything of the secret.
func (redacted) LogValue() slog.Value { return slog.StringValue(redactedText) }

// MarshalJSON keeps secrets out of JSON: embedded or not, they become a fixed
// string.
func (redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedText + `"`), nil }

// The types below hold secrets and are used as values, so that they cannot embed
// redacted.

// String names the group. The configuration, which may hold pre-shared keys, does
// not show.
func (g PublicGroup) String() string {
	if g.ctx == nil {
		return "mls.PublicGroup(none)"
	}
	return fmt.Sprintf("mls.PublicGroup(%x, epoch %d, %d members)", []byte(g.ctx.GroupID), g.ctx.Epoch, g.MemberCount())
}

// Format implements fmt.Formatter by String, whichever the verb.
func (g PublicGroup) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, g.String()) }

// LogValue implements slog.LogValuer by String.
func (g PublicGroup) LogValue() slog.Value { return slog.StringValue(g.String()) }

// MarshalJSON keeps the group out of JSON: it is stored by [PublicGroup.State].
func (g PublicGroup) MarshalJSON() ([]byte, error) { return json.Marshal(g.String()) }

// String names the row without its value.
func (r Row) String() string {
	return fmt.Sprintf("mls.Row(%s, %d octets %s)", r.Key, len(r.Value), redactedText)
}

// Format implements fmt.Formatter without the row's value, whichever the verb.
func (r Row) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue implements slog.LogValuer without the row's value.
func (r Row) LogValue() slog.Value { return slog.StringValue(r.String()) }

// String tells how many keys there are, and nothing of them.
func (m ExternalPSKs) String() string { return fmt.Sprintf("%d keys %s", len(m), redactedText) }

// Format implements fmt.Formatter without the keys, whichever the verb.
func (m ExternalPSKs) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.String()) }

// LogValue implements slog.LogValuer without the keys.
func (m ExternalPSKs) LogValue() slog.Value { return slog.StringValue(m.String()) }

// MarshalJSON keeps the keys out of JSON.
func (m ExternalPSKs) MarshalJSON() ([]byte, error) { return json.Marshal(m.String()) }

// readRandom fills b from r, or from the system's generator if r is nil.
func readRandom(r io.Reader, b []byte) error {
	if r == nil {
		_, _ = rand.Read(b) // never fails (crypto/rand ends the program instead)
		return nil
	}
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("mls: reading randomness: %w", err)
	}
	return nil
}
