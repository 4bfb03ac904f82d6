// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file makes the service's own proposals: as an external sender it may ask
// a group to remove a leaf (RFC 9420 §12.1.8), and some member commits that.
// The key signs proposals and nothing else; it opens nothing.

// errNoSender says that a group does not list the service as an external
// sender.
var errNoSender = errors.New("component: the service is no external sender of the group")

// senderKeys are the service's own signature keys, by cipher suite. The first
// of a suite is the current one; older ones serve groups that still list them.
type senderKeys struct {
	s    *Service
	mu   sync.Mutex
	keys map[mls.CipherSuite][]*mls.SignaturePrivateKey
}

// storedKey is how a key is kept in the store.
type storedKey struct {
	Suite   uint16
	Private []byte
}

func newSenderKeys(s *Service) *senderKeys {
	return &senderKeys{s: s, keys: make(map[mls.CipherSuite][]*mls.SignaturePrivateKey)}
}

// load reads the keys.
func (k *senderKeys) load(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := k.read(ctx)
	return err
}

// read reads the keys and gives what the store holds.
func (k *senderKeys) read(ctx context.Context) ([]byte, error) {
	var raw []byte
	err := k.s.store.View(ctx, func(r store.Reader) (err error) {
		raw, err = setting(r, "", settingSender)
		return err
	})
	if err != nil || raw == nil {
		return nil, err
	}
	var list []storedKey
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errors.New("component: the stored signing keys are malformed") // without the bytes
	}
	keys := make(map[mls.CipherSuite][]*mls.SignaturePrivateKey)
	for _, e := range list {
		key, err := mls.ParseSignaturePrivateKey(mls.CipherSuite(e.Suite), e.Private)
		if err != nil {
			return nil, fmt.Errorf("component: the stored signing key of suite %d: %w", e.Suite, err)
		}
		keys[mls.CipherSuite(e.Suite)] = append(keys[mls.CipherSuite(e.Suite)], key)
	}
	k.keys = keys
	return raw, nil
}

// current gives the key of a suite, making it if need be.
func (k *senderKeys) current(ctx context.Context, suite mls.CipherSuite) (*mls.SignaturePrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if list := k.keys[suite]; len(list) > 0 {
		return list[0], nil
	}
	return k.add(ctx, suite, false)
}

// rotate makes a new current key for a suite. Groups keep listing the old one
// until an admin commits the change.
func (k *senderKeys) rotate(ctx context.Context, suite mls.CipherSuite) (*mls.SignaturePrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.add(ctx, suite, true)
}

// maxSenderKeys bounds the keys kept per suite.
const maxSenderKeys = 8

func (k *senderKeys) add(ctx context.Context, suite mls.CipherSuite, replace bool) (*mls.SignaturePrivateKey, error) {
	for range commitRetries {
		old, err := k.read(ctx)
		if err != nil {
			return nil, err
		}
		if list := k.keys[suite]; len(list) > 0 && !replace {
			return list[0], nil // another process was faster
		}
		key, err := mls.GenerateSignatureKey(suite, k.s.rand)
		if err != nil {
			return nil, err
		}
		next := make(map[mls.CipherSuite][]*mls.SignaturePrivateKey, len(k.keys)+1)
		for s, list := range k.keys {
			next[s] = list
		}
		list := append([]*mls.SignaturePrivateKey{key}, next[suite]...)
		next[suite] = list[:min(len(list), maxSenderKeys)]
		var out []storedKey
		for s, list := range next {
			for _, key := range list {
				out = append(out, storedKey{uint16(s), key.Bytes()})
			}
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return nil, err
		}
		err = k.s.store.Update(ctx, func(tx store.Tx) error { return tx.SwapSetting("", settingSender, old, raw) })
		var ce *store.ConflictError
		if errors.As(err, &ce) {
			continue
		}
		if err != nil {
			return nil, err
		}
		k.keys = next
		return key, nil
	}
	return nil, errors.New("component: other processes keep changing the signing keys")
}

// sender is the service's entry in a group's external_senders extension.
func (k *senderKeys) sender(key *mls.SignaturePrivateKey) mls.ExternalSender {
	return mls.ExternalSender{SignatureKey: key.Public(), Credential: mls.BasicCredential([]byte(k.s.domain.bare))}
}

// find looks which of our keys a group lists, and where.
func (k *senderKeys) find(ctx context.Context, group *mls.GroupContext) (*mls.SignaturePrivateKey, uint32, bool) {
	senders, err := group.Extensions.ExternalSenders()
	if err != nil || len(senders) == 0 {
		return nil, 0, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key, i, ok := k.among(senders)
	if !ok && k.s.store.Shared() {
		// Another process may have made the key since this one has read them.
		if _, err := k.read(ctx); err != nil {
			k.s.log.Warn("cannot read the signing keys", "error", err)
		}
		key, i, ok = k.among(senders)
	}
	return key, i, ok
}

// among is find in a list, under mu.
func (k *senderKeys) among(senders []mls.ExternalSender) (*mls.SignaturePrivateKey, uint32, bool) {
	for i, s := range senders {
		for _, list := range k.keys { // suites can share a signature scheme
			for _, key := range list {
				if string(key.Public()) == string(s.SignatureKey) {
					return key, uint32(i), true
				}
			}
		}
	}
	return nil, 0, false
}

// proposeRemoval puts an external Remove of a device into the log, unless its
// removal is pending already. The entry is nil then.
func (g *group) proposeRemoval(ctx context.Context, user, device, reason string) (*store.Entry, error) {
	for range commitRetries {
		st, err := g.load(ctx)
		if err != nil {
			return nil, err
		}
		e, err := g.tryRemoval(ctx, st, user, device)
		if g.conflict(err) {
			continue
		}
		if err == nil && e != nil {
			g.s.metrics.removals.WithLabelValues(reason).Inc()
		}
		return e, err
	}
	return nil, &stanza.RetryAfter{After: time.Second}
}

func (g *group) tryRemoval(ctx context.Context, st *groupState, user, device string) (*store.Entry, error) {
	if st.pub == nil {
		return nil, errNoSender // private mode: only members can say it
	}
	var leaf mls.LeafIndex
	found := false
	for _, d := range st.members[user] {
		if d.device == device {
			leaf, found = d.leaf, true
		}
	}
	if !found {
		return nil, nil
	}
	for i := range st.pending {
		if st.pending[i].remove && st.pending[i].target == leaf {
			return nil, nil
		}
	}
	key, index, ok := g.s.keys.find(ctx, st.pub.Context())
	if !ok {
		return nil, errNoSender
	}
	m, err := st.pub.Remove(key, index, leaf)
	if err != nil {
		return nil, fmt.Errorf("component: proposing a removal: %w", err)
	}
	got, err := st.pub.Process(m)
	if err != nil {
		return nil, fmt.Errorf("component: internal error: our own proposal is refused: %w", err)
	}
	staged, ok := got.(*mls.StagedPublicProposal)
	if !ok {
		return nil, errors.New("component: internal error: our own proposal is none")
	}
	return g.addProposal(ctx, st, staged, store.RefOf(m.Bytes()), m.Bytes(), "", "")
}

// removeAgain asks again for removals that a commit has left undone: proposals
// are void when their epoch ends.
func (g *group) removeAgain(ctx context.Context, st *groupState, list []store.Leaver) {
	for _, l := range list {
		if !st.hasDevice(l.User, l.Device) {
			continue
		}
		if _, err := g.proposeRemoval(ctx, l.User, l.Device, "left"); err != nil && !errors.Is(err, errNoSender) {
			g.s.log.Warn("cannot repeat a removal", "group", g.jid, "error", err)
		}
	}
	// The banned are not to stay because a commit raced their removal.
	for user := range st.banned {
		for _, d := range st.members[user] {
			if _, err := g.proposeRemoval(ctx, user, d.device, "outcast"); err != nil && !errors.Is(err, errNoSender) {
				g.s.log.Warn("cannot repeat a removal", "group", g.jid, "error", err)
			}
		}
	}
}
