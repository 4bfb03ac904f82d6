// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"fmt"
	"io"
)

// This file holds the key schedule of RFC 9420 §8: one function per formula.
//
//	                 init_secret_[n-1]
//	                       |
//	 commit_secret --> KDF.Extract
//	                       |
//	               ExpandWithLabel(., "joiner", GroupContext_[n], KDF.Nh)
//	                       |
//	                  joiner_secret
//	                       |
//	psk_secret (or 0) --> KDF.Extract --> DeriveSecret(., "welcome") = welcome_secret
//	                       |
//	               ExpandWithLabel(., "epoch", GroupContext_[n], KDF.Nh)
//	                       |
//	                  epoch_secret --> DeriveSecret(., <label>) = <secret>
//	                       |
//	               DeriveSecret(., "init")
//	                       |
//	                 init_secret_[n]

// epochSecrets are the secrets of one epoch (RFC 9420 §8, Table 4), each of
// KDF.Nh bytes. Those above the epoch_secret are nil where they do not exist:
// joinerSecret and welcomeSecret in the first epoch of a group. They live in
// one piece of memory, which wipe erases.
//
// encryptionSecret is consumed, and so zero, once newSecretTree has been given
// it.
type epochSecrets struct {
	redacted

	joinerSecret       []byte
	welcomeSecret      []byte
	epochSecret        []byte
	senderDataSecret   []byte
	encryptionSecret   []byte
	exporterSecret     []byte
	externalSecret     []byte
	confirmationKey    []byte
	membershipKey      []byte
	resumptionPSK      []byte
	epochAuthenticator []byte
	initSecret         []byte

	memory []byte
}

// wipe erases all secrets; slices of them held elsewhere become zero as well.
func (e *epochSecrets) wipe() {
	if e == nil {
		return
	}
	wipe(e.memory)
	*e = epochSecrets{}
}

// epochSecretCount is how many secrets an epochSecrets holds.
const epochSecretCount = 12

func (s *suite) newEpochSecrets() *epochSecrets {
	return &epochSecrets{memory: make([]byte, epochSecretCount*s.nh)}
}

// slot returns the memory of the i-th secret.
func (e *epochSecrets) slot(i, nh int) []byte {
	return e.memory[i*nh : (i+1)*nh : (i+1)*nh]
}

// epochSecretsFromInit runs the key schedule for those who were in the epoch
// before, and for an external joiner, whose initSecret comes from §8.3. A nil
// commitSecret or pskSecret stands for 0. groupContext is the encoded
// GroupContext of the new epoch.
func (s *suite) epochSecretsFromInit(initSecret, commitSecret, pskSecret, groupContext []byte) *epochSecrets {
	joiner := s.joinerSecret(initSecret, commitSecret, groupContext)
	e := s.epochSecretsFromJoiner(joiner, pskSecret, groupContext)
	wipe(joiner)
	return e
}

// joinerSecret is the secret that a Welcome carries (RFC 9420 §8, §12.4.3):
//
//	joiner_secret = ExpandWithLabel(
//	    KDF.Extract(init_secret_[n-1], commit_secret),
//	    "joiner", GroupContext_[n], KDF.Nh)
func (s *suite) joinerSecret(initSecret, commitSecret, groupContext []byte) []byte {
	var x hashBuf
	s.extractInto(&x, initSecret, commitSecret)
	joiner := s.expandWithLabel(x[:s.nh], "joiner", groupContext, s.nh)
	wipe(x[:])
	return joiner
}

// epochSecretsFromJoiner runs the key schedule for those who were welcomed
// (RFC 9420 §12.4.3.1). A nil pskSecret stands for 0. The joinerSecret is
// copied.
func (s *suite) epochSecretsFromJoiner(joinerSecret, pskSecret, groupContext []byte) *epochSecrets {
	e := s.newEpochSecrets()
	e.joinerSecret = e.slot(0, s.nh)
	copy(e.joinerSecret, joinerSecret)

	var member hashBuf // the value between psk_secret and epoch_secret, without name in the RFC
	s.extractInto(&member, joinerSecret, pskSecret)
	e.welcomeSecret = e.slot(1, s.nh)
	s.expandInto(e.welcomeSecret, member[:s.nh], "welcome", nil)
	e.epochSecret = e.slot(2, s.nh)
	s.expandInto(e.epochSecret, member[:s.nh], "epoch", groupContext)
	wipe(member[:])

	s.deriveEpochSecrets(e)
	return e
}

// welcomeSecretFromJoiner is the welcome_secret alone: with it a joiner opens
// the GroupInfo before it has a GroupContext to run the key schedule with.
func (s *suite) welcomeSecretFromJoiner(joinerSecret, pskSecret []byte) []byte {
	var member hashBuf
	s.extractInto(&member, joinerSecret, pskSecret)
	welcome := s.deriveSecret(member[:s.nh], "welcome")
	wipe(member[:])
	return welcome
}

// epochSecretsFromEpochSecret derives what follows from an epoch_secret that
// the creator of a group drew at random (RFC 9420 §11).
func (s *suite) epochSecretsFromEpochSecret(epochSecret []byte) (*epochSecrets, error) {
	if len(epochSecret) != s.nh {
		return nil, fmt.Errorf("mls: epoch secret has %d bytes, want %d", len(epochSecret), s.nh)
	}
	e := s.newEpochSecrets()
	e.epochSecret = e.slot(2, s.nh)
	copy(e.epochSecret, epochSecret)
	s.deriveEpochSecrets(e)
	return e, nil
}

// newGroupSecrets are the secrets of epoch 0: their epoch_secret is fresh
// randomness, so that nobody can compute them from public data (RFC 9420 §11).
func (s *suite) newGroupSecrets(rand io.Reader) (*epochSecrets, error) {
	var secret hashBuf
	if err := readRandom(rand, secret[:s.nh]); err != nil {
		return nil, err
	}
	e, err := s.epochSecretsFromEpochSecret(secret[:s.nh])
	wipe(secret[:])
	return e, err
}

// deriveEpochSecrets fills in everything below the epoch_secret (RFC 9420 §8,
// Table 4).
func (s *suite) deriveEpochSecrets(e *epochSecrets) {
	for i, d := range [...]struct {
		to    *[]byte
		label string
	}{
		{&e.senderDataSecret, "sender data"},
		{&e.encryptionSecret, "encryption"},
		{&e.exporterSecret, "exporter"},
		{&e.externalSecret, "external"},
		{&e.confirmationKey, "confirm"},
		{&e.membershipKey, "membership"},
		{&e.resumptionPSK, "resumption"},
		{&e.epochAuthenticator, "authentication"},
		{&e.initSecret, "init"},
	} {
		*d.to = e.slot(3+i, s.nh)
		s.expandInto(*d.to, e.epochSecret, d.label, nil)
	}
}

// welcomeKeyNonce are key and nonce of the encrypted GroupInfo in a Welcome
// (RFC 9420 §12.4.3):
//
//	welcome_nonce = ExpandWithLabel(welcome_secret, "nonce", "", AEAD.Nn)
//	welcome_key = ExpandWithLabel(welcome_secret, "key", "", AEAD.Nk)
func (s *suite) welcomeKeyNonce(welcomeSecret []byte) (key, nonce []byte) {
	return s.expandWithLabel(welcomeSecret, "key", nil, s.nk),
		s.expandWithLabel(welcomeSecret, "nonce", nil, s.nn)
}

// externalKeyPair is external_priv, external_pub =
// KEM.DeriveKeyPair(external_secret) (RFC 9420 §8).
func (s *suite) externalKeyPair(externalSecret []byte) (*hpkePrivateKey, []byte, error) {
	return s.deriveKeyPair(externalSecret)
}

// exporter is MLS-Exporter (RFC 9420 §8.5). n is at most 255 * KDF.Nh.
//
//	MLS-Exporter(Label, Context, Length) =
//	    ExpandWithLabel(DeriveSecret(exporter_secret, Label),
//	                    "exported", Hash(Context), Length)
func (s *suite) exporter(exporterSecret []byte, label string, context []byte, n int) ([]byte, error) {
	if n < 0 || n > 255*s.nh {
		return nil, fmt.Errorf("mls: cannot export %d bytes: the limit of cipher suite %v is %d", n, s.cipher, 255*s.nh)
	}
	var derived, hash hashBuf
	s.expandInto(derived[:s.nh], exporterSecret, label, nil)
	s.kdf.sum(&hash, context)
	out := s.expandWithLabel(derived[:s.nh], "exported", hash[:s.nh], n)
	wipe(derived[:])
	return out, nil
}

// externalInitLabel is the exporter context of ExternalInit (RFC 9420 §8.3).
const externalInitLabel = "MLS 1.0 external init secret"

// externalInitSend chooses the init_secret of an external commit and
// encapsulates it to the group (RFC 9420 §8.3).
func (s *suite) externalInitSend(rand io.Reader, externalPub []byte) (kemOutput, initSecret []byte, err error) {
	return s.hpkeExportSend(rand, externalPub, nil, []byte(externalInitLabel), s.nh)
}

// externalInitReceive is the members' side of externalInitSend.
func (s *suite) externalInitReceive(externalSecret, kemOutput []byte) ([]byte, error) {
	priv, _, err := s.externalKeyPair(externalSecret)
	if err != nil {
		return nil, err
	}
	defer priv.wipe()
	return s.hpkeExportReceive(priv, kemOutput, nil, []byte(externalInitLabel), s.nh)
}

// confirmedTranscriptHash is Hash(interim_transcript_hash_[epoch-1] ‖
// ConfirmedTranscriptHashInput_[epoch]) (RFC 9420 §8.2).
func (s *suite) confirmedTranscriptHash(interimBefore, confirmedInput []byte) []byte {
	return s.hash(interimBefore, confirmedInput)
}

// interimTranscriptHash is Hash(confirmed_transcript_hash_[epoch] ‖
// InterimTranscriptHashInput_[epoch]), whose input is the confirmation tag as
// opaque<V> (RFC 9420 §8.2).
func (s *suite) interimTranscriptHash(confirmed, confirmationTag []byte) []byte {
	var n [4]byte
	return s.hash(confirmed, appendVarint(n[:0], len(confirmationTag)), confirmationTag)
}

// senderDataKeyNonce are key and nonce of a PrivateMessage's sender data
// (RFC 9420 §6.3.2):
//
//	ciphertext_sample = ciphertext[0..KDF.Nh-1]
//	sender_data_key = ExpandWithLabel(sender_data_secret, "key", ciphertext_sample, AEAD.Nk)
//	sender_data_nonce = ExpandWithLabel(sender_data_secret, "nonce", ciphertext_sample, AEAD.Nn)
//
// A ciphertext shorter than the sample is the whole sample.
func (s *suite) senderDataKeyNonce(senderDataSecret, ciphertext []byte) (key, nonce []byte) {
	key, nonce = make([]byte, s.nk), make([]byte, s.nn)
	s.senderDataKeyNonceInto(key, nonce, senderDataSecret, ciphertext)
	return key, nonce
}

func (s *suite) senderDataKeyNonceInto(key, nonce, senderDataSecret, ciphertext []byte) {
	sample := ciphertext[:min(len(ciphertext), s.nh)]
	s.expandInto(key, senderDataSecret, "key", sample)
	s.expandInto(nonce, senderDataSecret, "nonce", sample)
}
