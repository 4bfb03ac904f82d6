// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
)

// sealWelcome makes the Welcome for all members that a commit adds
// (RFC 9420 §12.4.3.1). The encrypted GroupInfo, which may be large, is hashed
// once for all of them, and they are served on all cores.
func (s *suite) sealWelcome(c *config, gi *GroupInfo, welcomeSecret, joiner []byte, t *transition, path *newPath) (*Welcome, error) {
	key, nonce := s.welcomeKeyNonce(welcomeSecret)
	defer wipe(key)
	sealed, err := s.seal(key, nonce, nil, gi.Bytes())
	if err != nil {
		return nil, err
	}
	w := &Welcome{CipherSuite: s.cipher, EncryptedGroupInfo: sealed, Secrets: make([]EncryptedGroupSecrets, len(t.added))}
	// Members under the same node of the path get the same secrets.
	plain := make(map[string][]byte)
	secretsFor := func(i LeafIndex) []byte {
		var pathSecret []byte
		if path != nil {
			pathSecret = path.secretFor(i)
		}
		b, ok := plain[string(pathSecret)]
		if !ok {
			gs := groupSecrets{joiner, pathSecret, t.list.psks}
			b = gs.appendTo(nil)
			plain[string(pathSecret)] = b
		}
		return b
	}
	secrets := make([][]byte, len(t.added))
	for i, m := range t.added {
		secrets[i] = secretsFor(m.Index)
	}
	defer func() {
		for _, b := range plain {
			wipe(b)
		}
	}()
	label := s.newLabelContext("Welcome", sealed)
	err = inParallel(len(t.added), func(i int) error {
		kp := t.list.adds[i]
		ct, err := label.seal(c.rand, kp.InitKey, secrets[i])
		if err != nil {
			return fmt.Errorf("mls: sealing the Welcome for a new member: %w", err)
		}
		w.Secrets[i] = EncryptedGroupSecrets{s.refHash(refLabelKeyPackage, kp.Bytes()), ct}
		return nil
	})
	return w, err
}

// JoinOptions are choices for joining; nil means the defaults.
type JoinOptions struct {
	// Tree is the ratchet tree, when it is not in the Welcome.
	Tree []byte
	// PSKs finds pre-shared keys; nil means Config.PSKs.
	PSKs PSKStore
	// Known reports whether this client is in a group already (RFC 9420 §12.4.3).
	Known func(GroupID) bool
	// Parent is the group that the new one succeeds or branches from. It is needed
	// for such groups, and only for them (RFC 9420 §11.2, §11.3).
	Parent *Group
}

// Join joins a group by a Welcome (RFC 9420 §12.4.3.1). It verifies the whole
// tree. The key package is not to be used again, unless it is one of last resort:
// delete it, and call its Wipe, when the group has been stored.
func Join(cfg *Config, w *Welcome, kp *PrivateKeyPackage, o *JoinOptions) (*Group, error) {
	if w == nil || kp == nil {
		return nil, errors.New("mls: Join needs a Welcome and a key package")
	}
	if o == nil {
		o = &JoinOptions{}
	}
	c := cfg.resolve()
	s, err := c.suite(w.CipherSuite)
	if err != nil {
		return nil, err
	}
	j := &joining{c: c, s: s, o: o, kp: kp}
	defer j.wipe()
	if err := j.open(w); err != nil {
		return nil, err
	}
	return j.enter()
}

// A joining is a client on its way into a group.
type joining struct {
	c  *config
	s  *suite
	o  *JoinOptions
	kp *PrivateKeyPackage

	secrets   *groupSecrets
	pskSecret []byte
	resumed   *PreSharedKeyID // with usage reinit or branch
	gi        *GroupInfo
}

func (j *joining) wipe() {
	wipe(j.pskSecret)
	if j.secrets != nil {
		wipe(j.secrets.joinerSecret)
		wipe(j.secrets.pathSecret)
	}
}

// open decrypts the Welcome.
func (j *joining) open(w *Welcome) error {
	if j.kp.KeyPackage.CipherSuite != w.CipherSuite {
		return invalid(RuleWelcomeSuite, "the Welcome is for cipher suite %v, the key package for %v", w.CipherSuite, j.kp.KeyPackage.CipherSuite)
	}
	ref, err := j.kp.KeyPackage.Ref()
	if err != nil {
		return err
	}
	var entry *EncryptedGroupSecrets
	for i := range w.Secrets {
		if !bytes.Equal(w.Secrets[i].NewMember, ref) {
			continue
		}
		if entry != nil {
			return invalid(RuleWelcomeEntry, "the Welcome has two entries for key package %x", []byte(ref))
		}
		entry = &w.Secrets[i]
	}
	if entry == nil {
		return invalid(RuleWelcomeEntry, "the Welcome has no entry for key package %x", []byte(ref))
	}
	plain, err := j.s.decryptWithLabel(j.kp.init, "Welcome", w.EncryptedGroupInfo, entry.Secrets)
	if err != nil {
		return broken(RuleWelcomeDecrypt, err, "the group secrets of the Welcome")
	}
	if j.secrets, err = decode(plain, "group secrets", readGroupSecrets); err != nil {
		return broken(RuleWelcomeDecrypt, err, "the Welcome")
	}
	if n := len(j.secrets.joinerSecret); n != j.s.nh {
		return invalid(RuleWelcomeDecrypt, "joiner_secret has %d octets, want %d", n, j.s.nh)
	}
	if p := j.secrets.pathSecret; p != nil && len(p) != j.s.nh {
		return invalid(RuleWelcomeDecrypt, "path_secret has %d octets, want %d", len(p), j.s.nh)
	}
	if err := j.findPSKs(); err != nil {
		return err
	}
	welcomeSecret := j.s.welcomeSecretFromJoiner(j.secrets.joinerSecret, j.pskSecret)
	key, nonce := j.s.welcomeKeyNonce(welcomeSecret)
	defer wipe(welcomeSecret)
	defer wipe(key)
	info, err := j.s.open(key, nonce, nil, w.EncryptedGroupInfo)
	if err != nil {
		return broken(RuleWelcomeDecrypt, err, "the GroupInfo of the Welcome")
	}
	if j.gi, err = decode(info, "GroupInfo", readGroupInfo); err != nil {
		return broken(RuleWelcomeDecrypt, err, "the Welcome")
	}
	return nil
}

func (j *joining) findPSKs() error {
	// Each stands for a proposal of one commit.
	if n, most := len(j.secrets.psks), j.c.limits.MaxProposals; n > most {
		return invalid(RuleLimit, "the Welcome has %d PSKs, the limit is %d", n, most)
	}
	for i := range j.secrets.psks {
		id := &j.secrets.psks[i]
		if n := len(id.Nonce); n != j.s.nh {
			return invalid(RulePSKNonce, "psk_nonce has %d octets, want %d", n, j.s.nh)
		}
		if id.Type != PSKResumption || id.Usage == ResumptionApplication {
			continue
		}
		if j.resumed != nil {
			return invalid(RuleWelcomePSK, "the Welcome has two resumption PSKs with usage reinit or branch")
		}
		j.resumed = id
	}
	var err error
	j.pskSecret, err = j.c.pskSecret(j.s, j.secrets.psks, j.o.PSKs, func(id *PreSharedKeyID) []byte {
		if p := j.o.Parent; p != nil && bytes.Equal(id.GroupID, p.ctx.GroupID) {
			return p.findResumption(id.Epoch)
		}
		return nil
	})
	var v *ValidationError
	if errors.As(err, &v) && v.Rule == RuleCommitPSK {
		return broken(RuleWelcomePSK, v.Err, "%s", v.Reason)
	}
	return err
}

// enter verifies what the Welcome says and begins the epoch.
func (j *joining) enter() (*Group, error) {
	c, s, gi := j.c, j.s, j.gi
	if gi.Context.CipherSuite != s.cipher {
		return nil, invalid(RuleWelcomeSuite, "the GroupInfo is for cipher suite %v, the Welcome for %v", gi.Context.CipherSuite, s.cipher)
	}
	if j.o.Known != nil && j.o.Known(gi.Context.GroupID) {
		return nil, invalid(RuleWelcomeGroupID, "this client is a member of group %x already", []byte(gi.Context.GroupID))
	}
	for i := range gi.Context.Extensions {
		if t := gi.Context.Extensions[i].Type; !j.kp.KeyPackage.LeafNode.Capabilities.SupportsExtension(t) {
			return nil, invalid(RuleExtensionUnsupported, "the group has extension %v, which this client does not support", t)
		}
	}
	st, err := c.verifyGroupInfo(gi, j.o.Tree)
	if err != nil {
		return nil, err
	}
	at, ok := st.tree.holderOf(encryptionKeyKind, j.kp.KeyPackage.LeafNode.EncryptionKey)
	self, isLeaf := at.leaf()
	if !ok || !isLeaf || !st.tree.leaf(self).Equal(j.kp.KeyPackage.LeafNode) {
		return nil, invalid(RuleWelcomeLeaf, "the leaf node of the key package is not in the tree")
	}
	if self == gi.Signer {
		return nil, invalid(RuleWelcomeLeaf, "the GroupInfo is signed by the joiner itself")
	}
	private, err := st.tree.privateFromWelcome(self, gi.Signer, j.kp.leaf, j.secrets.pathSecret)
	if err != nil {
		return nil, err
	}
	secrets := s.epochSecretsFromJoiner(j.secrets.joinerSecret, j.pskSecret, st.ctxBytes)
	want := s.confirmationTag(secrets.confirmationKey, gi.Context.ConfirmedTranscriptHash)
	if !equalMAC(want, gi.ConfirmationTag) {
		secrets.wipe()
		return nil, invalid(RuleWelcomeConfirmation, "the confirmation_tag of the GroupInfo is wrong")
	}
	if err := j.checkParent(&st); err != nil {
		secrets.wipe()
		return nil, err
	}
	return enter(st, &Identity{j.kp.KeyPackage.LeafNode.Credential, j.kp.key}, private, secrets), nil
}
