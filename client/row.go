// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockstep-im/lockstep/stanza"
)

// This file is the form of rows that hold much more than what describes it, and of
// which there is one for each message: JSON would make the bytes a third longer, and
// take longer than their decryption.
//
//	0x01  length of the header  header, JSON  { length  bytes }
//
// Lengths are unsigned varints. Rows of earlier versions are JSON altogether.

// blobRow is the first byte of such a row.
const blobRow = 1

// appendBlobRow appends a row of a header and blobs.
func appendBlobRow(dst []byte, header any, blobs ...[]byte) []byte {
	h, err := json.Marshal(header)
	if err != nil {
		panic("client: internal error: encoding a row: " + err.Error())
	}
	dst = append(dst, blobRow)
	for _, part := range append([][]byte{h}, blobs...) {
		dst = append(binary.AppendUvarint(dst, uint64(len(part))), part...)
	}
	return dst
}

// readBlobRow reads a row into header, and as many blobs as are asked for, which are
// parts of row. Of a row that is JSON altogether, header is all.
func readBlobRow(row []byte, header any, blobs ...*[]byte) error {
	if len(row) == 0 || row[0] != blobRow {
		return json.Unmarshal(row, header)
	}
	rest := row[1:]
	next := func() ([]byte, error) {
		n, k := binary.Uvarint(rest)
		if k <= 0 || n > uint64(len(rest)-k) {
			return nil, errors.New("client: the row is cut off")
		}
		part := rest[k : k+int(n) : k+int(n)]
		rest = rest[k+int(n):]
		return part, nil
	}
	h, err := next()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(h, header); err != nil {
		return err
	}
	for _, b := range blobs {
		if *b, err = next(); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return fmt.Errorf("client: the row has %d bytes too many", len(rest))
	}
	return nil
}

// chainRing is stored as one string: the seq in 8 bytes and the chain in 32, of each
// entry. It is written with every batch, and was a list in earlier versions.
type chainRing []ringEntry

const ringEntrySize = 8 + len(stanza.Hash{})

func (r chainRing) MarshalText() ([]byte, error) {
	b := make([]byte, 0, len(r)*ringEntrySize)
	for _, e := range r {
		b = append(binary.BigEndian.AppendUint64(b, e.Seq), e.Chain...)
	}
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

func (r *chainRing) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		return json.Unmarshal(raw, (*[]ringEntry)(r))
	}
	var b []byte
	if err := json.Unmarshal(raw, &b); err != nil {
		return err
	}
	if len(b)%ringEntrySize != 0 {
		return fmt.Errorf("client: the chain of the last entries has %d bytes", len(b))
	}
	*r = nil
	for ; len(b) > 0; b = b[ringEntrySize:] {
		*r = append(*r, ringEntry{binary.BigEndian.Uint64(b), b[8:ringEntrySize:ringEntrySize]})
	}
	return nil
}
