// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the size of an encryption key, in bytes.
const KeySize = chacha20poly1305.KeySize

// checkKey holds a sealed constant by which a wrong key is noticed at once.
const checkKey = "encrypted"

const sealVersion = 1

// Encrypt returns a store that keeps its values in inner encrypted with
// XChaCha20-Poly1305 under key, KeySize bytes that the caller keeps elsewhere
// (a key ring, a hardware token, a passphrase stretched by a slow hash). Each
// value is bound to its name and to the account.
//
// It hides values, not names nor sizes, and it cannot tell a restored older
// value from the newest. It refuses a wrong key, and a store that already
// holds plain values. Closing it closes inner.
func Encrypt(inner Store, key []byte) (Store, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("store: encrypting: the key has %d bytes, it needs %d", len(key), KeySize)
	}
	e := &encrypted{Store: inner, aead: aead}
	v, ok, err := inner.Get(checkKey)
	if err != nil {
		return nil, err
	}
	if ok {
		if _, err := e.open(checkKey, v); err != nil {
			return nil, errors.New("store: encrypting: wrong key for this store")
		}
		return e, nil
	}
	errPlain := errors.New("store: encrypting: the store already holds unencrypted values: begin a new store")
	if err := inner.Scan("", "", func(string, []byte) error { return errPlain }); err != nil {
		return nil, err
	}
	if err := e.Apply(context.Background(), []Op{Put(checkKey, []byte("lockstep"))}); err != nil {
		return nil, err
	}
	return e, nil
}

type encrypted struct {
	Store
	aead cipher.AEAD
}

func (e *encrypted) aad(key string) []byte {
	return []byte("lockstep store\x00" + e.Account() + "\x00" + key)
}

func (e *encrypted) seal(key string, value []byte) []byte {
	out := make([]byte, 1+e.aead.NonceSize(), 1+e.aead.NonceSize()+len(value)+e.aead.Overhead())
	out[0] = sealVersion
	// crypto/rand.Read never fails (Go 1.24 and later).
	rand.Read(out[1:])
	return e.aead.Seal(out, out[1:], value, e.aad(key))
}

func (e *encrypted) open(key string, sealed []byte) ([]byte, error) {
	n := 1 + e.aead.NonceSize()
	if len(sealed) < n || sealed[0] != sealVersion {
		return nil, fmt.Errorf("store: reading %q: not an encrypted value", key)
	}
	v, err := e.aead.Open([]byte{}, sealed[1:n], sealed[n:], e.aad(key))
	if err != nil {
		return nil, fmt.Errorf("store: reading %q: the value is damaged or was moved here", key)
	}
	return v, nil
}

func (e *encrypted) Get(key string) ([]byte, bool, error) {
	v, ok, err := e.Store.Get(key)
	if err != nil || !ok {
		return nil, false, err
	}
	v, err = e.open(key, v)
	return v, err == nil, err
}

func (e *encrypted) Scan(from, to string, fn func(string, []byte) error) error {
	return e.Store.Scan(from, to, func(key string, sealed []byte) error {
		if key == checkKey {
			return nil
		}
		v, err := e.open(key, sealed)
		if err != nil {
			return err
		}
		return fn(key, v)
	})
}

func (e *encrypted) Apply(ctx context.Context, ops []Op) error {
	sealed := make([]Op, len(ops))
	for i, op := range ops {
		if !op.Prefix && op.Value != nil {
			op.Value = e.seal(op.Key, op.Value)
		}
		sealed[i] = op
	}
	return e.Store.Apply(ctx, sealed)
}
