// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"encoding/binary"
	"fmt"
	"math"
)

// pskSecret chains pre-shared keys into the psk_secret of the key schedule
// (RFC 9420 §8.4). ids[i] is the encoded PreSharedKeyID of psks[i]; the order
// counts. Without keys the result is the all-zero string.
//
//	psk_extracted_[i] = KDF.Extract(0, psk_[i])
//	psk_input_[i] = ExpandWithLabel(psk_extracted_[i], "derived psk", PSKLabel, KDF.Nh)
//	psk_secret_[0] = 0
//	psk_secret_[i] = KDF.Extract(psk_input_[i-1], psk_secret_[i-1])
func (s *suite) pskSecret(ids, psks [][]byte) ([]byte, error) {
	if len(ids) != len(psks) {
		return nil, fmt.Errorf("mls: internal error: %d PSK ids for %d PSKs", len(ids), len(psks))
	}
	if len(psks) > math.MaxUint16 {
		return nil, fmt.Errorf("mls: %d PSKs, but their count must fit in 16 bits", len(psks))
	}
	secret := make([]byte, maxHash)
	var extracted, input hashBuf
	for i, psk := range psks {
		// struct { PreSharedKeyID id; uint16 index; uint16 count; } PSKLabel
		label := make([]byte, 0, len(ids[i])+4)
		label = append(label, ids[i]...)
		label = binary.BigEndian.AppendUint16(label, uint16(i))
		label = binary.BigEndian.AppendUint16(label, uint16(len(psks)))

		s.kdf.hmac(&extracted, zeroHash[:s.nh], psk)
		s.expandInto(input[:s.nh], extracted[:s.nh], "derived psk", label)
		s.kdf.hmac((*hashBuf)(secret), input[:s.nh], secret[:s.nh])
	}
	wipe(extracted[:])
	wipe(input[:])
	return secret[:s.nh:s.nh], nil
}
