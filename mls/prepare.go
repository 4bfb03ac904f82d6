// SPDX-License-Identifier: Apache-2.0

package mls

import "sync"

// This file opens many messages on all cores. Most of what a message costs is the
// verification of its signature (RFC 9420 §6.1), which depends on no other message
// of the epoch; what does depend on others, the ratchets, is cheap. So a prepared
// message is one whose decryption and verification are known beforehand, and
// Process still takes every step that looks at the group, in its own order.

// A preparedMessage is what the keys of an epoch make of a PrivateMessage, whenever
// its key can be had: the same at any time, for it depends on the message, the
// epoch's secrets and the tree only.
type preparedMessage struct {
	redacted
	from    senderData
	content *authenticatedContent
	verdict error // of verifySender
}

// Prepare does, on all cores, the costly part of what [Group.Process] will do with
// application messages of the epoch: it decrypts them and verifies their
// signatures. It is called with what has gathered, such as a page of a log, before
// each of it is processed:
//
//	g.Prepare(messages)
//	for _, m := range messages {
//		received, err := g.Process(m)
//		...
//	}
//
// Prepare changes nothing and gives nothing away. What Process returns, in which
// order messages are processed, which keys they use up, and what [Group.Delta] has to
// store is the same with and without it. Whatever is not an application message of
// the current epoch of the group, cannot be opened, or is from this client, is left to
// Process, and it is no fault to prepare a message that is never processed.
//
// What was prepared is kept, at about twice the size of the messages, until it is
// processed, until the group enters its next epoch, or until Prepare is called
// again: prepare no more than what is about to be processed, some dozens of
// messages. No goroutine outlives the call. On one core, or for fewer than four
// messages, Prepare does nothing.
func (g *Group) Prepare(messages []*Message) {
	g.keys.prepared = nil
	if workersFor(len(messages)) < 2 || g.keys.messages.root == nil || g.frozen() != nil {
		return
	}
	keys := g.sealer()
	keys.secrets = keys.secrets.sketch()
	defer keys.secrets.wipe()
	var (
		prepared = make(map[string]*preparedMessage, len(messages))
		mu       sync.Mutex // of all above, and of left
		left     = messages
	)
	_ = inParallel(len(messages), func(int) error {
		mu.Lock()
		// The keys are taken in the order of the messages, whoever gets to them.
		m := left[0]
		left = left[1:]
		p, key := g.prepareKey(keys, m)
		mu.Unlock()
		if p == nil {
			return nil
		}
		a, err := keys.decrypt(m.Private, p.from, &key)
		key.wipe()
		if err != nil {
			return nil
		}
		p.content, p.verdict = a, g.verifySender(a)
		c := getScratch()
		defer c.done()
		c.b = m.Private.appendTo(c.b)
		mu.Lock()
		prepared[string(c.b)] = p
		mu.Unlock()
		return nil
	})
	g.keys.prepared = prepared
}

// prepareKey finds out who sent a message, and takes its key from a sketch of the
// secret tree. It returns nil for a message that is left to Process.
func (g *Group) prepareKey(keys sealer, m *Message) (*preparedMessage, messageKey) {
	if g.checkFrame(m) != nil || m.Private == nil || m.Private.ContentType != ContentApplication || m.Private.Epoch != g.ctx.Epoch {
		return nil, messageKey{}
	}
	d, err := keys.openSenderData(m.Private)
	if err != nil || d.leaf == g.self || g.tree.leaf(d.leaf) == nil {
		return nil, messageKey{}
	}
	key, err := keys.secrets.peek(d.leaf, ratchetApplication, d.generation)
	if err != nil {
		return nil, messageKey{}
	}
	taken := messageKey{leaf: key.leaf, kind: key.kind, nk: key.nk, k: key.k}
	if keys.secrets.consume(key) != nil {
		return nil, messageKey{}
	}
	return &preparedMessage{from: d}, taken
}

// processPrepared is processPrivate for a message that was prepared: what is left are
// the steps that depend on what was processed before it.
func (g *Group) processPrepared(m *PrivateMessage, p *preparedMessage) (Received, error) {
	key, err := g.keys.messages.peek(p.from.leaf, ratchetApplication, p.from.generation)
	if err != nil {
		return nil, err
	}
	if p.verdict != nil {
		key.wipe()
		return nil, p.verdict
	}
	return g.take(m, p.content, g.tree.leaf(p.from.leaf), key)
}

// takePrepared returns what is known of a message, and forgets it; nil if it was not
// prepared. It goes by all octets of the message: one that was changed since is
// another one.
func (k *epochKeys) takePrepared(m *PrivateMessage) *preparedMessage {
	if len(k.prepared) == 0 {
		return nil
	}
	c := getScratch()
	defer c.done()
	c.b = m.appendTo(c.b)
	p := k.prepared[string(c.b)]
	delete(k.prepared, string(c.b))
	return p
}
