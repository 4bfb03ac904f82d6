// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256 value, base64 in XML. The zero Hash means none.
type Hash [sha256.Size]byte

// Ref identifies a submission: the SHA-256 of the exact bytes of its
// MLSMessage, the idempotency key of xep/mls-delivery.xml#idempotency. It is not an MLS
// reference hash (RFC 9420 §5.2), which the protocol calls kp-ref or holds in
// a ProposalRef.
type Ref = Hash

// MessageRef returns the [Ref] of an MLSMessage.
func MessageRef(message []byte) Ref { return sha256.Sum256(message) }

// IsZero reports whether h is the zero hash.
func (h *Hash) IsZero() bool { return *h == Hash{} }

// String returns h in base64.
func (h Hash) String() string { return base64.StdEncoding.EncodeToString(h[:]) }

// ParseHash reads a SHA-256 value in base64.
func ParseHash(s string) (Hash, error) {
	d := dec{}
	h := d.parseHash("hash", []byte(s))
	if d.err != nil {
		return Hash{}, fmt.Errorf("stanza: parsing hash %.64q: not 32 bytes in base64", s)
	}
	return h, nil
}

// DeviceID identifies one MLS client of a user: 16 random bytes, the leaf's
// application_id (RFC 9420 §5.3.3), 32 lower-case hexadecimal digits in XML.
// It is independent of the XMPP resource. The zero DeviceID means none.
type DeviceID [16]byte

// IsZero reports whether id is the zero id.
func (id *DeviceID) IsZero() bool { return *id == DeviceID{} }

// String returns id as 32 hexadecimal digits.
func (id DeviceID) String() string { return hex.EncodeToString(id[:]) }

// ParseDeviceID reads 32 lower-case hexadecimal digits.
func ParseDeviceID(s string) (DeviceID, error) {
	var id DeviceID
	if !id.parse([]byte(s)) {
		return DeviceID{}, fmt.Errorf("stanza: parsing device id %.64q: want 32 lower-case hexadecimal digits, not all zero", s)
	}
	return id, nil
}

func (id *DeviceID) parse(v []byte) bool {
	if len(v) != 2*len(id) {
		return false
	}
	for i := range id {
		h, l := unhex(v[2*i]), unhex(v[2*i+1])
		if h > 15 || l > 15 {
			return false
		}
		id[i] = h<<4 | l
	}
	return !id.IsZero()
}
