// SPDX-License-Identifier: Apache-2.0

// PrivateMessage: encryption of content and of sender data (RFC 9420 §6.3).

package mls

import (
	"errors"
	"slices"
)

// PadBuckets is the default padding: it brings n octets of content to the next
// of few sizes (32, 64, 128, 256, and from then on four to each power of two), so
// that a length tells little and costs at most a quarter.
func PadBuckets(n int) int {
	if n <= 0 {
		return 32
	}
	size := 32
	for size < n && size < 256 {
		size *= 2
	}
	if size < n {
		step := 64
		for size*2 < n {
			size, step = size*2, step*2
		}
		for size < n {
			size += step
		}
	}
	return size - n
}

// PadNone adds no padding.
func PadNone(int) int { return 0 }

// A sealer is what a member encrypts with in an epoch.
type sealer struct {
	s       *suite
	cfg     *config
	secrets *secretTree
	// senderData is sender_data_secret.
	senderData []byte
}

func ratchetOf(t ContentType) ratchetKind {
	if t == ContentApplication {
		return ratchetApplication
	}
	return ratchetHandshake
}

// seal encrypts signed content (RFC 9420 §6.3.1). It uses up a message key even
// when it fails.
func (k *sealer) seal(a *authenticatedContent) (*PrivateMessage, error) {
	c := &a.content
	leaf, ok := c.Sender.Leaf()
	if !ok {
		return nil, invalid(RulePrivateSender, "a sender of type %v cannot send a PrivateMessage", c.Sender.Type)
	}
	m := &PrivateMessage{GroupID: c.GroupID, Epoch: c.Epoch, ContentType: c.ContentType, AuthenticatedData: c.AuthenticatedData}
	room := len(c.Application) + len(a.auth.signature) + len(a.auth.confirmationTag) + 16
	plain := make([]byte, 0, room+room/4+64+k.s.nt)
	plain = a.auth.appendTo(c.appendBody(plain), c.ContentType)
	if pad := k.cfg.padding(len(plain)); pad > 0 {
		n := len(plain)
		plain = slices.Grow(plain, pad+k.s.nt)[:n+pad]
		clear(plain[n:])
	}

	d := senderData{leaf: leaf}
	if err := readRandom(k.cfg.rand, d.reuseGuard[:]); err != nil {
		return nil, err
	}
	generation, key, nonce, err := k.secrets.next(leaf, ratchetOf(c.ContentType))
	if err != nil {
		return nil, err
	}
	d.generation = generation
	d.guard(nonce)
	aad := m.appendContentAAD(make([]byte, 0, 32+len(m.GroupID)+len(m.AuthenticatedData)))
	m.Ciphertext, err = k.s.aeadSealInto(plain[:0], key, nonce, aad, plain)
	wipe(key)
	if err != nil {
		return nil, err
	}

	var buf [12]byte
	sdKey, sdNonce := k.s.senderDataKeyNonce(k.senderData, m.Ciphertext)
	m.EncryptedSenderData, err = k.s.seal(sdKey, sdNonce, m.appendSenderDataAAD(aad[:0]), d.appendTo(buf[:0]))
	return m, err
}

// guard mixes the reuse guard into a nonce (RFC 9420 §6.3.1).
func (d *senderData) guard(nonce []byte) {
	for i, b := range d.reuseGuard {
		nonce[i] ^= b
	}
}

// openSenderData decrypts who sent m (RFC 9420 §6.3.2). Any member could have
// written it: the signature inside decides.
func (k *sealer) openSenderData(m *PrivateMessage) (*senderData, error) {
	var aad [128]byte
	key, nonce := k.s.senderDataKeyNonce(k.senderData, m.Ciphertext)
	b, err := k.s.open(key, nonce, m.appendSenderDataAAD(aad[:0]), m.EncryptedSenderData)
	if err != nil {
		return nil, broken(RuleSenderData, err, "sender data of a PrivateMessage")
	}
	r := reader{b: b}
	d := readSenderData(&r)
	if err := r.done(); err != nil {
		return nil, broken(RuleSenderData, err, "sender data of a PrivateMessage")
	}
	return &d, nil
}

// open decrypts m, which d says who sent. The key is not consumed: that is for
// the caller, once the signature has been verified.
func (k *sealer) open(m *PrivateMessage, d *senderData) (*authenticatedContent, *messageKey, error) {
	key, err := k.secrets.peek(d.leaf, ratchetOf(m.ContentType), d.generation)
	if err != nil {
		return nil, nil, err
	}
	var nonce [aeadNonceSize]byte
	copy(nonce[:], key.nonce())
	d.guard(nonce[:])
	aad := m.appendContentAAD(make([]byte, 0, 32+len(m.GroupID)+len(m.AuthenticatedData)))
	plain, err := k.s.open(key.key(), nonce[:], aad, m.Ciphertext)
	if err != nil {
		key.wipe()
		return nil, nil, broken(RuleDecrypt, err, "PrivateMessage of member %d, generation %d", d.leaf, d.generation)
	}
	a := &authenticatedContent{wireFormat: WireFormatPrivateMessage, content: FramedContent{
		GroupID: m.GroupID, Epoch: m.Epoch, Sender: Sender{SenderMember, uint32(d.leaf)},
		AuthenticatedData: m.AuthenticatedData, ContentType: m.ContentType,
	}}
	r := reader{b: plain}
	a.content.readBody(&r)
	a.auth = readAuthData(&r, m.ContentType)
	if r.err != nil {
		key.wipe()
		return nil, nil, broken(RuleDecrypt, r.err, "content of a PrivateMessage of member %d", d.leaf)
	}
	for _, b := range r.b {
		if b != 0 {
			key.wipe()
			return nil, nil, invalid(RulePadding, "the padding of a PrivateMessage of member %d is not zero", d.leaf)
		}
	}
	return a, key, nil
}

var errNoKeys = errors.New("mls: the keys of this epoch were wiped")
