// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"testing"
)

// Commits whose path, keys or tags are wrong.
func init() {
	s := must(suite1.suite())
	path := func(edit func(p *UpdatePath)) func(c *court) *Message {
		return func(c *court) *Message { return c.commit(forgery{path: edit}) }
	}
	leaf := func(edit func(c *court, l *LeafNode)) func(c *court) *Message {
		return func(c *court) *Message { return c.commit(forgery{leaf: func(l *LeafNode) { edit(c, l) }}) }
	}
	keys := func(edit func(c *court, nodes []UpdatePathNode)) func(c *court) *Message {
		return func(c *court) *Message {
			return c.commit(forgery{keys: func(nodes []UpdatePathNode) { edit(c, nodes) }})
		}
	}
	secrets := func(edit func(secret []byte) []byte) func(c *court) *Message {
		return func(c *court) *Message {
			return c.commit(forgery{secrets: func(list [][]byte) {
				for i := range list {
					list[i] = edit(list[i])
				}
			}})
		}
	}
	noPath := func(list func(c *court) []Proposal) func(c *court) *Message {
		return func(c *court) *Message { return c.commit(forgery{noPath: true}, list(c)...) }
	}
	psk := &PreSharedKey{PreSharedKeyID{Type: PSKExternal, ID: []byte("feud"), Nonce: make([]byte, s.nh)}}
	wrongKey := func(c *Config) { c.PSKs = ExternalPSKs{"feud": []byte("Montague")} }
	psks := [][]byte{[]byte("Capulet")}

	offences["TestCommitRules"] = []offence{
		{rule: RulePathCiphertexts, name: "one-less", message: path(func(p *UpdatePath) { n := &p.Nodes[0]; n.EncryptedPathSecret = n.EncryptedPathSecret[1:] })},
		{rule: RulePathCiphertexts, name: "one-more", message: path(func(p *UpdatePath) {
			n := &p.Nodes[0]
			n.EncryptedPathSecret = append(n.EncryptedPathSecret, n.EncryptedPathSecret[0])
		})},
		{rule: RulePathCiphertexts, name: "none-at-the-root", message: path(func(p *UpdatePath) { p.Nodes[len(p.Nodes)-1].EncryptedPathSecret = nil })},
		{rule: RulePathCiphertexts, name: "to-a-newcomer", message: func(c *court) *Message {
			// As if the new leaf, in mercutio's old place, were part of the resolution.
			return c.commit(forgery{path: func(p *UpdatePath) {
				for k := range p.Nodes {
					n := &p.Nodes[k]
					n.EncryptedPathSecret = append(n.EncryptedPathSecret, n.EncryptedPathSecret[0])
				}
			}}, &Add{c.keyPackage(nil).KeyPackage})
		}},
		{rule: RulePathLength, name: "short", message: path(func(p *UpdatePath) { p.Nodes = p.Nodes[:len(p.Nodes)-1] })},
		{rule: RulePathLength, name: "long", message: path(func(p *UpdatePath) {
			p.Nodes = append(p.Nodes, UpdatePathNode{EncryptionKey: bytes.Repeat([]byte{9}, 32)})
		})},
		{rule: RulePathLength, name: "none", message: path(func(p *UpdatePath) { p.Nodes = nil })},
		{rule: RulePathParentHash, name: "flipped", message: leaf(func(c *court, l *LeafNode) { l.ParentHash = flip(l.ParentHash) })},
		{rule: RulePathParentHash, name: "none", message: leaf(func(c *court, l *LeafNode) { l.ParentHash = nil })},
		{rule: RulePathKeys, name: "other-secrets", blind: true, message: secrets(flip)},
		{rule: RulePathDecrypt, name: "ciphertext", blind: true, message: path(func(p *UpdatePath) {
			for k := range p.Nodes {
				for i := range p.Nodes[k].EncryptedPathSecret {
					ct := &p.Nodes[k].EncryptedPathSecret[i]
					ct.Ciphertext = flip(ct.Ciphertext)
				}
			}
		})},
		{rule: RulePathDecrypt, name: "kem-output", blind: true, message: path(func(p *UpdatePath) {
			for k := range p.Nodes {
				for i := range p.Nodes[k].EncryptedPathSecret {
					p.Nodes[k].EncryptedPathSecret[i].KEMOutput = []byte{1}
				}
			}
		})},
		{rule: RulePathDecrypt, name: "short-secret", blind: true, message: secrets(cut)},
		{rule: RulePathDecrypt, name: "long-secret", blind: true, message: secrets(grow)},
		{rule: RulePathDecrypt, name: "no-secret", blind: true, message: secrets(empty)},
		{rule: RulePathKeyFormat, name: "short", message: keys(func(c *court, n []UpdatePathNode) { n[0].EncryptionKey = cut(n[0].EncryptionKey) })},
		{rule: RulePathKeyFormat, name: "none", message: keys(func(c *court, n []UpdatePathNode) { n[len(n)-1].EncryptionKey = nil })},
		{rule: RulePathKeyFormat, name: "zero", message: keys(func(c *court, n []UpdatePathNode) { n[0].EncryptionKey = make([]byte, 32) })},

		{rule: RuleCommitLeaf, name: "own-credential", want: RuleLeafOwnCredential, message: leaf(func(c *court, l *LeafNode) { l.Capabilities.Credentials = []CredentialType{CredentialX509} })},
		{rule: RuleCommitLeaf, name: "source", want: RuleLeafSourceCommit, message: leaf(func(c *court, l *LeafNode) { l.Source = LeafNodeUpdate })},
		{rule: RuleCommitProposals, name: "committer", want: RuleRemoveCommitter, message: func(c *court) *Message { return c.commit(forgery{}, &Remove{c.f.g.self}) }},
		{rule: RuleCommitLeafKey, name: "old", message: leaf(func(c *court, l *LeafNode) { l.EncryptionKey = c.f.g.Self().Leaf.EncryptionKey })},
		{rule: RuleCommitPathKeys, name: "leaf-has-key-of-a-member", message: leaf(func(c *court, l *LeafNode) { l.EncryptionKey = c.tg.members["juliet"].Self().Leaf.EncryptionKey })},
		{rule: RuleCommitPathKeys, name: "leaf-has-key-of-a-parent", message: leaf(func(c *court, l *LeafNode) { l.EncryptionKey = c.f.g.tree.root.parent.encryptionKey })},
		{rule: RuleCommitPathKeys, name: "node-has-key-of-a-member", message: keys(func(c *court, n []UpdatePathNode) {
			n[0].EncryptionKey = c.tg.members["romeo"].Self().Leaf.EncryptionKey
		})},
		{rule: RuleCommitPathKeys, name: "node-keeps-its-key", message: keys(func(c *court, n []UpdatePathNode) { n[len(n)-1].EncryptionKey = c.f.g.tree.root.parent.encryptionKey })},
		{rule: RuleCommitPathKeys, name: "two-nodes", message: keys(func(c *court, n []UpdatePathNode) { n[1].EncryptionKey = n[0].EncryptionKey })},
		{rule: RuleCommitPathKeys, name: "leaf-and-node", message: func(c *court) *Message {
			var key []byte
			return c.commit(forgery{keys: func(n []UpdatePathNode) { key = n[0].EncryptionKey }, leaf: func(l *LeafNode) { l.EncryptionKey = key }})
		}},
		{rule: RuleCommitPathKeys, name: "key-of-a-newcomer", message: func(c *court) *Message {
			kp := c.keyPackage(nil).KeyPackage
			return c.commit(forgery{keys: func(n []UpdatePathNode) { n[0].EncryptionKey = kp.LeafNode.EncryptionKey }}, &Add{kp})
		}},
		{rule: RuleCommitPath, name: "empty-commit", message: noPath(func(c *court) []Proposal { return nil })},
		{rule: RuleCommitPath, name: "remove", message: noPath(func(c *court) []Proposal { return []Proposal{&Remove{c.self("romeo")}} })},
		{rule: RuleCommitPath, name: "add-and-remove", message: noPath(func(c *court) []Proposal {
			return []Proposal{&Add{c.keyPackage(nil).KeyPackage}, &Remove{c.self("romeo")}}
		})},
		{rule: RuleCommitPath, name: "context", message: noPath(func(c *court) []Proposal { return []Proposal{&GroupContextExtensions{}} })},
		{rule: RuleCommitPath, name: "update", message: func(c *court) *Message {
			ref := c.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) })
			return c.refs(forgery{noPath: true}, ref)
		}},
		{rule: RuleCommitPath, name: "selfremove", message: func(c *court) *Message {
			ref := c.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeSelfRemove(nil) })
			return c.refs(forgery{noPath: true}, ref)
		}},
		{rule: RuleCommitPSK, name: "external", is: ErrMissingPSK, blind: true, message: func(c *court) *Message { return c.commit(forgery{psks: psks}, psk) }},
		{rule: RuleCommitPSK, name: "resumption", is: ErrMissingPSK, blind: true, message: func(c *court) *Message {
			return c.commit(forgery{psks: psks}, &PreSharedKey{PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: c.f.g.GroupID(), Epoch: 1 << 40, Nonce: make([]byte, s.nh)}})
		}},
		{rule: RuleCommitPSK, name: "resumption-of-another-group", is: ErrMissingPSK, blind: true, message: func(c *court) *Message {
			return c.commit(forgery{psks: psks}, &PreSharedKey{PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: GroupID("orchard"), Epoch: 1, Nonce: make([]byte, s.nh)}})
		}},
		{rule: RuleConfirmationTag, name: "wrong", blind: true, message: func(c *court) *Message { return c.commit(forgery{confirmationTag: flip}) }},
		{rule: RuleConfirmationTag, name: "wrong-private", message: func(c *court) *Message {
			return c.commit(forgery{wire: WireFormatPrivateMessage, confirmationTag: flip})
		}},
		{rule: RuleConfirmationTag, name: "empty", message: func(c *court) *Message { return c.commit(forgery{confirmationTag: empty}) }},
		{rule: RuleConfirmationTag, name: "empty-private", message: func(c *court) *Message {
			return c.commit(forgery{wire: WireFormatPrivateMessage, confirmationTag: empty})
		}},
		{rule: RuleConfirmationTag, name: "one-octet", message: func(c *court) *Message {
			return c.commit(forgery{confirmationTag: func(b []byte) []byte { return b[:1] }})
		}},
		{rule: RuleConfirmationTag, name: "short", message: func(c *court) *Message { return c.commit(forgery{confirmationTag: cut}) }},
		{rule: RuleConfirmationTag, name: "long", message: func(c *court) *Message { return c.commit(forgery{confirmationTag: grow}) }},
		{rule: RuleConfirmationTag, name: "without-path", blind: true, message: func(c *court) *Message {
			return c.commit(forgery{noPath: true, confirmationTag: flip}, &Add{c.keyPackage(nil).KeyPackage})
		}},
		{rule: RuleConfirmationTag, name: "another-psk", blind: true, cfg: wrongKey, message: func(c *court) *Message { return c.commit(forgery{psks: psks}, psk) }},
	}
}

func TestCommitRules(t *testing.T) { tryAll(t) }
