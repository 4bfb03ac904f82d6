// SPDX-License-Identifier: Apache-2.0

// Pre-shared key identifiers (RFC 9420 §8.4).

package mls

import (
	"bytes"
	"fmt"
	"io"
)

// A PSKType says where a pre-shared key comes from (RFC 9420 §8.4).
type PSKType uint8

// The types of pre-shared keys. Application keys are those of
// draft-ietf-mls-extensions.
const (
	PSKExternal    PSKType = 1
	PSKResumption  PSKType = 2
	PSKApplication PSKType = 3
)

// A ResumptionUsage says what a resumption PSK is used for (RFC 9420 §8.4).
type ResumptionUsage uint8

// The usages of a resumption PSK.
const (
	ResumptionApplication ResumptionUsage = 1
	ResumptionReInit      ResumptionUsage = 2
	ResumptionBranch      ResumptionUsage = 3
)

// A PreSharedKeyID names one use of a pre-shared key (RFC 9420 §8.4).
type PreSharedKeyID struct {
	Type PSKType
	// ID names an external or an application key.
	ID []byte
	// Component owns an application key.
	Component ComponentID
	// Usage, GroupID and Epoch name a resumption key.
	Usage   ResumptionUsage
	GroupID GroupID
	Epoch   uint64
	// Nonce makes this use unique; KDF.Nh octets. In what is sent, nil means that it
	// is drawn.
	Nonce []byte
}

func readPreSharedKeyID(r *reader) PreSharedKeyID {
	id := PreSharedKeyID{Type: PSKType(r.u8())}
	switch id.Type {
	case PSKExternal:
		id.ID = r.opaque()
	case PSKResumption:
		id.Usage = ResumptionUsage(r.u8())
		if id.Usage < ResumptionApplication || id.Usage > ResumptionBranch {
			r.fail(fmt.Errorf("mls: resumption PSK usage %d is unknown", id.Usage))
		}
		id.GroupID = r.opaque()
		id.Epoch = r.u64()
	case PSKApplication:
		id.Component = ComponentID(r.u16())
		id.ID = r.opaque()
	default:
		r.fail(fmt.Errorf("mls: psktype %d is unknown", id.Type))
	}
	id.Nonce = r.opaque()
	return id
}

func (id *PreSharedKeyID) appendTo(b []byte) []byte {
	return appendOpaque(id.appendKey(b), id.Nonce)
}

// appendKey writes what names the key itself, without the nonce of this use.
func (id *PreSharedKeyID) appendKey(b []byte) []byte {
	b = appendU8(b, uint8(id.Type))
	switch id.Type {
	case PSKExternal:
		b = appendOpaque(b, id.ID)
	case PSKResumption:
		b = appendU8(b, uint8(id.Usage))
		b = appendU64(appendOpaque(b, id.GroupID), id.Epoch)
	case PSKApplication:
		b = appendOpaque(appendU16(b, uint16(id.Component)), id.ID)
	}
	return b
}

// withNonce returns a PreSharedKey that has no nonce with a fresh one, and every
// other proposal as it is (RFC 9420 §8.4).
func (s *suite) withNonce(rand io.Reader, p Proposal) (Proposal, error) {
	psk, ok := p.(*PreSharedKey)
	if !ok || psk.ID.Nonce != nil {
		return p, nil
	}
	id := psk.ID
	id.Nonce = make([]byte, s.nh)
	if err := readRandom(rand, id.Nonce); err != nil {
		return nil, err
	}
	return &PreSharedKey{id}, nil
}

// Equal reports whether both name the same use of the same key.
func (id *PreSharedKeyID) Equal(other *PreSharedKeyID) bool {
	return bytes.Equal(id.appendTo(nil), other.appendTo(nil))
}
