// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"slices"
	"testing"
)

// A forge makes what a dishonest member can: messages that are broken in one
// place and right in all others, with real signatures, tags and keys.
type forge struct {
	t testing.TB
	g *Group // mallory's
}

// resign gives a leaf node that was changed a new encoding and, with a key, a
// new signature. Without a key the old signature stays, which is then wrong.
func resign(s *suite, l *LeafNode, key *SignaturePrivateKey, id GroupID, at LeafIndex) *LeafNode {
	c := *l
	c.raw = nil
	if key == nil {
		c.raw = c.appendTo(nil)
	} else if err := c.sign(s, key, id, at); err != nil {
		panic(err)
	}
	return &c
}

// forgeKeyPackage makes a key package, lets edit change it, its leaf among it, and
// signs both.
func forgeKeyPackage(t testing.TB, cs CipherSuite, name string, edit func(kp *KeyPackage)) *PrivateKeyPackage {
	t.Helper()
	p := testKeyPackage(t, &Config{Suites: AllCipherSuites()}, cs, name)
	if edit == nil {
		return p
	}
	s := mustSuite(t, cs)
	kp := *p.KeyPackage
	leaf := *kp.LeafNode
	kp.LeafNode = &leaf
	edit(&kp)
	kp.LeafNode = resign(s, kp.LeafNode, p.key, nil, 0)
	if err := kp.sign(s, p.key); err != nil {
		t.Fatal(err)
	}
	p.KeyPackage = &kp
	return p
}

// A forgery says where a message is broken. Nil functions change nothing.
type forgery struct {
	// wire is the format, public if zero.
	wire WireFormat
	// content changes the content before it is signed.
	content func(c *FramedContent)
	// key signs instead of the sender's own.
	key *SignaturePrivateKey
	// context is signed instead of the epoch's GroupContext.
	context []byte
	// signature, membershipTag and confirmationTag change these octets.
	signature       func([]byte) []byte
	membershipTag   func([]byte) []byte
	confirmationTag func([]byte) []byte
	// plaintext changes the octets that a PrivateMessage encrypts, senderData who
	// it says has sent it.
	plaintext  func([]byte) []byte
	senderData func(d *senderData)
	// senderDataBytes changes the octets that say so before they are encrypted.
	senderDataBytes func([]byte) []byte

	// Of commits:

	// noPath and path say whether the commit has a path; by default it has.
	noPath bool
	// leaf changes the path's leaf before it is signed by leafKey or the sender;
	// unsignedLeaf after.
	leaf         func(l *LeafNode)
	leafKey      *SignaturePrivateKey
	unsignedLeaf func(l *LeafNode)
	// path changes the path after it was encrypted.
	path func(p *UpdatePath)
	// keys changes the keys of the path's nodes before the tree is hashed.
	keys func(nodes []UpdatePathNode)
	// secrets changes the path secrets after the keys were derived from them.
	secrets func(secrets [][]byte)
	// external makes it an external commit by key, with this KEM output and init
	// secret.
	external   bool
	initSecret []byte
	// psks are the pre-shared keys of the PreSharedKey proposals, in order.
	psks [][]byte
	// groupInfo changes the GroupInfo before it is signed, and welcome the secrets
	// before they are sealed, of the Welcome that a commit with Adds gives.
	groupInfo      func(gi *GroupInfo)
	groupInfoKey   *SignaturePrivateKey
	groupInfoBytes func([]byte) []byte
	groupSecrets   func(gs *groupSecrets)
	groupInfoTree  bool
}

func apply(f func([]byte) []byte, b []byte) []byte {
	if f == nil {
		return b
	}
	return f(bytes.Clone(b))
}

// flip breaks the last octet; cut drops it; empty drops all.
func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}
func cut(b []byte) []byte  { return b[:len(b)-1] }
func empty([]byte) []byte  { return []byte{} }
func grow(b []byte) []byte { return append(b, 0) }

// proposal sends a proposal.
func (f forge) proposal(p Proposal, y forgery) *Message {
	f.t.Helper()
	a := f.g.content(y.format(), ContentProposal, nil)
	a.content.Proposal = p
	return f.frame(a, y)
}

// application sends application data.
func (f forge) application(data []byte, y forgery) *Message {
	f.t.Helper()
	if y.wire == 0 {
		y.wire = WireFormatPrivateMessage
	}
	a := f.g.content(y.wire, ContentApplication, nil)
	a.content.Application = data
	return f.frame(a, y)
}

func (y *forgery) format() WireFormat {
	if y.wire == 0 {
		return WireFormatPublicMessage
	}
	return y.wire
}

// sign signs a as the forgery says.
func (f forge) sign(a *authenticatedContent, y forgery) {
	f.t.Helper()
	if y.content != nil {
		y.content(&a.content)
	}
	key, context := y.key, y.context
	if key == nil {
		key = f.g.me.Key
	}
	if context == nil {
		context = f.g.ctxBytes
	}
	if err := f.g.s.signContent(a, key, context); err != nil {
		f.t.Fatal(err)
	}
	a.auth.signature = apply(y.signature, a.auth.signature)
}

// frame signs a, unless it is signed, and frames it.
func (f forge) frame(a *authenticatedContent, y forgery) *Message {
	f.t.Helper()
	if a.auth.signature == nil {
		f.sign(a, y)
	}
	if a.wireFormat == WireFormatPublicMessage {
		m := &PublicMessage{Content: a.content, auth: a.auth}
		m.membershipTag = apply(y.membershipTag, f.g.s.membershipTag(f.g.keys.secrets.membershipKey, a, f.g.ctxBytes))
		return wire(f.t, newMessage(&Message{Public: m}))
	}
	return wire(f.t, newMessage(&Message{Private: f.encrypt(a, y)}))
}

// encrypt is sealer.seal without its scruples.
func (f forge) encrypt(a *authenticatedContent, y forgery) *PrivateMessage {
	f.t.Helper()
	s, c := f.g.s, &a.content
	m := &PrivateMessage{GroupID: c.GroupID, Epoch: c.Epoch, ContentType: c.ContentType, AuthenticatedData: c.AuthenticatedData}
	plain := apply(y.plaintext, a.auth.appendTo(c.appendBody(nil), c.ContentType))
	d := senderData{leaf: f.g.self}
	generation, key, nonce, err := f.g.keys.messages.next(f.g.self, ratchetOf(c.ContentType))
	if err != nil {
		f.t.Fatal(err)
	}
	d.generation = generation
	d.guard(nonce)
	if m.Ciphertext, err = s.seal(key, nonce, m.appendContentAAD(nil), plain); err != nil {
		f.t.Fatal(err)
	}
	if y.senderData != nil {
		y.senderData(&d)
	}
	sdKey, sdNonce := s.senderDataKeyNonce(f.g.keys.secrets.senderDataSecret, m.Ciphertext)
	if m.EncryptedSenderData, err = s.seal(sdKey, sdNonce, m.appendSenderDataAAD(nil), apply(y.senderDataBytes, d.appendTo(nil))); err != nil {
		f.t.Fatal(err)
	}
	return m
}

// A forgedCommit is a commit of mallory, and what follows from it.
type forgedCommit struct {
	message *Message
	welcome *Welcome
	tree    *ratchetTree
	ctx     GroupContext
	self    LeafIndex
}

// byValue makes commit entries of proposals.
func byValue(list ...Proposal) (entries []ProposalOrRef) {
	for _, p := range list {
		entries = append(entries, ProposalOrRef{Proposal: p})
	}
	return entries
}

// commit commits proposals that no rule has looked at: those that make sense are
// applied, in the order of RFC 9420 §12.3.
func (f forge) commit(entries []ProposalOrRef, y forgery) *forgedCommit {
	f.t.Helper()
	g, s := f.g, f.g.s
	e := g.tree.edit()
	ctx := GroupContext{
		Version: MLS10, CipherSuite: s.cipher, GroupID: g.ctx.GroupID, Epoch: g.ctx.Epoch + 1,
		ConfirmedTranscriptHash: g.ctx.ConfirmedTranscriptHash, Extensions: g.ctx.Extensions,
	}
	adds, psks := f.applyEntries(e, &ctx, entries, y.external)
	self := g.self
	if y.external {
		self = e.freeLeaf()
	}
	content := &Commit{Proposals: entries}
	var path *newPath
	if !y.noPath {
		path = f.forgePath(e, self, y)
		content.Path = path.path
	}
	t := e.seal()
	ctx.TreeHash = t.treeHash()
	var commitSecret []byte
	if path != nil {
		if y.secrets != nil {
			y.secrets(path.secrets)
		}
		if err := e.encryptPath(nil, path, ctx.Bytes()); err != nil {
			f.t.Fatal(err)
		}
		commitSecret = path.commitSecret
		if y.path != nil {
			y.path(content.Path)
		}
	}
	a := g.content(y.format(), ContentCommit, nil)
	a.content.Commit = content
	initSecret := g.keys.secrets.initSecret
	if y.external {
		a.content.Sender = Sender{Type: SenderNewMemberCommit}
		initSecret = y.initSecret
	}
	f.sign(a, y)
	ctx.ConfirmedTranscriptHash = s.confirmedTranscriptHash(g.interim, a.confirmedInput())
	var pskSecret []byte
	if len(psks) > 0 {
		var err error
		if pskSecret, err = s.pskSecret(psks, y.psks); err != nil {
			f.t.Fatal(err)
		}
	}
	joiner := s.joinerSecret(initSecret, commitSecret, ctx.Bytes())
	secrets := s.epochSecretsFromJoiner(joiner, pskSecret, ctx.Bytes())
	tag := s.confirmationTag(secrets.confirmationKey, ctx.ConfirmedTranscriptHash)
	a.auth.confirmationTag = apply(y.confirmationTag, tag)
	out := &forgedCommit{tree: t, ctx: ctx, self: self}
	if len(adds) > 0 {
		out.welcome = f.forgeWelcome(out, adds, secrets.welcomeSecret, joiner, tag, path, entries, y)
	}
	out.message = f.frame(a, y)
	return out
}

// applyEntries changes a tree and a context by the proposals.
func (f forge) applyEntries(e *treeEdit, ctx *GroupContext, entries []ProposalOrRef, external bool) (adds []Member, psks [][]byte) {
	g := f.g
	type listed struct {
		p  Proposal
		by Sender
	}
	var list []listed
	for _, entry := range entries {
		p, by := entry.Proposal, Sender{SenderMember, uint32(g.self)}
		if p == nil {
			pending := g.findPending(entry.Ref)
			if pending == nil {
				continue
			}
			p, by = pending.proposal, pending.sender
		}
		list = append(list, listed{p, by})
	}
	remove := func(i LeafIndex) {
		if (external || i != g.self) && e.t.leaf(i) != nil {
			e.removeLeaf(i)
		}
	}
	for _, l := range list {
		switch v := l.p.(type) {
		case *GroupContextExtensions:
			ctx.Extensions = v.Extensions
		case *PreSharedKey:
			psks = append(psks, v.ID.appendTo(nil))
		case *Update:
			e.updateLeaf(LeafIndex(l.by.Index), v.LeafNode)
		}
	}
	for _, l := range list {
		switch v := l.p.(type) {
		case *SelfRemove:
			remove(LeafIndex(l.by.Index))
		case *Remove:
			remove(v.Removed)
		}
	}
	for _, l := range list {
		if v, ok := l.p.(*Add); ok {
			adds = append(adds, Member{e.addLeaf(v.KeyPackage.LeafNode), v.KeyPackage.LeafNode})
		}
	}
	for _, l := range list {
		if v, ok := l.p.(*AppDataUpdate); ok {
			d, _ := ctx.Extensions.AppData()
			if v.Op == AppDataUpdateOp {
				d = d.With(v.Component, v.Update)
			} else {
				d = d.Without(v.Component)
			}
			ctx.Extensions = ctx.Extensions.With(ExtensionAppDataDictionary, d.Extension().Data)
		}
	}
	return adds, psks
}

// forgePath is treeEdit.makePath with a hand in it.
func (f forge) forgePath(e *treeEdit, self LeafIndex, y forgery) *newPath {
	f.t.Helper()
	s := f.g.s
	must := func(err error) {
		if err != nil {
			f.t.Fatal(err)
		}
	}
	priv, pub, err := s.generateHPKEKeyPair(nil)
	must(err)
	n := &newPath{private: &treePrivate{self: self, leaf: priv, path: make([]*hpkePrivateKey, e.t.levels())}, steps: e.t.filteredPath(self)}
	secret := make([]byte, s.nh)
	must(readRandom(nil, secret))
	nodes := make([]UpdatePathNode, len(n.steps))
	for k, step := range n.steps {
		n.secrets = append(n.secrets, bytes.Clone(secret))
		nodePriv, nodePub, err := s.pathKeys(secret)
		must(err)
		n.private.path[step.at.level()-1] = nodePriv
		nodes[k].EncryptionKey = nodePub
		secret = s.nextPathSecret(secret)
	}
	n.commitSecret = secret
	if y.keys != nil {
		y.keys(nodes)
	}
	me := f.g.me
	old := f.g.Self().Leaf
	leaf := &LeafNode{SignatureKey: old.SignatureKey, Credential: old.Credential, Capabilities: old.Capabilities, Extensions: old.Extensions}
	key := me.Key
	if y.leafKey != nil {
		key = y.leafKey
		leaf.SignatureKey = key.Public()
	}
	leaf.EncryptionKey, leaf.Source = pub, LeafNodeCommit
	leaf.ParentHash = e.setPath(self, n.steps, nodes)
	if y.leaf != nil {
		leaf.Capabilities.Extensions = slices.Clone(leaf.Capabilities.Extensions)
		leaf.Capabilities.Proposals = slices.Clone(leaf.Capabilities.Proposals)
		leaf.Capabilities.Credentials = slices.Clone(leaf.Capabilities.Credentials)
		y.leaf(leaf)
	}
	leaf = resign(s, leaf, key, f.g.ctx.GroupID, self)
	if y.unsignedLeaf != nil {
		y.unsignedLeaf(leaf)
		leaf = resign(s, leaf, nil, nil, 0)
	}
	e.setLeaf(self, leaf)
	n.path = &UpdatePath{LeafNode: leaf, Nodes: nodes}
	return n
}

// forgeWelcome makes the Welcome of a forged commit.
func (f forge) forgeWelcome(c *forgedCommit, adds []Member, welcomeSecret, joiner, tag []byte, path *newPath, entries []ProposalOrRef, y forgery) *Welcome {
	f.t.Helper()
	s := f.g.s
	gi := &GroupInfo{Context: c.ctx, ConfirmationTag: tag, Signer: c.self}
	if y.groupInfoTree {
		gi.Extensions = append(gi.Extensions, Extension{ExtensionRatchetTree, c.tree.marshal(nil)})
	}
	if y.groupInfo != nil {
		y.groupInfo(gi)
	}
	key := y.groupInfoKey
	if key == nil {
		key = f.g.me.Key
	}
	if err := gi.sign(s, key); err != nil {
		f.t.Fatal(err)
	}
	wKey, wNonce := s.welcomeKeyNonce(welcomeSecret)
	sealed, err := s.seal(wKey, wNonce, nil, apply(y.groupInfoBytes, gi.Bytes()))
	if err != nil {
		f.t.Fatal(err)
	}
	w := &Welcome{CipherSuite: s.cipher, EncryptedGroupInfo: sealed}
	var ids []PreSharedKeyID
	var kps []*KeyPackage
	for _, e := range entries {
		switch v := e.Proposal.(type) {
		case *PreSharedKey:
			ids = append(ids, v.ID)
		case *Add:
			kps = append(kps, v.KeyPackage)
		}
	}
	for i, m := range adds {
		gs := &groupSecrets{joinerSecret: joiner, psks: ids}
		if path != nil {
			gs.pathSecret = path.secretFor(m.Index)
		}
		if y.groupSecrets != nil {
			y.groupSecrets(gs)
		}
		ct, err := s.encryptWithLabel(nil, kps[i].InitKey, "Welcome", sealed, gs.appendTo(nil))
		if err != nil {
			f.t.Fatal(err)
		}
		ref, err := kps[i].Ref()
		if err != nil {
			f.t.Fatal(err)
		}
		w.Secrets = append(w.Secrets, EncryptedGroupSecrets{ref, ct})
	}
	return wire(f.t, w.Message()).Welcome
}

// tree makes a group of its own out of leaves that edit may have broken, and
// returns the GroupInfo with the tree, signed by the first member.
func forgeGroupInfo(t testing.TB, f *fabricated, edit func(e *treeEdit), change func(gi *GroupInfo)) *GroupInfo {
	t.Helper()
	e := f.st.tree.edit()
	if edit != nil {
		edit(e)
	}
	e.rehash()
	ctx := *f.st.ctx
	ctx.TreeHash = e.t.treeHash()
	gi := &GroupInfo{Context: ctx, ConfirmationTag: f.st.confirmationTag, Extensions: Extensions{{ExtensionRatchetTree, e.t.marshal(nil)}}}
	if change != nil {
		change(gi)
	}
	if err := gi.sign(f.s, f.me[0].Key); err != nil {
		t.Fatal(err)
	}
	return wire(t, gi.Message()).GroupInfo
}

// TestForgeHonest: a forgery that breaks nothing is accepted, so that what a test
// sees refused is refused for what it broke.
func TestForgeHonest(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "mallory", "juliet", "romeo")
	f := forge{t, tg.members["mallory"]}
	kp := forgeKeyPackage(t, suite1, "nurse", func(*KeyPackage) {})
	for _, y := range []forgery{{}, {wire: WireFormatPrivateMessage}, {noPath: true, groupInfoTree: true}, {groupInfoTree: true}} {
		c := f.commit(byValue(&Add{kp.KeyPackage}), y)
		for _, name := range []string{"juliet", "romeo"} {
			if _, err := tg.members[name].Process(c.message); err != nil {
				t.Errorf("%s refuses an honest commit: %v", name, err)
			}
		}
		if y.format() == WireFormatPublicMessage {
			if _, err := tg.public.Process(c.message); err != nil {
				t.Errorf("the observer refuses an honest commit: %v", err)
			}
		}
		if _, err := Join(nil, c.welcome, kp, &JoinOptions{Tree: c.tree.marshal(nil)}); err != nil {
			t.Errorf("nurse refuses an honest Welcome: %v", err)
		}
	}
	for _, format := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
		if _, err := tg.members["juliet"].Process(f.proposal(&Remove{2}, forgery{wire: format})); err != nil {
			t.Errorf("an honest proposal: %v", err)
		}
	}
	if _, err := tg.members["juliet"].Process(f.application([]byte("hello"), forgery{})); err != nil {
		t.Errorf("an honest message: %v", err)
	}
	if _, err := NewPublicGroup(nil, forgeGroupInfo(t, fabricate(t, nil, suite1, 9, true), nil, nil), nil); err != nil {
		t.Errorf("an honest GroupInfo: %v", err)
	}
}
