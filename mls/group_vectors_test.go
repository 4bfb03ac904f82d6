// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"testing"
)

func TestMessageProtectionVectors(t *testing.T) {
	type vector struct {
		CipherSuite             CipherSuite `json:"cipher_suite"`
		GroupID                 hexBytes    `json:"group_id"`
		Epoch                   uint64      `json:"epoch"`
		TreeHash                hexBytes    `json:"tree_hash"`
		ConfirmedTranscriptHash hexBytes    `json:"confirmed_transcript_hash"`
		SignaturePriv           hexBytes    `json:"signature_priv"`
		SignaturePub            hexBytes    `json:"signature_pub"`
		EncryptionSecret        hexBytes    `json:"encryption_secret"`
		SenderDataSecret        hexBytes    `json:"sender_data_secret"`
		MembershipKey           hexBytes    `json:"membership_key"`
		Proposal                hexBytes    `json:"proposal"`
		ProposalPub             hexBytes    `json:"proposal_pub"`
		ProposalPriv            hexBytes    `json:"proposal_priv"`
		Commit                  hexBytes    `json:"commit"`
		CommitPub               hexBytes    `json:"commit_pub"`
		CommitPriv              hexBytes    `json:"commit_priv"`
		Application             hexBytes    `json:"application"`
		ApplicationPriv         hexBytes    `json:"application_priv"`
	}
	for i, v := range loadVectors[vector](t, "message-protection.json") {
		s := mustSuite(t, v.CipherSuite)
		key, err := ParseSignaturePrivateKey(v.CipherSuite, v.SignaturePriv)
		if err != nil {
			t.Fatal(err)
		}
		ctx := GroupContext{
			Version: MLS10, CipherSuite: v.CipherSuite, GroupID: GroupID(v.GroupID), Epoch: v.Epoch,
			TreeHash: v.TreeHash, ConfirmedTranscriptHash: v.ConfirmedTranscriptHash,
		}
		context := ctx.Bytes()
		body := func(c *FramedContent) []byte {
			if c.ContentType == ContentApplication {
				return c.Application
			}
			return c.appendBody(nil)
		}
		newSealer := func() *sealer {
			return &sealer{s, zeroConfig, newSecretTree(s, bytes.Clone(v.EncryptionSecret), 2), v.SenderDataSecret}
		}
		openPublic := func(what string, wire, raw []byte) *authenticatedContent {
			m, err := ParseMessage(wire)
			if err != nil {
				t.Fatalf("%d %s: %v", i, what, err)
			}
			a := m.Public.authenticated()
			if !s.verifyMembershipTag(v.MembershipKey, a, context, m.Public.membershipTag) {
				t.Errorf("%d %s: membership tag", i, what)
			}
			if err := s.verifyContent(a, v.SignaturePub, context); err != nil {
				t.Errorf("%d %s: %v", i, what, err)
			}
			if !bytes.Equal(body(&a.content), raw) {
				t.Errorf("%d %s: content differs", i, what)
			}
			return a
		}
		openPrivate := func(what string, k *sealer, wire, raw []byte) *authenticatedContent {
			m, err := ParseMessage(wire)
			if err != nil {
				t.Fatalf("%d %s: %v", i, what, err)
			}
			d, err := k.openSenderData(m.Private)
			if err != nil {
				t.Fatalf("%d %s: %v", i, what, err)
			}
			a, messageKey, err := k.open(m.Private, d)
			if err != nil {
				t.Fatalf("%d %s: %v", i, what, err)
			}
			if err := s.verifyContent(a, v.SignaturePub, context); err != nil {
				t.Errorf("%d %s: %v", i, what, err)
			}
			if err := k.secrets.consume(messageKey); err != nil {
				t.Errorf("%d %s: %v", i, what, err)
			}
			if d.leaf != 1 || !bytes.Equal(body(&a.content), raw) {
				t.Errorf("%d %s: content differs", i, what)
			}
			return a
		}
		check := func(what string, pub, priv, raw []byte) {
			var a *authenticatedContent
			if pub != nil {
				a = openPublic(what+" public", pub, raw)
				a.auth.signature = nil
				if err := s.signContent(a, key, context); err != nil {
					t.Fatal(err)
				}
				m := &PublicMessage{Content: a.content, auth: a.auth, membershipTag: s.membershipTag(v.MembershipKey, a, context)}
				openPublic(what+" public, ours", newMessage(&Message{Public: m}).Bytes(), raw)
			}
			a = openPrivate(what+" private", newSealer(), priv, raw)
			if err := s.signContent(a, key, context); err != nil {
				t.Fatal(err)
			}
			m, err := newSealer().seal(a)
			if err != nil {
				t.Fatal(err)
			}
			openPrivate(what+" private, ours", newSealer(), m.Bytes(), raw)
		}
		check("proposal", v.ProposalPub, v.ProposalPriv, v.Proposal)
		check("commit", v.CommitPub, v.CommitPriv, v.Commit)
		check("application", nil, v.ApplicationPriv, v.Application)
	}
}

func TestTranscriptHashVectors(t *testing.T) {
	type vector struct {
		CipherSuite          CipherSuite `json:"cipher_suite"`
		ConfirmationKey      hexBytes    `json:"confirmation_key"`
		AuthenticatedContent hexBytes    `json:"authenticated_content"`
		InterimBefore        hexBytes    `json:"interim_transcript_hash_before"`
		ConfirmedAfter       hexBytes    `json:"confirmed_transcript_hash_after"`
		InterimAfter         hexBytes    `json:"interim_transcript_hash_after"`
	}
	for i, v := range loadVectors[vector](t, "transcript-hashes.json") {
		s := mustSuite(t, v.CipherSuite)
		a, err := decode(v.AuthenticatedContent, "AuthenticatedContent", readAuthenticatedContent)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if a.content.ContentType != ContentCommit {
			t.Errorf("%d: no commit", i)
		}
		if got := s.confirmedTranscriptHash(v.InterimBefore, a.confirmedInput()); !bytes.Equal(got, v.ConfirmedAfter) {
			t.Errorf("%d: confirmed transcript hash differs", i)
		}
		if !s.verifyMAC(v.ConfirmationKey, v.ConfirmedAfter, a.auth.confirmationTag) {
			t.Errorf("%d: confirmation tag", i)
		}
		if got := s.interimTranscriptHash(v.ConfirmedAfter, a.auth.confirmationTag); !bytes.Equal(got, v.InterimAfter) {
			t.Errorf("%d: interim transcript hash differs", i)
		}
		if !bytes.Equal(a.appendTo(nil), v.AuthenticatedContent) {
			t.Errorf("%d: encodes differently", i)
		}
	}
}

func TestWelcomeVectors(t *testing.T) {
	type vector struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		InitPriv    hexBytes    `json:"init_priv"`
		SignerPub   hexBytes    `json:"signer_pub"`
		KeyPackage  hexBytes    `json:"key_package"`
		Welcome     hexBytes    `json:"welcome"`
	}
	for i, v := range loadVectors[vector](t, "welcome.json") {
		s := mustSuite(t, v.CipherSuite)
		kp, err := ParseMessage(v.KeyPackage)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		w, err := ParseMessage(v.Welcome)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		init, err := s.parseHPKEPrivateKey(v.InitPriv)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		j := &joining{c: zeroConfig, s: s, o: &JoinOptions{}, kp: &PrivateKeyPackage{KeyPackage: kp.KeyPackage, init: init}}
		if err := j.open(w.Welcome); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if err := s.verifyWithLabel(v.SignerPub, "GroupInfoTBS", j.gi.tbs(), j.gi.Signature); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		e := s.epochSecretsFromJoiner(j.secrets.joinerSecret, nil, j.gi.Context.Bytes())
		if !s.verifyMAC(e.confirmationKey, j.gi.Context.ConfirmedTranscriptHash, j.gi.ConfirmationTag) {
			t.Errorf("%d: confirmation tag", i)
		}
	}
}
