// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// FirstChain returns chain_0 of a log: the SHA-256 of the group_id of the group
// that the JID was created with (PROTOCOL.md §0).
func FirstChain(groupID []byte) Hash { return sha256.Sum256(groupID) }

// NextChain returns the chain value after an entry (PROTOCOL.md §0):
//
//	chain_n = SHA-256(chain_{n-1} || seq_n || kind_n || epoch_n || SHA-256(bytes_n))
//
// with seq and epoch as 8 bytes and kind as one, big-endian. bytes_n is what
// the entry holds: the MLSMessage, or the bytes of a [Control]. content is its
// SHA-256, for an MLSMessage the [MessageRef]. epoch is the one in the entry's
// [Delivery] and [Entry].
func NextChain(prev Hash, seq uint64, kind EntryKind, epoch uint64, content Hash) Hash {
	var b [len(prev) + 8 + 1 + 8 + len(content)]byte
	copy(b[:], prev[:])
	binary.BigEndian.PutUint64(b[32:], seq)
	b[40] = byte(kind)
	binary.BigEndian.PutUint64(b[41:], epoch)
	copy(b[49:], content[:])
	return sha256.Sum256(b[:])
}

// ChainPoint is what a sender has verified of the log: the seq and chain of an
// entry. It is the content of authenticated_data in application messages and
// commits (PROTOCOL.md §0), so that members notice when a DS shows two
// histories.
type ChainPoint struct {
	Seq   uint64
	Chain Hash
}

// ChainPointSize is the length of an encoded [ChainPoint].
const ChainPointSize = 8 + sha256.Size

// AppendBinary appends the 40 bytes of p: seq as 8 bytes big-endian, then chain.
// The error is always nil.
func (p ChainPoint) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(dst, p.Seq)
	return append(dst, p.Chain[:]...), nil
}

// ParseChainPoint reads what [ChainPoint.AppendBinary] wrote. More bytes behind
// it are ignored, for extensions.
func ParseChainPoint(b []byte) (ChainPoint, error) {
	var p ChainPoint
	if len(b) < ChainPointSize {
		return p, fmt.Errorf("stanza: parsing chain point: %d bytes instead of %d", len(b), ChainPointSize)
	}
	p.Seq = binary.BigEndian.Uint64(b)
	copy(p.Chain[:], b[8:])
	return p, nil
}
