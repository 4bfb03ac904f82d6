// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"slices"
	"testing"
)

// Messages whose frame, sender, tags or encryption are wrong.
func init() {
	private := forgery{wire: WireFormatPrivateMessage}
	remove := func(c *court) Proposal { return &Remove{c.self("romeo")} }
	proposal := func(y forgery) func(c *court) *Message {
		return func(c *court) *Message { return c.f.proposal(remove(c), y) }
	}
	application := func(y forgery) func(c *court) *Message {
		return func(c *court) *Message { return c.f.application([]byte("hello"), y) }
	}
	commit := func(y forgery) func(c *court) *Message {
		return func(c *court) *Message { return c.commit(y) }
	}
	tampered := func(make func(c *court) *Message, edit func(m *PrivateMessage)) func(c *court) *Message {
		return func(c *court) *Message {
			m := *make(c).Private
			edit(&m)
			return wire(c, newMessage(&Message{Private: &m}))
		}
	}
	sender := func(s Sender) func(*FramedContent) { return func(c *FramedContent) { c.Sender = s } }
	epoch := func(by uint64) func(*FramedContent) { return func(c *FramedContent) { c.Epoch += by } }
	tags := func(rule Rule, make func(y forgery) func(c *court) *Message) (list []offence) {
		for name, f := range map[string]func([]byte) []byte{"empty": empty, "short": cut, "long": grow, "one-octet": func(b []byte) []byte { return b[:1] }, "wrong": flip} {
			list = append(list, offence{rule: rule, name: name + "-tag", blind: name == "wrong", message: make(forgery{membershipTag: f})})
		}
		return list
	}
	// late is a message that arrives after its epoch has ended.
	late := func(y forgery) func(c *court) error {
		return func(c *court) error {
			m, genuine := c.f.application([]byte("hello"), y), c.f.application([]byte("hello"), forgery{})
			c.member("juliet", nil)
			romeo := c.tg.members["romeo"]
			before := romeo.Save()
			_, err := romeo.Process(m)
			if !bytes.Equal(before, romeo.Save()) {
				c.Error("romeo is changed by a late message that was refused")
			}
			if _, err := romeo.Process(genuine); err != nil {
				c.Errorf("a genuine late message: %v", err)
			}
			return err
		}
	}
	// service makes an external sender of the group.
	service := func(c *court) *SignaturePrivateKey {
		key, err := GenerateSignatureKey(suite1, nil)
		if err != nil {
			c.Fatal(err)
		}
		c.member("juliet", &CommitOptions{ContextExtensions: Extensions{ExternalSendersExtension(ExternalSender{key.Public(), BasicCredential([]byte("mls.capulet.lit"))})}})
		return key
	}
	external := func(index uint32, p func(c *court) Proposal) func(c *court) *Message {
		return func(c *court) *Message {
			key := service(c)
			return c.f.proposal(p(c), forgery{key: key, context: []byte{}, content: sender(Sender{SenderExternal, index})})
		}
	}

	list := []offence{
		{rule: RuleGroupID, name: "proposal", is: ErrUnknownGroup, message: proposal(forgery{content: func(c *FramedContent) { c.GroupID = GroupID("orchard") }})},
		{rule: RuleGroupID, name: "private", is: ErrUnknownGroup, message: tampered(application(forgery{}), func(m *PrivateMessage) { m.GroupID = nil })},
		{rule: RuleSenderBlank, name: "blank", message: func(c *court) *Message {
			return c.f.proposal(remove(c), forgery{content: sender(Sender{SenderMember, uint32(c.blank)})})
		}},
		{rule: RuleSenderBlank, name: "behind-the-tree", message: proposal(forgery{content: sender(Sender{SenderMember, 8})})},
		{rule: RuleSenderBlank, name: "2^24", message: proposal(forgery{content: sender(Sender{SenderMember, 1 << 24})})},
		{rule: RuleSenderBlank, name: "2^31", message: commit(forgery{content: sender(Sender{SenderMember, 1 << 31})})},
		{rule: RuleSenderBlank, name: "2^32-1", message: commit(forgery{content: sender(Sender{SenderMember, 1<<32 - 1})})},
		{rule: RuleApplicationPublic, name: "member", message: application(forgery{wire: WireFormatPublicMessage})},
		{rule: RuleApplicationPublic, name: "external", message: application(forgery{wire: WireFormatPublicMessage, content: sender(Sender{SenderExternal, 0})})},
		{rule: RuleDecrypt, name: "tag", message: tampered(application(forgery{}), func(m *PrivateMessage) { m.Ciphertext = flip(m.Ciphertext) })},
		{rule: RuleDecrypt, name: "commit", message: tampered(commit(private), func(m *PrivateMessage) { m.Ciphertext = flip(m.Ciphertext) })},
		{rule: RuleDecrypt, name: "generation", message: application(forgery{senderData: func(d *senderData) { d.generation += 3 }})},
		{rule: RuleDecrypt, name: "reuse-guard", message: application(forgery{senderData: func(d *senderData) { d.reuseGuard[0] ^= 1 }})},
		{rule: RuleDecrypt, name: "another-sender", check: func(c *court) error {
			m := c.f.application([]byte("hello"), forgery{senderData: func(d *senderData) { d.leaf = c.self("juliet") }})
			// Who is named cannot read what it is said to have sent.
			r, err := c.tg.members["juliet"].Process(m)
			if _, ok := r.(*OwnMessage); !ok || err != nil {
				c.Errorf("juliet gets %T, %v", r, err)
			}
			_, err = c.tg.members["romeo"].Process(m)
			return err
		}},
		{rule: RuleDecrypt, name: "authenticated-data", message: tampered(application(forgery{}), func(m *PrivateMessage) { m.AuthenticatedData = []byte("x") })},
		{rule: RuleDecrypt, name: "truncated-content", message: application(forgery{plaintext: func(b []byte) []byte { return b[:len(b)-1] }})},
		{rule: RuleDecrypt, name: "no-content", message: application(forgery{plaintext: empty})},
		{rule: RulePadding, name: "application", message: application(forgery{plaintext: func(b []byte) []byte { return append(b, 0, 0, 1, 0) }})},
		{rule: RulePadding, name: "last-octet", message: application(forgery{plaintext: func(b []byte) []byte { return append(b, 0, 0x80) }})},
		{rule: RulePadding, name: "commit", message: commit(forgery{wire: WireFormatPrivateMessage, plaintext: func(b []byte) []byte { return append(b, 1) }})},
		{rule: RulePadding, name: "proposal", message: proposal(forgery{wire: WireFormatPrivateMessage, plaintext: func(b []byte) []byte { return append(b, 0xff) }})},
		{rule: RuleSenderData, name: "flipped", message: tampered(application(forgery{}), func(m *PrivateMessage) { m.EncryptedSenderData = flip(m.EncryptedSenderData) })},
		{rule: RuleSenderData, name: "none", message: tampered(application(forgery{}), func(m *PrivateMessage) { m.EncryptedSenderData = nil })},
		{rule: RuleSenderData, name: "short", message: application(forgery{senderDataBytes: cut})},
		{rule: RuleSenderData, name: "long", message: application(forgery{senderDataBytes: grow})},
		{rule: RuleSenderData, name: "late-short", check: late(forgery{senderDataBytes: cut})},
		{rule: RuleSenderData, name: "content-type", message: tampered(application(forgery{}), func(m *PrivateMessage) { m.ContentType = ContentProposal })},
		{rule: RuleSenderData, name: "sample", message: tampered(application(forgery{}), func(m *PrivateMessage) {
			m.Ciphertext = bytes.Clone(m.Ciphertext)
			m.Ciphertext[0] ^= 1
		})},
		{rule: RuleSenderData, name: "no-ciphertext", message: tampered(application(forgery{}), func(m *PrivateMessage) { m.Ciphertext = nil })},
		{rule: RuleSenderDataLeaf, name: "late-blank", check: late(forgery{senderData: func(d *senderData) { d.leaf = 3 }})},
		{rule: RuleSenderDataLeaf, name: "late-2^32-1", check: late(forgery{senderData: func(d *senderData) { d.leaf = 1<<32 - 1 }})},
		{rule: RulePrivateSignature, name: "late", check: late(forgery{signature: flip})},
		{rule: RuleDecrypt, name: "late", check: late(forgery{senderData: func(d *senderData) { d.generation += 3 }})},
		{rule: RulePadding, name: "late", check: late(forgery{plaintext: func(b []byte) []byte { return append(b, 1) }})},
		{rule: RuleSenderDataLeaf, name: "blank", message: func(c *court) *Message {
			return c.f.application(nil, forgery{senderData: func(d *senderData) { d.leaf = c.blank }})
		}},
		{rule: RuleSenderDataLeaf, name: "behind-the-tree", message: application(forgery{senderData: func(d *senderData) { d.leaf = 8 }})},
		{rule: RuleSenderDataLeaf, name: "2^24", message: application(forgery{senderData: func(d *senderData) { d.leaf = 1 << 24 }})},
		{rule: RuleSenderDataLeaf, name: "2^32-1", message: commit(forgery{wire: WireFormatPrivateMessage, senderData: func(d *senderData) { d.leaf = 1<<32 - 1 }})},
		{rule: RuleSignature, name: "proposal", message: proposal(forgery{signature: flip})},
		{rule: RuleSignature, name: "none", message: proposal(forgery{signature: empty})},
		{rule: RuleSignature, name: "by-another", message: func(c *court) *Message {
			return c.f.proposal(remove(c), forgery{content: sender(Sender{SenderMember, uint32(c.self("juliet"))})})
		}},
		{rule: RuleSignature, name: "for-another-context", message: proposal(forgery{context: []byte("another")})},
		{rule: RuleSignature, name: "external", message: func(c *court) *Message {
			service(c)
			return c.f.proposal(remove(c), forgery{context: []byte{}, content: sender(Sender{SenderExternal, 0})})
		}},
		{rule: RulePrivateSignature, name: "application", message: application(forgery{signature: flip})},
		{rule: RulePrivateSignature, name: "none", message: application(forgery{signature: empty})},
		{rule: RulePrivateSignature, name: "proposal", message: proposal(forgery{wire: WireFormatPrivateMessage, signature: cut})},
		{rule: RulePrivateSignature, name: "by-another", message: func(c *court) *Message {
			return c.f.application([]byte("hello"), forgery{key: c.tg.members["romeo"].me.Key})
		}},
		{rule: RulePrivateSignature, name: "for-a-public-message", message: func(c *court) *Message {
			a := c.f.g.content(WireFormatPublicMessage, ContentProposal, nil)
			a.content.Proposal = remove(c)
			c.f.sign(a, forgery{})
			a.wireFormat = WireFormatPrivateMessage
			return c.f.frame(a, forgery{})
		}},
		{rule: RuleCommitSignature, name: "public", message: commit(forgery{signature: flip})},
		{rule: RuleCommitSignature, name: "private", message: commit(forgery{wire: WireFormatPrivateMessage, signature: flip})},
		{rule: RuleCommitSignature, name: "by-the-new-key", cfg: func(c *Config) { c.Authenticator = vectorAuthenticator{} }, message: func(c *court) *Message {
			key, err := GenerateSignatureKey(suite1, nil)
			if err != nil {
				c.Fatal(err)
			}
			return c.commit(forgery{leafKey: key, key: key})
		}},

		{rule: RuleProposalEpoch, name: "future", is: ErrEpochFuture, message: proposal(forgery{content: epoch(1)})},
		{rule: RuleProposalEpoch, name: "private", is: ErrEpochFuture, message: tampered(proposal(private), func(m *PrivateMessage) { m.Epoch = 1<<64 - 1 })},
		{rule: RuleProposalEpoch, name: "observer-past", is: ErrEpochPast, check: func(c *court) error {
			m := c.f.proposal(remove(c), forgery{})
			c.member("juliet", nil)
			r, err := c.tg.members["romeo"].Process(m)
			if _, ok := r.(*PastEpoch); !ok || err != nil {
				c.Errorf("romeo gets %T, %v", r, err)
			}
			_, err = c.tg.public.Process(m)
			return err
		}},
		{rule: RuleCommitEpoch, name: "future", is: ErrEpochFuture, message: commit(forgery{content: epoch(1)})},
		{rule: RuleCommitEpoch, name: "far-future", is: ErrEpochFuture, message: commit(forgery{content: epoch(1 << 40)})},
		{rule: RuleCommitEpoch, name: "observer-past", is: ErrEpochPast, check: func(c *court) error {
			m := c.commit(forgery{})
			c.member("juliet", nil)
			r, err := c.tg.members["romeo"].Process(m)
			if _, ok := r.(*PastEpoch); !ok || err != nil {
				c.Errorf("romeo gets %T, %v", r, err)
			}
			_, err = c.tg.public.Process(m)
			return err
		}},

		{rule: RuleSafeAAD, name: "proposal", message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{AppData{{ComponentSafeAAD, ComponentsList()}}.Extension()}})
			return c.f.proposal(remove(c), forgery{content: func(f *FramedContent) { f.AuthenticatedData = []byte("free text") }})
		}},
		{rule: RuleSafeAAD, name: "none", message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{AppData{{ComponentSafeAAD, ComponentsList()}}.Extension()}})
			return c.f.application(nil, forgery{})
		}},
		{rule: RuleSafeAAD, name: "unsorted", message: func(c *court) *Message {
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{AppData{{ComponentSafeAAD, ComponentsList()}}.Extension()}})
			return c.commit(forgery{content: func(f *FramedContent) { f.AuthenticatedData = SafeAAD(AppData{{2, nil}, {1, nil}}) }})
		}},
		{rule: RuleSafeAAD, name: "sent", check: func(c *court) error {
			c.member("juliet", &CommitOptions{ContextExtensions: Extensions{AppData{{ComponentSafeAAD, ComponentsList()}}.Extension()}})
			_, err := c.f.g.Seal(nil, []byte("free text"))
			return err
		}},

		{rule: RuleLimit, name: "sealed", cfg: func(c *Config) { c.Limits.MaxMessage = 8000 }, check: func(c *court) error {
			before := c.f.g.Save()
			_, err := c.f.g.Seal(make([]byte, 8001), nil)
			if !bytes.Equal(before, c.f.g.Save()) {
				c.Error("a key was used for a message that is too large")
			}
			return err
		}},
		{rule: RuleLimit, name: "sealed-with-padding", cfg: func(c *Config) { c.Limits.MaxMessage = 8000 }, check: func(c *court) error {
			before := c.f.g.Save()
			_, err := c.f.g.Seal(make([]byte, 7900), nil)
			if !bytes.Equal(before, c.f.g.Save()) {
				c.Error("a key was used for a message that is too large")
			}
			return err
		}},
		{rule: RuleLimit, name: "sealed-aad", cfg: func(c *Config) { c.Limits.MaxMessage = 8000 }, check: func(c *court) error {
			_, err := c.f.g.Seal(nil, make([]byte, 8001))
			return err
		}},
		{rule: RuleLimit, name: "sent-commit", cfg: func(c *Config) { c.Limits.MaxMessage = 8000 }, check: func(c *court) error {
			_, err := c.f.g.Commit(&CommitOptions{AAD: make([]byte, 7900)})
			return err
		}},
		{rule: RuleLimit, name: "sent-private-commit", cfg: func(c *Config) { c.Limits.MaxMessage = 8000 }, check: func(c *court) error {
			_, err := c.f.g.Commit(&CommitOptions{AAD: make([]byte, 7900), Wire: WireFormatPrivateMessage})
			return err
		}},
		{rule: RuleLimit, name: "sent-proposals", cfg: func(c *Config) { c.Limits.MaxProposals = 4 }, check: func(c *court) error {
			_, err := c.f.g.Commit(&CommitOptions{ByValue: slices.Repeat([]Proposal{&AppEphemeral{0x8001, nil}}, 5)})
			return err
		}},
		{rule: RuleLimit, name: "last-epoch", check: func(c *court) error {
			f := fabricate(c, nil, suite1, 3, true)
			f.st.ctx.Epoch = 1<<64 - 1
			_, err := f.group(0).Commit(nil)
			return err
		}},
		{rule: RuleExternalContent, name: "commit", message: commit(forgery{content: sender(Sender{SenderExternal, 0})})},
		{rule: RuleExternalProposalType, name: "update", message: external(0, func(c *court) Proposal { return c.update(nil) })},
		{rule: RuleExternalProposalType, name: "external-init", message: external(0, func(c *court) Proposal { return &ExternalInit{make([]byte, 32)} })},
		{rule: RuleExternalProposalType, name: "selfremove", message: external(0, func(c *court) Proposal { return &SelfRemove{} })},
		{rule: RuleUpdateSender, name: "external-instead", want: RuleExternalProposalType, message: external(0, func(c *court) Proposal { return c.update(nil) })},
		{rule: RuleUpdateSender, name: "new-member-instead", want: RuleNewMemberType, message: func(c *court) *Message {
			return c.f.proposal(c.update(nil), forgery{context: []byte{}, content: sender(Sender{Type: SenderNewMemberProposal})})
		}},
		{rule: RuleNewMemberContent, name: "commit", message: commit(forgery{content: sender(Sender{Type: SenderNewMemberProposal})})},
		{rule: RuleNewMemberType, name: "remove", message: proposal(forgery{context: []byte{}, content: sender(Sender{Type: SenderNewMemberProposal})})},
		{rule: RuleNewMemberType, name: "reinit", message: func(c *court) *Message {
			return c.f.proposal(&ReInit{GroupID("orchard"), MLS10, suite1, nil}, forgery{context: []byte{}, content: sender(Sender{Type: SenderNewMemberProposal})})
		}},
		{rule: RuleSignature, name: "new-member", message: func(c *court) *Message {
			return c.f.proposal(&Add{c.keyPackage(nil).KeyPackage}, forgery{context: []byte{}, content: sender(Sender{Type: SenderNewMemberProposal})})
		}},
		{rule: RuleExternalSenderIndex, name: "none", message: proposal(forgery{context: []byte{}, content: sender(Sender{SenderExternal, 0})})},
		{rule: RuleExternalSenderIndex, name: "behind", message: external(1, remove)},
		{rule: RuleExternalSenderIndex, name: "2^32-1", message: external(1<<32-1, remove)},
		{rule: RuleExternalSenderIndex, name: "after-a-change", message: func(c *court) *Message {
			key := service(c)
			c.member("romeo", &CommitOptions{ContextExtensions: Extensions{}})
			return c.f.proposal(remove(c), forgery{key: key, context: []byte{}, content: sender(Sender{SenderExternal, 0})})
		}},
		{rule: RuleJoinerContent, name: "proposal", message: proposal(forgery{content: sender(Sender{Type: SenderNewMemberCommit})})},
	}
	list = append(list, tags(RuleMembershipTag, proposal)...)
	list = append(list, tags(RuleCommitMembershipTag, commit)...)
	slices.SortStableFunc(list, func(a, b offence) int {
		return bytes.Compare([]byte(a.rule+"/"+Rule(a.name)), []byte(b.rule+"/"+Rule(b.name)))
	})
	offences["TestMessageRules"] = list
}

func TestMessageRules(t *testing.T) { tryAll(t) }

// TestPrivateSender: no message can break valn1305, since SenderData has no sender
// type; the code that would seal it refuses.
func TestPrivateSender(t *testing.T) {
	c := newCourt(t, &offence{})
	a := c.f.g.content(WireFormatPrivateMessage, ContentProposal, nil)
	a.content.Proposal, a.content.Sender = &Remove{0}, Sender{SenderExternal, 0}
	if _, err := c.f.g.sealer().seal(a); !hasRule(err, RulePrivateSender) {
		t.Errorf("sealing for an external sender: %v", err)
	}
}
