// SPDX-License-Identifier: Apache-2.0

// Validation of leaf nodes, key packages and extension lists (RFC 9420 §7.3,
// §10.1, §13.4): what can be said of the object itself. What depends on the rest
// of the tree is checked on the tree as it is after a commit, see checkTree.

package mls

import (
	"errors"
	"slices"
	"sync"
)

// origin says where a leaf node or key package was met.
type origin uint8

const (
	received origin = iota
	sent
)

// A leafPlace is where a leaf node claims to belong.
type leafPlace struct {
	group  GroupID
	index  LeafIndex
	origin origin
}

// validateLeaf checks everything of a leaf node that needs no tree
// (RFC 9420 §7.3). It is safe for concurrent use.
func (c *config) validateLeaf(s *suite, l *LeafNode, p leafPlace) error {
	if err := c.checkLeafShape(s, l); err != nil {
		return err
	}
	if err := c.checkLifetime(l, p.origin); err != nil {
		return err
	}
	if err := l.verifySignature(s, p.group, p.index); err != nil {
		return broken(RuleLeafSignature, err, "leaf node of %s", p)
	}
	if err := c.auth.ValidateCredential(l.Credential, l.SignatureKey, UseMember); err != nil {
		return broken(RuleLeafCredential, err, "credential of leaf node of %s", p)
	}
	return nil
}

func (p leafPlace) String() string {
	if p.group == nil {
		return "a key package"
	}
	return "member " + itoa(uint64(p.index))
}

// checkLeafShape checks what can be read off the leaf node.
func (c *config) checkLeafShape(s *suite, l *LeafNode) error {
	if err := s.checkSignaturePublicKey(l.SignatureKey); err != nil {
		return broken(RuleLeafKeys, err, "signature_key of a leaf node")
	}
	if err := s.checkHPKEPublicKey(l.EncryptionKey); err != nil {
		return broken(RuleLeafKeys, err, "encryption_key of a leaf node")
	}
	caps := &l.Capabilities
	if !slices.Contains(caps.Versions, MLS10) || !slices.Contains(caps.CipherSuites, s.cipher) {
		return invalid(RuleLeafSuite, "a leaf node does not list version mls10 and cipher suite %v", s.cipher)
	}
	if i := slices.IndexFunc(caps.Extensions, ExtensionType.isDefault); i >= 0 && !c.listedDefaults {
		return invalid(RuleLeafDefaults, "a leaf node lists the default extension type %v", caps.Extensions[i])
	}
	if i := slices.IndexFunc(caps.Proposals, ProposalType.isDefault); i >= 0 && !c.listedDefaults {
		return invalid(RuleLeafDefaults, "a leaf node lists the default proposal type %v", caps.Proposals[i])
	}
	if !caps.SupportsCredential(l.Credential.Type) {
		return invalid(RuleLeafOwnCredential, "a leaf node does not list its own credential type %v", l.Credential.Type)
	}
	if err := s.checkCertificate(&l.Credential, l.SignatureKey); err != nil {
		return err
	}
	if err := c.checkExtensions(l.Extensions, "leaf node"); err != nil {
		return err
	}
	for i := range l.Extensions {
		t := l.Extensions[i].Type
		if t.isDefault() && t != ExtensionApplicationID {
			return invalid(RuleExtensionLeaf, "a leaf node has extension %v", t)
		}
		if !caps.SupportsExtension(t) {
			return invalid(RuleLeafExtensions, "a leaf node has extension %v, which its capabilities do not list", t)
		}
	}
	return nil
}

// checkLifetime checks the lifetime of a leaf from a key package. The bound on
// its length is for all (RFC 9420 §7.2), the clock for what is sent.
func (c *config) checkLifetime(l *LeafNode, from origin) error {
	if l.Source != LeafNodeKeyPackage {
		return nil
	}
	t := l.Lifetime
	if t.NotAfter < t.NotBefore {
		return invalid(RuleLeafLifetime, "a leaf node's lifetime ends before it begins")
	}
	if limit := c.limits.MaxLifetime; limit > 0 && t.NotAfter-t.NotBefore > uint64(limit.Seconds()) {
		return invalid(RuleLeafLifetime, "a leaf node's lifetime is %d s, the limit %.0f s", t.NotAfter-t.NotBefore, limit.Seconds())
	}
	if from == received && !c.checkRx || t.Contains(c.now()) {
		return nil
	}
	rule := RuleLeafExpiredSending
	if from == received {
		rule = RuleLeafExpired
	}
	return invalid(rule, "a leaf node's lifetime is from %d to %d, now is %d", t.NotBefore, t.NotAfter, c.now().Unix())
}

// checkExtensions checks what holds for every extension list (RFC 9420 §13.4).
func (c *config) checkExtensions(x Extensions, where string) error {
	if len(x) > c.limits.MaxExtensions {
		return invalid(RuleLimit, "%s has %d extensions, the limit is %d", where, len(x), c.limits.MaxExtensions)
	}
	if t, ok := x.duplicate(); ok {
		return invalid(RuleExtensionUnique, "%s has extension %v twice", where, t)
	}
	if _, err := x.components(); err != nil {
		return broken(RuleAppDataFormat, err, "%s", where)
	}
	return nil
}

// validateKeyPackage checks a key package for a suite (RFC 9420 §10.1). It is
// safe for concurrent use.
func (c *config) validateKeyPackage(s *suite, kp *KeyPackage, from origin) error {
	if kp.Version != MLS10 || kp.CipherSuite != s.cipher {
		return invalid(RuleKeyPackageSuite, "key package is for version %d and cipher suite %v, want mls10 and %v", kp.Version, kp.CipherSuite, s.cipher)
	}
	if kp.LeafNode.Source != LeafNodeKeyPackage {
		return invalid(RuleLeafSourceKeyPackage, "the leaf node of a key package has leaf_node_source %v", kp.LeafNode.Source)
	}
	if err := s.checkHPKEPublicKey(kp.InitKey); err != nil {
		return broken(RuleKeyPackageInitKey, err, "init_key of a key package")
	}
	if string(kp.InitKey) == string(kp.LeafNode.EncryptionKey) {
		return invalid(RuleKeyPackageInitKey, "init_key of a key package equals its encryption_key")
	}
	if err := c.checkExtensions(kp.Extensions, "key package"); err != nil {
		return err
	}
	for i := range kp.Extensions {
		if t := kp.Extensions[i].Type; t.isDefault() {
			return invalid(RuleExtensionKeyPackage, "a key package has extension %v", t)
		}
	}
	if err := c.validateLeaf(s, kp.LeafNode, leafPlace{origin: from}); err != nil {
		return err
	}
	if err := s.verifyWithLabel(kp.LeafNode.SignatureKey, "KeyPackageTBS", kp.tbs(), kp.Signature); err != nil {
		return broken(RuleKeyPackageSignature, err, "key package")
	}
	return nil
}

// Verify checks a key package without a group (RFC 9420 §10.1): signatures,
// lifetime against the clock, credential, keys and extensions. It is what a
// directory does before it stores one, and a client before it uses one.
func (kp *KeyPackage) Verify(cfg *Config) error {
	c := cfg.resolve()
	if kp.Version != MLS10 {
		return invalid(RuleKeyPackageVersion, "key package has version %d in a message of version mls10", kp.Version)
	}
	s, err := c.suite(kp.CipherSuite)
	if err != nil {
		return err
	}
	return c.validateKeyPackage(s, kp, sent)
}

// validateContextExtensions checks the extensions of a GroupContext by
// themselves (RFC 9420 §13.4, §17.3).
func (c *config) validateContextExtensions(s *suite, x Extensions) error {
	if err := c.checkExtensions(x, "GroupContext"); err != nil {
		return err
	}
	for i := range x {
		switch t := x[i].Type; t {
		case ExtensionApplicationID, ExtensionRatchetTree, ExtensionExternalPub:
			return invalid(RuleExtensionContext, "a GroupContext has extension %v", t)
		}
	}
	if _, err := x.demands(); err != nil {
		return err
	}
	senders, err := x.ExternalSenders()
	if err != nil {
		return broken(RuleContextSenders, err, "GroupContext")
	}
	for i := range senders {
		if err := s.checkSignaturePublicKey(senders[i].SignatureKey); err != nil {
			return broken(RuleContextSenders, err, "external sender %d", i)
		}
		if err := s.checkCertificate(&senders[i].Credential, senders[i].SignatureKey); err != nil {
			return err
		}
		if err := c.auth.ValidateCredential(senders[i].Credential, senders[i].SignatureKey, UseExternalSender); err != nil {
			return broken(RuleContextSenders, err, "credential of external sender %d", i)
		}
	}
	return nil
}

// validateGroupInfoExtensions checks the extensions of a GroupInfo, of which
// unknown ones are ignored (RFC 9420 §13.4).
func (c *config) validateGroupInfoExtensions(s *suite, x Extensions) error {
	if err := c.checkExtensions(x, "GroupInfo"); err != nil {
		return err
	}
	for i := range x {
		switch t := x[i].Type; t {
		case ExtensionApplicationID, ExtensionRequiredCapabilities, ExtensionExternalSenders:
			return invalid(RuleExtensionGroupInfo, "a GroupInfo has extension %v", t)
		}
	}
	pub, ok, err := x.externalPub()
	if err == nil && ok {
		err = s.checkHPKEPublicKey(pub)
	}
	if err != nil {
		return broken(RuleGroupInfoPub, err, "external_pub of a GroupInfo")
	}
	return nil
}

// check checks a new leaf against required_capabilities (RFC 9420 §7.3): so it is
// the leaf that is blamed. All else that a group demands is looked at in the tree,
// by checkSupport.
func (d *demands) check(l *LeafNode) error {
	caps, required := &l.Capabilities, d.caps
	if required == nil {
		return nil
	}
	if t, ok := missing(caps.Extensions, required.Extensions, ExtensionType.isDefault); ok {
		return invalid(RuleLeafRequired, "a leaf node does not support the required extension %v", t)
	}
	if t, ok := missing(caps.Proposals, required.Proposals, ProposalType.isDefault); ok {
		return invalid(RuleLeafRequired, "a leaf node does not support the required proposal type %v", t)
	}
	if t, ok := missing(caps.Credentials, required.Credentials, func(CredentialType) bool { return false }); ok {
		return invalid(RuleLeafRequired, "a leaf node does not support the required credential type %v", t)
	}
	return nil
}

// missing returns the first value of want that is neither in have nor a default.
// Both lists may come from strangers and be long: the time is linear in both.
func missing[T ~uint16](have, want []T, isDefault func(T) bool) (T, bool) {
	in := func(t T) bool { return slices.Contains(have, t) }
	if len(want) > 16 && len(have) > 16 {
		set := make(map[T]struct{}, len(have))
		for _, t := range have {
			set[t] = struct{}{}
		}
		in = func(t T) bool { _, ok := set[t]; return ok }
	}
	for _, t := range want {
		if !isDefault(t) && !in(t) {
			return t, true
		}
	}
	return 0, false
}

// checkSupport checks that all members of a tree support what the group uses:
// the credential types of all, the extensions of the GroupContext and what these
// require (RFC 9420 §7.3, §12.1.7, §13.4). It looks at counters alone.
func (t *ratchetTree) checkSupport(d *demands) error {
	for _, use := range t.credentialTypes() {
		if !t.allSupportCredential(use.t) {
			return invalid(RuleLeafCredentialSupport, "credential type %v is in use, and some member does not support it", use.t)
		}
	}
	for i := range d.extensions {
		if x := d.extensions[i].Type; !t.allSupportExtension(x) {
			return invalid(RuleContextSupport, "the GroupContext has extension %v, which some member does not support", x)
		}
	}
	if err := t.checkComponents(&d.components); err != nil {
		return err
	}
	required := d.caps
	if required == nil {
		return nil
	}
	for _, e := range required.Extensions {
		if !t.allSupportExtension(e) {
			return invalid(RuleContextRequired, "extension %v is required, and some member does not support it", e)
		}
	}
	for _, p := range required.Proposals {
		if !t.allSupportProposal(p) {
			return invalid(RuleContextRequired, "proposal type %v is required, and some member does not support it", p)
		}
	}
	for _, cr := range required.Credentials {
		if !t.allSupportCredential(cr) {
			return invalid(RuleContextRequired, "credential type %v is required, and some member does not support it", cr)
		}
	}
	return nil
}

// validateTree checks a received tree against its GroupContext: the hash, the
// structure, and every leaf (RFC 9420 §12.4.3.1). Leaves are verified on all
// cores.
func (c *config) validateTree(t *ratchetTree, ctx *GroupContext) error {
	if string(t.treeHash()) != string(ctx.TreeHash) {
		return invalid(RuleTreeHash, "the tree does not have the tree_hash of the GroupContext")
	}
	demands, err := ctx.Extensions.demands()
	if err != nil {
		return err
	}
	if err := t.checkSupport(&demands); err != nil {
		return err
	}
	type place struct {
		i LeafIndex
		l *LeafNode
	}
	leaves := make([]place, 0, t.memberCount())
	t.eachLeaf(func(i LeafIndex, l *LeafNode) bool {
		leaves = append(leaves, place{i, l})
		return true
	})
	// The parents are checked beside the leaves, and win when both are wrong.
	var parents error
	var wg sync.WaitGroup
	wg.Go(func() { parents = t.verifyStructure() })
	err = inParallel(len(leaves), func(k int) error {
		return c.validateLeaf(t.s, leaves[k].l, leafPlace{ctx.GroupID, leaves[k].i, received})
	})
	wg.Wait()
	if parents != nil {
		return parents
	}
	return err
}

// loadTree decodes a received tree and maps what is wrong with its shape to the
// rule.
func (c *config) loadTree(s *suite, b []byte) (*ratchetTree, error) {
	t, err := parseRatchetTree(s, b, uint32(c.limits.MaxMembers))
	var double *duplicateKeyError
	if errors.As(err, &double) {
		switch {
		case double.parents:
			return nil, broken(RuleTreeParentKey, err, "ratchet tree")
		case double.kind == signatureKeyKind:
			return nil, broken(RuleSignatureKeyUnique, err, "ratchet tree")
		}
		return nil, broken(RuleEncryptionUnique, err, "ratchet tree")
	}
	return t, err
}
