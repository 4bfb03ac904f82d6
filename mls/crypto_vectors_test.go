// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// wantBytes compares a computed value with a vector's.
func wantBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s = %x, want %x", what, got, want)
	}
}

func TestVectorsTreeMath(t *testing.T) {
	type optional = []*uint32
	for _, c := range loadVectors[struct {
		NLeaves uint32   `json:"n_leaves"`
		NNodes  uint32   `json:"n_nodes"`
		Root    uint32   `json:"root"`
		Left    optional `json:"left"`
		Right   optional `json:"right"`
		Parent  optional `json:"parent"`
		Sibling optional `json:"sibling"`
	}](t, "tree-math.json") {
		if got := nodeWidth(c.NLeaves); got != c.NNodes {
			t.Errorf("nodeWidth(%d) = %d, want %d", c.NLeaves, got, c.NNodes)
		}
		if got := root(c.NLeaves); got != nodeIndex(c.Root) {
			t.Errorf("root(%d) = %d, want %d", c.NLeaves, got, c.Root)
		}
		want := func(what string, x nodeIndex, list optional, got nodeIndex, ok bool) {
			t.Helper()
			switch w := list[x]; {
			case w == nil && ok:
				t.Errorf("%d leaves: %s(%d) = %d, want none", c.NLeaves, what, x, got)
			case w != nil && (!ok || got != nodeIndex(*w)):
				t.Errorf("%d leaves: %s(%d) = %d, %v, want %d", c.NLeaves, what, x, got, ok, *w)
			}
		}
		for x := range nodeIndex(c.NNodes) {
			got, ok := x.left()
			want("left", x, c.Left, got, ok)
			got, ok = x.right()
			want("right", x, c.Right, got, ok)
			got, ok = x.parent(c.NLeaves)
			want("parent", x, c.Parent, got, ok)
			got, ok = x.sibling(c.NLeaves)
			want("sibling", x, c.Sibling, got, ok)
		}
	}
}

func TestVectorsCryptoBasics(t *testing.T) {
	for _, c := range loadVectors[struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		RefHash     struct {
			Label      string
			Value, Out hexBytes
		} `json:"ref_hash"`
		ExpandWithLabel struct {
			Secret  hexBytes
			Label   string
			Context hexBytes
			Length  int
			Out     hexBytes
		} `json:"expand_with_label"`
		DeriveSecret struct {
			Secret hexBytes
			Label  string
			Out    hexBytes
		} `json:"derive_secret"`
		DeriveTreeSecret struct {
			Secret     hexBytes
			Label      string
			Generation uint32
			Length     int
			Out        hexBytes
		} `json:"derive_tree_secret"`
		SignWithLabel struct {
			Priv, Pub, Content hexBytes
			Label              string
			Signature          hexBytes
		} `json:"sign_with_label"`
		EncryptWithLabel struct {
			Priv, Pub          hexBytes
			Label              string
			Context, Plaintext hexBytes
			KEMOutput          hexBytes `json:"kem_output"`
			Ciphertext         hexBytes
		} `json:"encrypt_with_label"`
	}](t, "crypto-basics.json") {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			wantBytes(t, "refHash", s.refHash(c.RefHash.Label, c.RefHash.Value), c.RefHash.Out)
			e := c.ExpandWithLabel
			wantBytes(t, "expandWithLabel", s.expandWithLabel(e.Secret, e.Label, e.Context, e.Length), e.Out)
			d := c.DeriveSecret
			wantBytes(t, "deriveSecret", s.deriveSecret(d.Secret, d.Label), d.Out)
			g := c.DeriveTreeSecret
			wantBytes(t, "deriveTreeSecret", s.deriveTreeSecret(g.Secret, g.Label, g.Generation, g.Length), g.Out)

			w := c.SignWithLabel
			if err := s.verifyWithLabel(w.Pub, w.Label, w.Content, w.Signature); err != nil {
				t.Errorf("verifyWithLabel: %v", err)
			}
			key, err := ParseSignaturePrivateKey(c.CipherSuite, w.Priv)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "signature public key", key.Public(), w.Pub)
			sig, err := s.signWithLabel(key, w.Label, w.Content)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.verifyWithLabel(w.Pub, w.Label, w.Content, sig); err != nil {
				t.Errorf("verifyWithLabel(signWithLabel): %v", err)
			}

			p := c.EncryptWithLabel
			priv, err := s.parseHPKEPrivateKey(p.Priv)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "HPKE public key", priv.public(), p.Pub)
			pt, err := s.decryptWithLabel(priv, p.Label, p.Context, HPKECiphertext{KEMOutput: p.KEMOutput, Ciphertext: p.Ciphertext})
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "decryptWithLabel", pt, p.Plaintext)
			ct, err := s.encryptWithLabel(nil, p.Pub, p.Label, p.Context, p.Plaintext)
			if err != nil {
				t.Fatal(err)
			}
			if pt, err = s.decryptWithLabel(priv, p.Label, p.Context, ct); err != nil {
				t.Fatal(err)
			}
			wantBytes(t, "decryptWithLabel(encryptWithLabel)", pt, p.Plaintext)
		})
	}
}

func TestVectorsKeySchedule(t *testing.T) {
	for _, c := range loadVectors[struct {
		CipherSuite       CipherSuite `json:"cipher_suite"`
		GroupID           hexBytes    `json:"group_id"`
		InitialInitSecret hexBytes    `json:"initial_init_secret"`
		Epochs            []struct {
			TreeHash                hexBytes `json:"tree_hash"`
			CommitSecret            hexBytes `json:"commit_secret"`
			PSKSecret               hexBytes `json:"psk_secret"`
			ConfirmedTranscriptHash hexBytes `json:"confirmed_transcript_hash"`

			GroupContext       hexBytes `json:"group_context"`
			JoinerSecret       hexBytes `json:"joiner_secret"`
			WelcomeSecret      hexBytes `json:"welcome_secret"`
			InitSecret         hexBytes `json:"init_secret"`
			SenderDataSecret   hexBytes `json:"sender_data_secret"`
			EncryptionSecret   hexBytes `json:"encryption_secret"`
			ExporterSecret     hexBytes `json:"exporter_secret"`
			EpochAuthenticator hexBytes `json:"epoch_authenticator"`
			ExternalSecret     hexBytes `json:"external_secret"`
			ConfirmationKey    hexBytes `json:"confirmation_key"`
			MembershipKey      hexBytes `json:"membership_key"`
			ResumptionPSK      hexBytes `json:"resumption_psk"`
			ExternalPub        hexBytes `json:"external_pub"`
			Exporter           struct {
				Label   string
				Context hexBytes
				Length  int
				Secret  hexBytes
			}
		}
	}](t, "key-schedule.json") {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			if len(c.Epochs) == 0 {
				t.Fatal("no epochs")
			}
			init := []byte(c.InitialInitSecret)
			for i, v := range c.Epochs {
				// GroupContext of RFC 9420 §8.1 without extensions, by hand.
				gc := []byte{0, 1, byte(c.CipherSuite >> 8), byte(c.CipherSuite)}
				gc = append(appendVarint(gc, len(c.GroupID)), c.GroupID...)
				gc = binary.BigEndian.AppendUint64(gc, uint64(i))
				gc = append(appendVarint(gc, len(v.TreeHash)), v.TreeHash...)
				gc = append(appendVarint(gc, len(v.ConfirmedTranscriptHash)), v.ConfirmedTranscriptHash...)
				gc = append(gc, 0)
				wantBytes(t, "group_context", gc, v.GroupContext)

				e := s.epochSecretsFromInit(init, v.CommitSecret, v.PSKSecret, gc)
				check := func(e *epochSecrets) {
					t.Helper()
					wantBytes(t, "joiner_secret", e.joinerSecret, v.JoinerSecret)
					wantBytes(t, "welcome_secret", e.welcomeSecret, v.WelcomeSecret)
					wantBytes(t, "init_secret", e.initSecret, v.InitSecret)
					wantBytes(t, "sender_data_secret", e.senderDataSecret, v.SenderDataSecret)
					wantBytes(t, "encryption_secret", e.encryptionSecret, v.EncryptionSecret)
					wantBytes(t, "exporter_secret", e.exporterSecret, v.ExporterSecret)
					wantBytes(t, "epoch_authenticator", e.epochAuthenticator, v.EpochAuthenticator)
					wantBytes(t, "external_secret", e.externalSecret, v.ExternalSecret)
					wantBytes(t, "confirmation_key", e.confirmationKey, v.ConfirmationKey)
					wantBytes(t, "membership_key", e.membershipKey, v.MembershipKey)
					wantBytes(t, "resumption_psk", e.resumptionPSK, v.ResumptionPSK)
				}
				check(e)
				check(s.epochSecretsFromJoiner(v.JoinerSecret, v.PSKSecret, gc))
				wantBytes(t, "welcome_secret from joiner", s.welcomeSecretFromJoiner(v.JoinerSecret, v.PSKSecret), v.WelcomeSecret)

				_, pub, err := s.externalKeyPair(e.externalSecret)
				if err != nil {
					t.Fatal(err)
				}
				wantBytes(t, "external_pub", pub, v.ExternalPub)
				x, err := s.exporter(e.exporterSecret, v.Exporter.Label, v.Exporter.Context, v.Exporter.Length)
				if err != nil {
					t.Fatal(err)
				}
				wantBytes(t, "exporter.secret", x, v.Exporter.Secret)
				init = e.initSecret
			}
		})
	}
}

func TestVectorsPSKSecret(t *testing.T) {
	for i, c := range loadVectors[struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		PSKs        []struct {
			ID    hexBytes `json:"psk_id"`
			PSK   hexBytes `json:"psk"`
			Nonce hexBytes `json:"psk_nonce"`
		} `json:"psks"`
		PSKSecret hexBytes `json:"psk_secret"`
	}](t, "psk_secret.json") {
		s := mustSuite(t, c.CipherSuite)
		var ids, psks [][]byte
		for _, p := range c.PSKs {
			id := []byte{1} // PSKType external (RFC 9420 §8.4)
			id = append(appendVarint(id, len(p.ID)), p.ID...)
			id = append(appendVarint(id, len(p.Nonce)), p.Nonce...)
			ids, psks = append(ids, id), append(psks, p.PSK)
		}
		got, err := s.pskSecret(ids, psks)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		wantBytes(t, c.CipherSuite.String(), got, c.PSKSecret)
	}
}

func TestVectorsSecretTree(t *testing.T) {
	type generation struct {
		Generation       uint32
		HandshakeKey     hexBytes `json:"handshake_key"`
		HandshakeNonce   hexBytes `json:"handshake_nonce"`
		ApplicationKey   hexBytes `json:"application_key"`
		ApplicationNonce hexBytes `json:"application_nonce"`
	}
	for _, c := range loadVectors[struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		SenderData  struct {
			Secret     hexBytes `json:"sender_data_secret"`
			Ciphertext hexBytes
			Key, Nonce hexBytes
		} `json:"sender_data"`
		EncryptionSecret hexBytes `json:"encryption_secret"`
		Leaves           [][]generation
	}](t, "secret-tree.json") {
		s := mustSuite(t, c.CipherSuite)
		key, nonce := s.senderDataKeyNonce(c.SenderData.Secret, c.SenderData.Ciphertext)
		wantBytes(t, "sender_data.key", key, c.SenderData.Key)
		wantBytes(t, "sender_data.nonce", nonce, c.SenderData.Nonce)

		tree := newSecretTree(s, bytes.Clone(c.EncryptionSecret), uint32(len(c.Leaves)))
		sender := tree.clone()
		for i, leaf := range c.Leaves {
			for _, g := range leaf {
				for _, r := range []struct {
					kind       ratchetKind
					key, nonce []byte
				}{{ratchetHandshake, g.HandshakeKey, g.HandshakeNonce}, {ratchetApplication, g.ApplicationKey, g.ApplicationNonce}} {
					m, err := tree.peek(LeafIndex(i), r.kind, g.Generation)
					if err != nil {
						t.Fatalf("%v leaf %d %v generation %d: %v", c.CipherSuite, i, r.kind, g.Generation, err)
					}
					wantBytes(t, "key", m.key(), r.key)
					wantBytes(t, "nonce", m.nonce(), r.nonce)
					if err := tree.consume(m); err != nil {
						t.Fatal(err)
					}
					for {
						got, key, nonce, err := sender.next(LeafIndex(i), r.kind)
						if err != nil {
							t.Fatal(err)
						}
						if got == g.Generation {
							wantBytes(t, "next key", key, r.key)
							wantBytes(t, "next nonce", nonce, r.nonce)
							break
						}
					}
				}
			}
		}
	}
}
