// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// This file holds SHA-2, HMAC (RFC 2104) and HKDF (RFC 5869) over buffers on
// the stack: the key schedule and the secret tree call them many times with
// short inputs, where crypto/hmac would allocate six times per call.

// hashAlg is a hash function and the HKDF over it.
type hashAlg uint8

const (
	hashSHA256 hashAlg = iota
	hashSHA384
	hashSHA512
)

const (
	maxHash  = sha512.Size      // bytes of the longest hash
	maxBlock = sha512.BlockSize // bytes of the longest HMAC block
	// shortMessage is up to how many bytes of message are copied to the stack
	// and hashed in one call; longer ones are streamed.
	shortMessage = 320
)

// hashBuf has room for any hash; the hash is its first size() bytes.
type hashBuf [maxHash]byte

// zeroHash is the RFC's 0: an all-zero string of KDF.Nh bytes.
var zeroHash hashBuf

// size is Nh in bytes.
func (a hashAlg) size() int {
	switch a {
	case hashSHA256:
		return sha256.Size
	case hashSHA384:
		return sha512.Size384
	default:
		return sha512.Size
	}
}

func (a hashAlg) blockSize() int {
	if a == hashSHA256 {
		return sha256.BlockSize
	}
	return sha512.BlockSize
}

// hpkeID is the KDF identifier of HKDF over this hash (RFC 9180 §7.2).
func (a hashAlg) hpkeID() uint16 { return uint16(a) + 1 }

func (a hashAlg) new() hash.Hash {
	switch a {
	case hashSHA256:
		return sha256.New()
	case hashSHA384:
		return sha512.New384()
	default:
		return sha512.New()
	}
}

// sum hashes data in one go.
func (a hashAlg) sum(out *hashBuf, data []byte) {
	switch a {
	case hashSHA256:
		d := sha256.Sum256(data)
		copy(out[:], d[:])
	case hashSHA384:
		d := sha512.Sum384(data)
		copy(out[:], d[:])
	default:
		d := sha512.Sum512(data)
		copy(out[:], d[:])
	}
}

// stream hashes prefix and parts without joining them. Each case calls its own
// concrete type, so that the compiler sees that nothing escapes to the heap.
func (a hashAlg) stream(out *hashBuf, prefix []byte, parts [][]byte) {
	switch a {
	case hashSHA256:
		h := sha256.New()
		h.Write(prefix)
		for _, p := range parts {
			h.Write(p)
		}
		h.Sum(out[:0])
	case hashSHA384:
		h := sha512.New384()
		h.Write(prefix)
		for _, p := range parts {
			h.Write(p)
		}
		h.Sum(out[:0])
	default:
		h := sha512.New()
		h.Write(prefix)
		for _, p := range parts {
			h.Write(p)
		}
		h.Sum(out[:0])
	}
}

// digest hashes the concatenation of parts.
func (a hashAlg) digest(out *hashBuf, parts ...[]byte) {
	if len(parts) == 1 {
		a.sum(out, parts[0])
		return
	}
	if totalLen(parts) > shortMessage {
		a.stream(out, nil, parts)
		return
	}
	var buf [shortMessage]byte
	msg := buf[:0]
	for _, p := range parts {
		msg = append(msg, p...)
	}
	a.sum(out, msg)
}

// hmac computes HMAC over the concatenation of parts.
func (a hashAlg) hmac(out *hashBuf, key []byte, parts ...[]byte) {
	var buf [maxBlock + shortMessage]byte
	block := a.blockSize()
	if len(key) > block {
		var k hashBuf
		a.sum(&k, key)
		copy(buf[:block], k[:a.size()])
		wipe(k[:])
	} else {
		copy(buf[:block], key)
	}
	for i := range buf[:block] {
		buf[i] ^= 0x36
	}
	if totalLen(parts) > shortMessage {
		a.stream(out, buf[:block], parts)
	} else {
		msg := buf[:block]
		for _, p := range parts {
			msg = append(msg, p...)
		}
		a.sum(out, msg)
	}
	for i := range buf[:block] {
		buf[i] ^= 0x36 ^ 0x5c
	}
	n := copy(buf[block:], out[:a.size()])
	a.sum(out, buf[:block+n])
	wipe(buf[:])
}

// expand is HKDF-Expand: out is filled, its length at most 255 * size(). The
// info is the concatenation of three parts. (A list of them would have to be
// copied, and would then escape to the heap.)
func (a hashAlg) expand(out, prk, info0, info1, info2 []byte) {
	var t hashBuf
	var prev []byte
	var counter [1]byte
	for len(out) > 0 {
		counter[0]++
		a.hmac(&t, prk, prev, info0, info1, info2, counter[:])
		prev = t[:a.size()]
		out = out[copy(out, prev):]
	}
	wipe(t[:])
}

func totalLen(parts [][]byte) int {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	return n
}
