// SPDX-License-Identifier: Apache-2.0

package mls

// HPKECiphertext is an HPKE encryption to one recipient (RFC 9420 §5.1.3, §7.6).
type HPKECiphertext struct {
	KEMOutput  []byte
	Ciphertext []byte
}
