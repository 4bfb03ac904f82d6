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

// senderDataLen is the length of an encoded SenderData.
const senderDataLen = 12

// seal encrypts signed content (RFC 9420 §6.3.1). The message is put together and
// encrypted in one piece of memory. It may use up a message key even when it fails.
func (k sealer) seal(a *authenticatedContent) (*Message, error) {
	c := &a.content
	leaf, ok := c.Sender.Leaf()
	if !ok {
		return nil, invalid(RulePrivateSender, "a sender of type %v cannot send a PrivateMessage", c.Sender.Type)
	}
	plain := getScratch()
	defer plain.done()
	plain.b = a.auth.appendTo(c.appendBody(plain.b), c.ContentType)
	if pad := k.cfg.padding(len(plain.b)); pad > 0 {
		n := len(plain.b)
		plain.b = slices.Grow(plain.b, pad)[:n+pad]
		clear(plain.b[n:])
	}
	d := senderData{leaf: leaf}
	if err := readRandom(k.cfg.rand, d.reuseGuard[:]); err != nil {
		return nil, err
	}

	const frame = 4 // version and wire format
	ctLen, sdLen := len(plain.b)+k.s.nt, senderDataLen+k.s.nt
	most := frame + len(c.GroupID) + len(c.AuthenticatedData) + sdLen + ctLen + 8 + 1 + 4*4
	if err := k.cfg.checkSize(most); err != nil {
		return nil, err
	}
	raw := make([]byte, 0, most)
	m := &PrivateMessage{GroupID: c.GroupID, Epoch: c.Epoch, ContentType: c.ContentType, AuthenticatedData: c.AuthenticatedData}
	raw = appendU16(appendU16(raw, uint16(MLS10)), uint16(WireFormatPrivateMessage))
	raw = m.appendContentAAD(raw)
	aad := raw[frame:]
	raw = appendVarint(raw, sdLen)
	sdAt := len(raw)
	raw = appendVarint(raw[:sdAt+sdLen], ctLen)
	ctAt := len(raw)

	generation, key, nonce, err := k.secrets.next(leaf, ratchetOf(c.ContentType))
	if err != nil {
		return nil, err
	}
	d.generation = generation
	d.guard(nonce)
	raw, err = k.s.aeadSealInto(raw, key, nonce, aad, plain.b)
	wipe(key)
	if err != nil {
		return nil, err
	}
	m.Ciphertext = raw[ctAt:]
	m.EncryptedSenderData = raw[sdAt : sdAt+sdLen : sdAt+sdLen]
	if err := k.sealSenderData(m, &d); err != nil {
		return nil, err
	}
	return &Message{Private: m, raw: raw}, nil
}

// sealSenderData fills in the encrypted sender data of m (RFC 9420 §6.3.2).
func (k sealer) sealSenderData(m *PrivateMessage, d *senderData) error {
	var keys [maxAEADKeySize + aeadNonceSize]byte
	key, nonce := keys[:k.s.nk], keys[k.s.nk:k.s.nk+k.s.nn]
	k.s.senderDataKeyNonceInto(key, nonce, k.senderData, m.Ciphertext)
	c := getScratch()
	defer c.done()
	c.b = m.appendSenderDataAAD(c.b)
	n := len(c.b)
	c.b = d.appendTo(c.b)
	_, err := k.s.aeadSealInto(m.EncryptedSenderData[:0], key, nonce, c.b[:n], c.b[n:])
	return err
}

// guard mixes the reuse guard into a nonce (RFC 9420 §6.3.1).
func (d *senderData) guard(nonce []byte) {
	for i, b := range d.reuseGuard {
		nonce[i] ^= b
	}
}

// openSenderData decrypts who sent m (RFC 9420 §6.3.2). Any member could have
// written it: the signature inside decides.
func (k sealer) openSenderData(m *PrivateMessage) (senderData, error) {
	c := getScratch()
	defer c.done()
	c.b = append(c.b, make([]byte, maxAEADKeySize+aeadNonceSize)...)
	c.b = m.appendSenderDataAAD(c.b)
	key, nonce, aad := c.b[:k.s.nk], c.b[maxAEADKeySize:maxAEADKeySize+k.s.nn], c.b[maxAEADKeySize+aeadNonceSize:]
	k.s.senderDataKeyNonceInto(key, nonce, k.senderData, m.Ciphertext)
	c.b = slices.Grow(c.b, len(m.EncryptedSenderData))
	b, err := k.s.aeadOpenInto(c.b[len(c.b):], key, nonce, aad, m.EncryptedSenderData)
	if err != nil {
		return senderData{}, broken(RuleSenderData, err, "sender data of a PrivateMessage")
	}
	r := reader{b: b}
	d := readSenderData(&r)
	if err := r.done(); err != nil {
		return senderData{}, broken(RuleSenderData, err, "sender data of a PrivateMessage")
	}
	return d, nil
}

// open decrypts m, which d says who sent. The key is not consumed: that is for
// the caller, once the signature has been verified.
func (k sealer) open(m *PrivateMessage, d senderData) (*authenticatedContent, *messageKey, error) {
	key, err := k.secrets.peek(d.leaf, ratchetOf(m.ContentType), d.generation)
	if err != nil {
		return nil, nil, err
	}
	a, err := k.decrypt(m, d, key)
	if err != nil {
		key.wipe()
		return nil, nil, err
	}
	return a, key, nil
}

// decrypt decrypts m with its key, which it makes one for this message only.
func (k sealer) decrypt(m *PrivateMessage, d senderData, key *messageKey) (*authenticatedContent, error) {
	d.guard(key.nonce())
	c := getScratch()
	c.b = m.appendContentAAD(c.b)
	plain, err := k.s.open(key.key(), key.nonce(), c.b, m.Ciphertext)
	c.done()
	if err != nil {
		return nil, broken(RuleDecrypt, err, "PrivateMessage of member %d, generation %d", d.leaf, d.generation)
	}
	a := &authenticatedContent{wireFormat: WireFormatPrivateMessage, content: FramedContent{
		GroupID: m.GroupID, Epoch: m.Epoch, Sender: Sender{SenderMember, uint32(d.leaf)},
		AuthenticatedData: m.AuthenticatedData, ContentType: m.ContentType,
	}}
	r := reader{b: plain}
	a.content.readBody(&r)
	a.auth = readAuthData(&r, m.ContentType)
	if r.err != nil {
		return nil, broken(RuleDecrypt, r.err, "content of a PrivateMessage of member %d", d.leaf)
	}
	for _, b := range r.b {
		if b != 0 {
			return nil, invalid(RulePadding, "the padding of a PrivateMessage of member %d is not zero", d.leaf)
		}
	}
	return a, nil
}

var errNoKeys = errors.New("mls: the keys of this epoch were wiped")
