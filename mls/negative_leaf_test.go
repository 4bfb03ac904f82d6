// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// Leaf nodes and key packages that break a rule, in an Add, an Update, a path.
func init() {
	refuse := errors.New("the authentication service knows nothing of that")
	strict := func(c *Config) {
		c.Authenticator = authFuncs{
			credential: func(c Credential, _ []byte, use CredentialUse) error {
				if string(c.Identity) == "tybalt" {
					return refuse
				}
				return nil
			},
			successor: acceptCredentials{}.ValidateSuccessor,
		}
	}
	required := func(c *court, x *RequiredCapabilities) {
		c.member("juliet", &CommitOptions{ContextExtensions: Extensions{x.Extension()}})
	}
	verify := func(edit func(kp *KeyPackage)) func(c *court) error {
		return func(c *court) error { return c.keyPackage(edit).KeyPackage.Verify(nil) }
	}
	long := make([]byte, 33)
	offences["TestLeafRules"] = []offence{
		{rule: RuleLeafCredential, name: "add", is: refuse, cfg: strict, message: func(c *court) *Message { return c.add(nil) }},
		{rule: RuleLeafCredential, name: "update", is: refuse, cfg: strict, message: func(c *court) *Message {
			return c.f.proposal(c.update(func(l *LeafNode) { l.Credential = BasicCredential([]byte("tybalt")) }), forgery{})
		}},
		{rule: RuleLeafCredential, name: "path", is: refuse, cfg: strict, message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Credential = BasicCredential([]byte("tybalt")) }})
		}},

		{rule: RuleLeafCredential, name: "sent", is: refuse, cfg: strict, check: func(c *court) error {
			_, err := c.f.g.Commit(&CommitOptions{Update: &LeafChange{Identity: testIdentity(c, suite1, "tybalt")}})
			return err
		}},
		{rule: RuleLeafSignature, name: "add", message: func(c *court) *Message {
			kp := c.keyPackage(nil)
			kp.KeyPackage.LeafNode = badSignature(c.f.g.s, kp.KeyPackage.LeafNode)
			if err := kp.KeyPackage.sign(c.f.g.s, kp.key); err != nil {
				c.Fatal(err)
			}
			return c.commit(forgery{}, &Add{kp.KeyPackage})
		}},
		{rule: RuleLeafSignature, name: "update", message: func(c *court) *Message {
			return c.f.proposal(&Update{badSignature(c.f.g.s, c.update(nil).LeafNode)}, forgery{})
		}},
		{rule: RuleLeafSignature, name: "update-of-another-group", message: func(c *court) *Message {
			return c.f.proposal(&Update{resign(c.f.g.s, c.update(nil).LeafNode, c.f.g.me.Key, GroupID("orchard"), c.f.g.self)}, forgery{})
		}},
		{rule: RuleLeafSignature, name: "update-of-another-leaf", message: func(c *court) *Message {
			return c.f.proposal(&Update{resign(c.f.g.s, c.update(nil).LeafNode, c.f.g.me.Key, c.f.g.GroupID(), c.f.g.self+1)}, forgery{})
		}},
		{rule: RuleLeafSignature, name: "path", message: func(c *court) *Message {
			return c.commit(forgery{unsignedLeaf: func(l *LeafNode) { l.Signature = flip(l.Signature) }})
		}},
		{rule: RuleLeafSignature, name: "path-of-another-group", message: func(c *court) *Message {
			return c.commit(forgery{unsignedLeaf: func(l *LeafNode) {
				*l = *resign(c.f.g.s, l, c.f.g.me.Key, GroupID("orchard"), c.f.g.self)
			}})
		}},
		{rule: RuleLeafSignature, name: "path-without", message: func(c *court) *Message {
			return c.commit(forgery{unsignedLeaf: func(l *LeafNode) { l.Signature = nil }})
		}},

		{rule: RuleLeafRequired, name: "proposal", message: func(c *court) *Message {
			required(c, &RequiredCapabilities{Proposals: []ProposalType{ProposalSelfRemove}})
			return addLeaf(func(l *LeafNode) { l.Capabilities.Proposals = nil })(c)
		}},
		{rule: RuleLeafRequired, name: "extension", message: func(c *court) *Message {
			required(c, &RequiredCapabilities{Extensions: []ExtensionType{ExtensionLastResort}})
			return addLeaf(func(l *LeafNode) {
				l.Capabilities.Extensions = slices.DeleteFunc(l.Capabilities.Extensions, func(t ExtensionType) bool { return t == ExtensionLastResort })
			})(c)
		}},
		{rule: RuleLeafRequired, name: "credential", message: func(c *court) *Message {
			required(c, &RequiredCapabilities{Credentials: []CredentialType{CredentialX509}})
			return addLeaf(func(l *LeafNode) { l.Capabilities.Credentials = []CredentialType{CredentialBasic} })(c)
		}},
		{rule: RuleLeafRequired, name: "path", message: func(c *court) *Message {
			required(c, &RequiredCapabilities{Proposals: []ProposalType{ProposalSelfRemove}})
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Capabilities.Proposals = nil }})
		}},

		{rule: RuleLeafCredentialSupport, name: "of-the-others", message: addLeaf(func(l *LeafNode) {
			l.Credential = Credential{Type: 0xf00d, Raw: []byte("new")}
			l.Capabilities.Credentials = []CredentialType{0xf00d}
		})},
		{rule: RuleLeafCredentialSupport, name: "by-the-others", message: addLeaf(func(l *LeafNode) {
			l.Credential = Credential{Type: 0xf00d, Raw: []byte("new")}
			l.Capabilities.Credentials = append(l.Capabilities.Credentials, 0xf00d)
		})},

		{rule: RuleLeafExpired, name: "past", cfg: func(c *Config) { c.CheckReceivedLifetimes = true }, message: addLeaf(func(l *LeafNode) {
			l.Lifetime = Lifetime{1000, 2000}
		})},
		{rule: RuleLeafExpired, name: "future", cfg: func(c *Config) { c.CheckReceivedLifetimes = true }, message: addLeaf(func(l *LeafNode) {
			l.Lifetime = Lifetime{1 << 40, 1<<40 + 1000}
		})},
		{rule: RuleLeafExpiredSending, name: "directory", check: verify(func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{1000, 2000} })},
		{rule: RuleLeafExpiredSending, name: "commit", check: func(c *court) error {
			_, err := c.f.g.Commit(&CommitOptions{Add: []*KeyPackage{c.keyPackage(func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{1000, 2000} }).KeyPackage}})
			return err
		}},
		{rule: RuleLeafExpiredSending, name: "proposal", check: func(c *court) error {
			_, _, err := c.f.g.ProposeAdd(c.keyPackage(func(kp *KeyPackage) { kp.LeafNode.Lifetime = Lifetime{1000, 2000} }).KeyPackage, nil)
			return err
		}},

		{rule: RuleLeafExtensions, name: "add", message: addLeaf(func(l *LeafNode) { l.Extensions = append(l.Extensions, Extension{0xf00d, nil}) })},
		{rule: RuleLeafExtensions, name: "path", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Extensions = Extensions{{0xf00d, nil}} }})
		}},
		{rule: RuleLeafSourceKeyPackage, name: "update", message: addLeaf(func(l *LeafNode) { l.Source = LeafNodeUpdate })},
		{rule: RuleLeafSourceKeyPackage, name: "commit", message: addLeaf(func(l *LeafNode) { l.Source = LeafNodeCommit })},
		{rule: RuleLeafSourceUpdate, name: "commit", message: func(c *court) *Message {
			return c.f.proposal(c.update(func(l *LeafNode) { l.Source = LeafNodeCommit }), forgery{})
		}},
		{rule: RuleLeafSourceUpdate, name: "key-package", message: func(c *court) *Message {
			return c.f.proposal(c.update(func(l *LeafNode) { l.Source, l.Lifetime = LeafNodeKeyPackage, Lifetime{0, 1 << 40} }), forgery{})
		}},
		{rule: RuleLeafSourceUpdate, name: "old-key", message: func(c *court) *Message {
			return c.f.proposal(c.update(func(l *LeafNode) { l.EncryptionKey = c.f.g.Self().Leaf.EncryptionKey }), forgery{})
		}},
		{rule: RuleLeafSourceCommit, name: "update", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Source = LeafNodeUpdate }})
		}},
		{rule: RuleLeafSourceCommit, name: "key-package", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Source, l.Lifetime = LeafNodeKeyPackage, Lifetime{0, 1 << 40} }})
		}},

		{rule: RuleSignatureKeyUnique, name: "path", message: func(c *court) *Message {
			return c.commit(forgery{leafKey: c.tg.members["juliet"].me.Key})
		}},
		{rule: RuleSignatureKeyUnique, name: "update", message: func(c *court) *Message {
			// Juliet and mallory are accomplices.
			juliet := c.tg.members["juliet"]
			u := c.update(func(l *LeafNode) { l.SignatureKey = juliet.me.Key.Public() })
			u.LeafNode = resign(juliet.s, u.LeafNode, juliet.me.Key, c.f.g.GroupID(), c.f.g.self)
			m := wire(c, c.f.proposal(u, forgery{}))
			for name, g := range c.tg.members {
				if name == "mallory" {
					continue
				}
				r, err := g.Process(m)
				if err != nil {
					c.Fatal(err)
				}
				c.tg.members[name] = r.(*StagedProposal).Merge()
			}
			r, err := c.tg.public.Process(m)
			if err != nil {
				c.Fatal(err)
			}
			c.tg.public = r.Merge()
			// Romeo's commit, forged: an honest one would leave the proposal out.
			f := forge{c.T, c.tg.members["romeo"]}
			delete(c.tg.members, "romeo")
			return f.commit([]ProposalOrRef{{Ref: f.g.pending[0].ref}}, forgery{}).message
		}},
		{rule: RuleEncryptionUnique, name: "of-a-member", message: func(c *court) *Message {
			return c.add(func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = c.tg.members["juliet"].Self().Leaf.EncryptionKey })
		}},
		{rule: RuleEncryptionUnique, name: "of-a-parent", message: func(c *court) *Message {
			p := c.commit(forgery{noPath: true}, &Add{c.keyPackage(func(kp *KeyPackage) {
				kp.LeafNode.EncryptionKey = c.f.g.tree.root.parent.encryptionKey
			}).KeyPackage})
			return p
		}},
		{rule: RuleEncryptionUnique, name: "of-another-add", message: func(c *court) *Message {
			a := c.keyPackage(nil)
			b := c.keyPackage(func(kp *KeyPackage) { kp.LeafNode.EncryptionKey = a.KeyPackage.LeafNode.EncryptionKey })
			return c.commit(forgery{}, &Add{a.KeyPackage}, &Add{b.KeyPackage})
		}},
		{rule: RuleLeafOwnCredential, name: "add", message: addLeaf(func(l *LeafNode) { l.Capabilities.Credentials = []CredentialType{CredentialX509} })},
		{rule: RuleLeafDefaults, name: "extension", message: addLeaf(func(l *LeafNode) {
			l.Capabilities.Extensions = append(l.Capabilities.Extensions, ExtensionRequiredCapabilities)
		})},
		{rule: RuleLeafDefaults, name: "proposal", message: addLeaf(func(l *LeafNode) { l.Capabilities.Proposals = append(l.Capabilities.Proposals, ProposalAdd) })},
		{rule: RuleLeafDefaults, name: "path", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Capabilities.Proposals = append(l.Capabilities.Proposals, ProposalReInit) }})
		}},
		{rule: RuleLeafLifetime, name: "backwards", message: addLeaf(func(l *LeafNode) { l.Lifetime = Lifetime{2000, 1000} })},
		{rule: RuleLeafLifetime, name: "backwards-without-limit", cfg: func(c *Config) { c.Limits.MaxLifetime = -1 },
			message: addLeaf(func(l *LeafNode) { l.Lifetime = Lifetime{2000, 1000} })},
		{rule: RuleLeafLifetime, name: "too-long", message: addLeaf(func(l *LeafNode) { l.Lifetime = Lifetime{0, 1<<64 - 1} })},
		{rule: RuleLeafLifetime, name: "longer-than-configured", cfg: func(c *Config) { c.Limits.MaxLifetime = DefaultLifetime + 2*time.Hour },
			message: addLeaf(func(l *LeafNode) { l.Lifetime.NotAfter += 3 * 3600 })},
		{rule: RuleCredentialX509, name: "no-certificate", message: addLeaf(func(l *LeafNode) { l.Credential = X509Credential() })},
		{rule: RuleCredentialX509, name: "not-der", message: addLeaf(func(l *LeafNode) { l.Credential = X509Credential([]byte("certificate")) })},
		{rule: RuleLeafKeys, name: "no-encryption-key", message: addLeaf(func(l *LeafNode) { l.EncryptionKey = nil })},
		{rule: RuleLeafKeys, name: "long-encryption-key", message: addLeaf(func(l *LeafNode) { l.EncryptionKey = long })},
		{rule: RuleLeafKeys, name: "zero-encryption-key", message: addLeaf(func(l *LeafNode) { l.EncryptionKey = make([]byte, 32) })},
		{rule: RuleLeafKeys, name: "no-signature-key", message: addLeaf(func(l *LeafNode) { l.SignatureKey = nil })},
		{rule: RuleLeafKeys, name: "short-signature-key", message: addLeaf(func(l *LeafNode) { l.SignatureKey = l.SignatureKey[:31] })},
		{rule: RuleLeafKeys, name: "low-order-signature-key", message: addLeaf(func(l *LeafNode) { l.SignatureKey = append([]byte{1}, make([]byte, 31)...) })},
		{rule: RuleLeafSuite, name: "suite", message: addLeaf(func(l *LeafNode) {
			l.Capabilities.CipherSuites = slices.DeleteFunc(l.Capabilities.CipherSuites, func(cs CipherSuite) bool { return cs == suite1 })
		})},
		{rule: RuleLeafSuite, name: "version", message: addLeaf(func(l *LeafNode) { l.Capabilities.Versions = []ProtocolVersion{2} })},
		{rule: RuleLeafSuccessor, name: "path", is: ErrIdentityChanged, message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Credential = BasicCredential([]byte("juliet")) }})
		}},
		{rule: RuleLeafSuccessor, name: "update", is: ErrIdentityChanged, message: func(c *court) *Message {
			return c.f.proposal(c.update(func(l *LeafNode) { l.Credential = BasicCredential([]byte("juliet")) }), forgery{})
		}},
		{rule: RuleExtensionLeaf, name: "add", message: addLeaf(func(l *LeafNode) {
			l.Extensions = Extensions{(&RequiredCapabilities{}).Extension()}
		})},
		{rule: RuleExtensionLeaf, name: "path", message: func(c *court) *Message {
			return c.commit(forgery{leaf: func(l *LeafNode) { l.Extensions = Extensions{{ExtensionRatchetTree, []byte{0}}} }})
		}},
		{rule: RuleExtensionUnique, name: "leaf", message: addLeaf(func(l *LeafNode) { l.Extensions = append(l.Extensions, l.Extensions[0]) })},
		{rule: RuleAppDataFormat, name: "leaf", message: addLeaf(func(l *LeafNode) {
			l.Extensions = Extensions{AppData{{2, nil}, {1, nil}}.Extension()}
		})},
	}

	offences["TestKeyPackageRules"] = []offence{
		{rule: RuleKeyPackageSuite, name: "suite", message: func(c *court) *Message { return c.add(func(kp *KeyPackage) { kp.CipherSuite = 3 }) }},
		{rule: RuleKeyPackageSuite, name: "version", message: func(c *court) *Message { return c.add(func(kp *KeyPackage) { kp.Version = 7 }) }},
		{rule: RuleKeyPackageSuite, name: "proposal", message: func(c *court) *Message {
			return c.f.proposal(&Add{c.keyPackage(func(kp *KeyPackage) { kp.CipherSuite = 3 }).KeyPackage}, forgery{})
		}},
		{rule: RuleKeyPackageLeaf, name: "leaf", want: RuleLeafOwnCredential, check: verify(func(kp *KeyPackage) { kp.LeafNode.Capabilities.Credentials = nil })},
		{rule: RuleKeyPackageSignature, name: "commit", message: func(c *court) *Message {
			kp := c.keyPackage(nil).KeyPackage
			kp.raw, kp.Signature = nil, flip(kp.Signature)
			return c.commit(forgery{}, &Add{kp})
		}},
		{rule: RuleKeyPackageSignature, name: "proposal", message: func(c *court) *Message {
			kp := c.keyPackage(nil).KeyPackage
			kp.raw, kp.Signature = nil, cut(kp.Signature)
			return c.f.proposal(&Add{kp}, forgery{})
		}},
		{rule: RuleKeyPackageSignature, name: "by-another", message: func(c *court) *Message {
			kp := c.keyPackage(nil).KeyPackage
			if err := kp.sign(c.f.g.s, c.f.g.me.Key); err != nil {
				c.Fatal(err)
			}
			return c.commit(forgery{}, &Add{kp})
		}},
		{rule: RuleKeyPackageInitKey, name: "same", message: func(c *court) *Message {
			return c.add(func(kp *KeyPackage) { kp.InitKey = kp.LeafNode.EncryptionKey })
		}},
		{rule: RuleKeyPackageInitKey, name: "none", check: verify(func(kp *KeyPackage) { kp.InitKey = nil })},
		{rule: RuleKeyPackageInitKey, name: "zero", check: verify(func(kp *KeyPackage) { kp.InitKey = make([]byte, 32) })},
		{rule: RuleKeyPackageVersion, name: "directory", check: verify(func(kp *KeyPackage) { kp.Version = 2 })},
		{rule: RuleExtensionKeyPackage, name: "add", message: func(c *court) *Message {
			return c.add(func(kp *KeyPackage) { kp.Extensions = Extensions{{ExtensionApplicationID, []byte("id")}} })
		}},
		{rule: RuleExtensionUnique, name: "add", message: func(c *court) *Message {
			return c.add(func(kp *KeyPackage) { kp.Extensions = Extensions{{0xf00d, nil}, {0xf00d, nil}} })
		}},
		{rule: RuleAppDataFormat, name: "add", message: func(c *court) *Message {
			return c.add(func(kp *KeyPackage) { kp.Extensions = Extensions{{ExtensionAppDataDictionary, []byte{1}}} })
		}},
		{rule: RuleLimit, name: "extensions", message: func(c *court) *Message {
			return c.add(func(kp *KeyPackage) {
				for i := range DefaultMaxExtensions + 1 {
					kp.Extensions = append(kp.Extensions, Extension{ExtensionType(0xf000 + i), nil})
				}
			})
		}},
	}
}

func TestLeafRules(t *testing.T)       { tryAll(t) }
func TestKeyPackageRules(t *testing.T) { tryAll(t) }

// authFuncs makes an [Authenticator] of functions.
type authFuncs struct {
	credential func(Credential, []byte, CredentialUse) error
	successor  func(old, new *LeafNode) error
}

func (a authFuncs) ValidateCredential(c Credential, key []byte, use CredentialUse) error {
	return a.credential(c, key, use)
}
func (a authFuncs) ValidateSuccessor(old, new *LeafNode) error { return a.successor(old, new) }

// TestKeyPackageListsItsExtensions: what this package makes, with GREASE and all
// (RFC 9420 §10).
func TestKeyPackageListsItsExtensions(t *testing.T) {
	me := testIdentity(t, suite1, "juliet")
	for range 20 { // the GREASE values are drawn
		kp := must(NewKeyPackage(nil, suite1, me, &KeyPackageOptions{LastResort: true, Extensions: Extensions{{0xf00d, nil}}})).KeyPackage
		if len(kp.Extensions) != 4 {
			t.Fatalf("extensions %v", kp.Extensions)
		}
		if !slices.ContainsFunc(kp.LeafNode.Extensions, func(x Extension) bool { return isGREASE(x.Type) }) {
			t.Error("no GREASE extension in the leaf")
		}
		for _, x := range append(kp.Extensions, kp.LeafNode.Extensions...) {
			if !slices.Contains(kp.LeafNode.Capabilities.Extensions, x.Type) {
				t.Errorf("extension %v is not listed", x.Type)
			}
		}
	}
}

// TestGREASE: random values in capabilities and extension lists are no offence
// (RFC 9420 §13.5).
func TestGREASE(t *testing.T) {
	o := &offence{}
	c := newCourt(t, o)
	m := c.add(func(kp *KeyPackage) {
		kp.Extensions, kp.LeafNode.Extensions = nil, nil
		for b := range byte(15) {
			v := greaseValue(b)
			l := kp.LeafNode
			l.Capabilities.CipherSuites = append(l.Capabilities.CipherSuites, CipherSuite(v))
			l.Capabilities.Extensions = append(l.Capabilities.Extensions, ExtensionType(v))
			l.Capabilities.Proposals = append(l.Capabilities.Proposals, ProposalType(v))
			l.Capabilities.Credentials = append(l.Capabilities.Credentials, CredentialType(v))
			l.Capabilities.Versions = append(l.Capabilities.Versions, ProtocolVersion(v))
			l.Extensions = append(l.Extensions, Extension{ExtensionType(v), []byte{b}})
			kp.Extensions = append(kp.Extensions, Extension{ExtensionType(v), []byte{b}})
		}
	})
	if _, err := c.tg.members["juliet"].Process(m); err != nil {
		t.Error(err)
	}
	if _, err := c.tg.public.Process(m); err != nil {
		t.Error(err)
	}
}
