// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"slices"
	"sort"
	"strings"
	"sync"
)

// Memory is a [Store] in memory, for tests and for throw-away clients.
type Memory struct {
	mu         sync.RWMutex
	account    string
	keys       []string // sorted
	values     map[string][]byte
	rolledBack bool
	closed     bool
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store bound to the bare JID account.
func NewMemory(account string) *Memory {
	return &Memory{account: account, values: make(map[string][]byte)}
}

// Account returns the bare JID that the store is bound to.
func (m *Memory) Account() string { return m.account }

// Get returns the value of key and whether it is there.
func (m *Memory) Get(key string) ([]byte, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, false, ErrClosed
	}
	v, ok := m.values[key]
	return bytes.Clone(v), ok, nil
}

// Scan visits a range of keys in order; see [Store].
func (m *Memory) Scan(from, to string, fn func(string, []byte) error) error {
	m.mu.RLock()
	if m.closed {
		m.mu.RUnlock()
		return ErrClosed
	}
	type row struct {
		key   string
		value []byte
	}
	var rows []row
	for i := sort.SearchStrings(m.keys, from); i < len(m.keys); i++ {
		if to != "" && m.keys[i] >= to {
			break
		}
		rows = append(rows, row{m.keys[i], bytes.Clone(m.values[m.keys[i]])})
	}
	m.mu.RUnlock()
	for _, r := range rows {
		if err := fn(r.key, r.value); err != nil {
			return err
		}
	}
	return nil
}

// Apply makes all changes or none.
func (m *Memory) Apply(ctx context.Context, ops []Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkOps(ops); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	for _, op := range ops {
		switch {
		case op.Prefix:
			i := sort.SearchStrings(m.keys, op.Key)
			j := i
			for j < len(m.keys) && strings.HasPrefix(m.keys[j], op.Key) {
				clear(m.values[m.keys[j]])
				delete(m.values, m.keys[j])
				j++
			}
			m.keys = slices.Delete(m.keys, i, j)
		case op.Value == nil:
			old, ok := m.values[op.Key]
			if !ok {
				continue
			}
			clear(old)
			delete(m.values, op.Key)
			i := sort.SearchStrings(m.keys, op.Key)
			m.keys = slices.Delete(m.keys, i, i+1)
		default:
			old, ok := m.values[op.Key]
			if ok {
				clear(old)
			} else {
				i := sort.SearchStrings(m.keys, op.Key)
				m.keys = slices.Insert(m.keys, i, op.Key)
			}
			m.values[op.Key] = append(make([]byte, 0, len(op.Value)), op.Value...)
		}
	}
	return nil
}

// RolledBack reports whether the store was made by [Memory.Snapshot].
func (m *Memory) RolledBack() bool { return m.rolledBack }

// Snapshot returns an independent copy, open even if m is closed: what a
// restored backup of the file would be. With rolledBack the copy says so.
func (m *Memory) Snapshot(rolledBack bool) *Memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := &Memory{account: m.account, keys: slices.Clone(m.keys), values: make(map[string][]byte, len(m.values)), rolledBack: rolledBack}
	for k, v := range m.values {
		c.values[k] = append(make([]byte, 0, len(v)), v...)
	}
	return c
}

// Close makes every later call fail with [ErrClosed]. The contents stay for
// [Memory.Snapshot].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
