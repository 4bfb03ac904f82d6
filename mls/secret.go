// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"crypto/rand"
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
