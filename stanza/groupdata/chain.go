// SPDX-License-Identifier: Apache-2.0

package groupdata

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind is the kind of a log entry. The first three are the ContentTypes of RFC
// 9420 §6.
type Kind uint8

const (
	Application Kind = 1
	Proposal    Kind = 2
	Commit      Kind = 3
	Control     Kind = 4 // made by the delivery service: bans, configuration
)

// String gives the word that is used on the wire.
func (k Kind) String() string {
	switch k {
	case Application:
		return "application"
	case Proposal:
		return "proposal"
	case Commit:
		return "commit"
	case Control:
		return "control"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// ParseKind is the reverse of [Kind.String].
func ParseKind(s string) (Kind, error) {
	switch s {
	case "application":
		return Application, nil
	case "proposal":
		return Proposal, nil
	case "commit":
		return Commit, nil
	case "control":
		return Control, nil
	}
	return 0, fmt.Errorf("groupdata: unknown kind of log entry %q", s)
}

// ChainSize is the size of a [Chain] in bytes.
const ChainSize = sha256.Size

// Chain is the hash over a group's log up to and including one entry. Two
// members that hold the same chain for the same seq have seen the same history.
type Chain [ChainSize]byte

// Genesis is the chain before the first entry, chain_0: it depends on the
// group_id that the group was created with.
func Genesis(groupID []byte) Chain { return sha256.Sum256(groupID) }

// Next is the chain after one more entry:
//
//	chain_n = SHA-256(chain_(n-1) || seq || kind || epoch || SHA-256(bytes))
//
// with seq and epoch as 8 bytes and kind as 1 byte, big-endian. seq starts at 1
// and epoch is the epoch that the entry was sent in.
func (c Chain) Next(seq uint64, kind Kind, epoch uint64, entry []byte) Chain {
	return c.NextHashed(seq, kind, epoch, sha256.Sum256(entry))
}

// NextHashed is Next for an entry whose SHA-256 is known already (it is the
// entry's ref).
func (c Chain) NextHashed(seq uint64, kind Kind, epoch uint64, ref [sha256.Size]byte) Chain {
	var b [ChainSize + 8 + 1 + 8 + sha256.Size]byte
	copy(b[:], c[:])
	binary.BigEndian.PutUint64(b[32:], seq)
	b[40] = byte(kind)
	binary.BigEndian.PutUint64(b[41:], epoch)
	copy(b[49:], ref[:])
	return sha256.Sum256(b[:])
}

// String is the form used on the wire: base64, padded.
func (c Chain) String() string { return base64.StdEncoding.EncodeToString(c[:]) }

// ParseChain is the reverse of [Chain.String].
func ParseChain(s string) (Chain, error) {
	var c Chain
	if len(s) != base64.StdEncoding.EncodedLen(ChainSize) { // the decoder skips line breaks
		return c, fmt.Errorf("groupdata: parsing chain: %d characters, want %d", len(s), base64.StdEncoding.EncodedLen(ChainSize))
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return c, fmt.Errorf("groupdata: parsing chain: %w", err)
	}
	return ChainFromBytes(b)
}

// ChainFromBytes checks the length of b and copies it.
func ChainFromBytes(b []byte) (Chain, error) {
	var c Chain
	if len(b) != ChainSize {
		return c, fmt.Errorf("groupdata: chain of %d bytes, want %d", len(b), ChainSize)
	}
	copy(c[:], b)
	return c, nil
}

// Position is what a sender has verified of the log: the chain after entry Seq.
// It travels in the authenticated_data of each application message and commit,
// so that ordinary traffic exposes a delivery service that shows two histories.
type Position struct {
	Seq   uint64
	Chain Chain
}

// positionSize is the size of a position's item: seq and chain.
const positionSize = 8 + ChainSize

// AAD gives the authenticated_data for a message: a SafeAAD (RFC draft
// mls-extensions, Safe Additional Authenticated Data) whose only item is this
// position, under [ComponentPosition].
func (p Position) AAD() []byte {
	b := make([]byte, 0, 1+2+1+positionSize)
	b = append(b, 2+1+positionSize)
	b = binary.BigEndian.AppendUint16(b, ComponentPosition)
	b = append(b, positionSize)
	b = binary.BigEndian.AppendUint64(b, p.Seq)
	return append(b, p.Chain[:]...)
}

// ParseAAD reads authenticated_data. ok is false when it is empty or a SafeAAD
// without a position; items of other components are skipped.
func ParseAAD(b []byte) (p Position, ok bool, err error) {
	if len(b) == 0 {
		return p, false, nil
	}
	r := reader{b: b}
	items := reader{b: r.vector()}
	if err := r.end(); err != nil {
		return p, false, fmt.Errorf("groupdata: parsing authenticated data: %w", err)
	}
	last := -1
	for len(items.b) > 0 {
		id, data := int(items.uint16()), items.vector()
		if items.err != nil {
			return p, false, fmt.Errorf("groupdata: parsing authenticated data: %w", items.err)
		}
		if id <= last {
			return p, false, errors.New("groupdata: parsing authenticated data: items are not in order of their component")
		}
		last = id
		if id != ComponentPosition {
			continue
		}
		if len(data) != positionSize {
			return p, false, fmt.Errorf("groupdata: parsing authenticated data: position of %d bytes, want %d", len(data), positionSize)
		}
		p.Seq, ok = binary.BigEndian.Uint64(data), true
		copy(p.Chain[:], data[8:])
	}
	return p, ok, nil
}
