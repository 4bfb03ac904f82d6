// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
)

// A PSKStore finds pre-shared keys (RFC 9420 §8.4). A group finds its own
// resumption keys by itself; the store is asked for all others.
type PSKStore interface {
	// PSK returns the key, or an error that wraps [ErrMissingPSK].
	PSK(id *PreSharedKeyID) ([]byte, error)
}

// PSKFunc makes a [PSKStore] of a function.
type PSKFunc func(id *PreSharedKeyID) ([]byte, error)

// PSK implements [PSKStore].
func (f PSKFunc) PSK(id *PreSharedKeyID) ([]byte, error) { return f(id) }

// ExternalPSKs is a [PSKStore] that maps the ids of external keys to keys.
type ExternalPSKs map[string][]byte

// PSK implements [PSKStore].
func (m ExternalPSKs) PSK(id *PreSharedKeyID) ([]byte, error) {
	if psk, ok := m[string(id.ID)]; ok && id.Type == PSKExternal {
		return psk, nil
	}
	return nil, ErrMissingPSK
}

// pskSecret looks up the pre-shared keys of a commit and chains them
// (RFC 9420 §8.4). It is nil, which stands for zero, when there are none.
func (g *Group) pskSecret(ids []PreSharedKeyID, store PSKStore) ([]byte, error) {
	return g.cfg.pskSecret(g.s, ids, store, func(id *PreSharedKeyID) []byte {
		if !bytes.Equal(id.GroupID, g.ctx.GroupID) {
			return nil
		}
		return g.findResumption(id.Epoch)
	})
}

// pskSecret chains pre-shared keys. own finds resumption keys of the group at
// hand; others come from store or, when that is nil, from the configuration.
func (c *config) pskSecret(s *suite, ids []PreSharedKeyID, store PSKStore, own func(*PreSharedKeyID) []byte) ([]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if store == nil {
		store = c.psks
	}
	names := make([][]byte, len(ids))
	psks := make([][]byte, len(ids))
	for i := range ids {
		id := &ids[i]
		names[i] = id.appendTo(nil)
		if id.Type == PSKResumption && own != nil {
			psks[i] = own(id)
		}
		if psks[i] != nil {
			continue
		}
		if store == nil {
			return nil, broken(RuleCommitPSK, ErrMissingPSK, "pre-shared key %d", i)
		}
		psk, err := store.PSK(id)
		if err != nil {
			return nil, broken(RuleCommitPSK, missingPSK(err), "pre-shared key %d", i)
		}
		psks[i] = psk
	}
	return s.pskSecret(names, psks)
}

// missingPSK makes sure that an error says that a key is missing.
func missingPSK(err error) error {
	if errors.Is(err, ErrMissingPSK) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrMissingPSK, err)
}
