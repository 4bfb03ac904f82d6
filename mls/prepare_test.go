// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

// onCores lets a test use n cores, whatever the machine has: on one, Prepare does
// nothing. Such a test does not run in parallel with others.
func onCores(t testing.TB, n int) {
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// A mailbag is what comes to juliet: messages as honest and dishonest members send
// them, in the order in which a careless service delivers them.
type mailbag struct {
	*testGroup
	r    *rand.Rand
	mail []*Message
}

func (b *mailbag) someone() string {
	return []string{"romeo", "nurse", "mercutio"}[b.r.IntN(3)]
}

// twin returns a member's client a second time: it uses the keys that the member
// is about to use.
func (b *mailbag) twin(name string) *Group {
	g, err := Load(b.cfg, b.members[name].Save())
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

func (b *mailbag) text() []byte { return []byte(fmt.Sprintf("%x", b.r.Uint64())) }

// edited returns a message with another frame.
func (b *mailbag) edited(m *Message, edit func(m *PrivateMessage)) *Message {
	p := *m.Private
	edit(&p)
	return wire(b.t, newMessage(&Message{Private: &p}))
}

func (b *mailbag) seal(name string) *Message {
	m, err := b.members[name].Seal(b.text(), b.text()[:b.r.IntN(8)])
	if err != nil {
		b.t.Fatal(err)
	}
	return wire(b.t, m)
}

// letter adds a message, or several that have to do with each other.
func (b *mailbag) letter() {
	by := b.someone()
	format := []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage}[b.r.IntN(2)]
	switch b.r.IntN(24) {
	default:
		b.mail = append(b.mail, b.seal(by))
	case 0: // signed by somebody else, and followed by the genuine one with the same key
		f := forge{b.t, b.twin(by)}
		b.mail = append(b.mail, f.application(b.text(), forgery{key: testIdentity(b.t, b.cs, "mallory").Key}), b.seal(by))
	case 1: // a wrong signature after which the sender goes on
		f := forge{b.t, b.members[by]}
		b.mail = append(b.mail, f.application(b.text(), forgery{signature: []func([]byte) []byte{flip, cut, empty, grow}[b.r.IntN(4)]}))
	case 2:
		f := forge{b.t, b.members[by]}
		b.mail = append(b.mail, f.application(b.text(), forgery{plaintext: func(p []byte) []byte { return append(p, 0, 1) }}))
	case 3:
		b.mail = append(b.mail, b.edited(b.seal(by), func(m *PrivateMessage) { m.Ciphertext = flip(m.Ciphertext) }))
	case 4: // first damaged, then whole
		m := b.seal(by)
		b.mail = append(b.mail, b.edited(m, func(m *PrivateMessage) { m.AuthenticatedData = []byte("x") }), m)
	case 5:
		if len(b.mail) > 0 {
			b.mail = append(b.mail, b.mail[b.r.IntN(len(b.mail))])
		}
	case 6:
		by := b.r.Uint64N(3) - 1
		b.mail = append(b.mail, b.edited(b.seal("romeo"), func(m *PrivateMessage) { m.Epoch += by }))
	case 7:
		b.mail = append(b.mail, b.edited(b.seal(by), func(m *PrivateMessage) { m.GroupID = GroupID("orchard") }))
	case 8:
		leaf := LeafIndex(b.r.IntN(9))
		f := forge{b.t, b.twin(by)}
		b.mail = append(b.mail, f.application(b.text(), forgery{senderData: func(d *senderData) { d.leaf = leaf }}))
	case 9: // an echo
		b.mail = append(b.mail, b.seal("juliet"))
	case 10: // some are never delivered
		for range b.r.IntN(b.cfg.Limits.MaxForward + 3) {
			b.seal(by)
		}
	case 11:
		b.mail = append(b.mail, wire(b.t, forge{b.t, b.members[by]}.application(nil, forgery{wire: WireFormatPublicMessage})))
	case 12, 13:
		b.propose(by, func(g *Group) (*Message, *Group, error) {
			m, next, err := g.ProposeUpdate(nil, &ProposeOptions{Wire: format})
			b.mail = append(b.mail, m)
			return m, next, err
		})
	case 14:
		p := b.commit(by, &CommitOptions{Wire: format})
		b.mail = append(b.mail, wire(b.t, p.Message()))
	}
}

// shuffle moves application messages, and leaves handshakes in their order.
func (b *mailbag) shuffle() {
	for range 2 {
		for i := 1; i < len(b.mail); i++ {
			x, y := b.mail[i-1], b.mail[i]
			if (x.ContentType() == ContentApplication || y.ContentType() == ContentApplication) && b.r.IntN(3) == 0 {
				b.mail[i-1], b.mail[i] = y, x
			}
		}
	}
}

// told describes all of what Process returned.
func told(r Received, err error) string {
	var v *ValidationError
	rule := Rule("")
	if errors.As(err, &v) {
		rule = v.Rule
	}
	s := fmt.Sprintf("%T %v [%s, replay %t, ahead %t, retryable %t]", r, err, rule, errors.Is(err, ErrReplay), errors.Is(err, ErrTooFarAhead), Retryable(err))
	switch m := r.(type) {
	case *ApplicationMessage:
		s += fmt.Sprintf(" %d %x %d %d %q %q", m.Sender.Index, m.Sender.Leaf.Bytes(), m.Epoch, m.Generation, m.Data, m.AAD)
	case *OwnMessage:
		s += fmt.Sprintf(" %v", *m)
	case *OwnCommit:
		s += fmt.Sprintf(" %v", *m)
	case *PastEpoch:
		s += fmt.Sprintf(" %v", *m)
	}
	return s
}

func follow(t *testing.T, g *Group, r Received) *Group {
	switch s := r.(type) {
	case *StagedProposal:
		return s.Merge()
	case *StagedCommit:
		next, err := s.Merge()
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	return g
}

// TestPrepareChangesNothing: what is processed after Prepare, and what is not
// prepared, are the same to the last octet of the state, whatever comes.
func TestPrepareChangesNothing(t *testing.T) {
	onCores(t, 4)
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-model.seed %d", seed)
	prepared, kinds := 0, make(map[string]int)
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		limits := Limits{MaxForward: 40, MaxSkipped: 1 + r.IntN(12), MaxSkippedTotal: 1 + r.IntN(20)}
		if r.IntN(3) == 0 {
			limits.MaxSkipped = -1
		}
		cfg := &Config{Limits: limits, SealWithPending: true, Time: func() time.Time { return time.Unix(time.Now().Unix()/1e5*1e5, 0) }}
		b := &mailbag{testGroup: newTestGroup(t, cfg, suite1, "juliet", "romeo", "nurse", "mercutio"), r: r}
		start := b.members["juliet"].Save()
		for len(b.mail) < 150 {
			b.letter()
		}
		b.shuffle()
		var plain, ahead *Group
		for _, g := range []**Group{&plain, &ahead} {
			var err error
			if *g, err = Load(cfg, start); err != nil {
				t.Fatal(err)
			}
		}
		for i, until := 0, 0; i < len(b.mail); i++ {
			if i >= until && r.IntN(4) > 0 || r.IntN(30) == 0 { // also before what was prepared is processed
				until = min(i+r.IntN(50), len(b.mail))
				ahead.Prepare(append(b.mail[i:until:until], nil)[:until-i+r.IntN(2)])
				prepared += len(ahead.keys.prepared)
			}
			want, wantErr := plain.Process(b.mail[i])
			got, gotErr := ahead.Process(b.mail[i])
			if told(got, gotErr) != told(want, wantErr) {
				t.Fatalf("round %d, message %d:\nprepared %s\nelse     %s", round, i, told(got, gotErr), told(want, wantErr))
			}
			kind, _, _ := strings.Cut(told(want, nil), " ")
			var v *ValidationError
			if errors.As(wantErr, &v) {
				kind = string(v.Rule)
			} else if wantErr != nil {
				kind = errors.Unwrap(wantErr).Error()
			}
			kinds[kind]++
			plain, ahead = follow(t, plain, want), follow(t, ahead, got)
			if !bytes.Equal(plain.Save(), ahead.Save()) {
				t.Fatalf("round %d, message %d (%s): another state than without Prepare", round, i, told(want, wantErr))
			}
			if r.IntN(5) == 0 && fmt.Sprintf("%x", plain.Delta()) != fmt.Sprintf("%x", ahead.Delta()) {
				t.Fatalf("round %d, message %d: another delta than without Prepare", round, i)
			}
		}
	}
	t.Logf("%d messages prepared; outcomes %v", prepared, kinds)
	if prepared < rounds*20 || kinds["*mls.ApplicationMessage"] < rounds*20 || kinds[string(RulePrivateSignature)] < rounds ||
		kinds["*mls.StagedCommit"] < rounds || kinds["*mls.OwnMessage"] < rounds || kinds[string(RuleDecrypt)] < rounds {
		t.Error("the mail is too uniform for this test to mean anything")
	}
}

// prepareSome gives juliet n prepared messages of romeo.
func prepareSome(t *testing.T, n int) (juliet *Group, messages []*Message) {
	onCores(t, 4)
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	for i := range n {
		messages = append(messages, wire(t, tg.members["romeo"].mustSeal(t, fmt.Sprintf("what romeo says under the balcony: %d", i))))
	}
	juliet = tg.members["juliet"]
	juliet.Prepare(messages)
	if len(juliet.keys.prepared) != n {
		t.Fatalf("%d of %d messages are prepared", len(juliet.keys.prepared), n)
	}
	return juliet, messages
}

// TestPrepareLeavesNoKeys: the keys of prepared messages are used up when they are
// processed, and not kept before.
func TestPrepareLeavesNoKeys(t *testing.T) {
	juliet, messages := prepareSome(t, 8)
	keys := make(map[string][]byte)
	for i := range uint32(8) {
		k, err := juliet.keys.messages.peek(1, ratchetApplication, i)
		if err != nil {
			t.Fatal(err)
		}
		keys[fmt.Sprintf("key %d", i)] = bytes.Clone(k.key())
	}
	gone(t, juliet, keys)
	for _, m := range messages {
		if _, err := juliet.Process(m); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, juliet, keys)
	if len(juliet.keys.prepared) != 0 {
		t.Errorf("%d messages are kept after they were processed", len(juliet.keys.prepared))
	}
}

// TestPreparedIsNotShown: neither what is stored nor what is printed of a group has
// what was decrypted ahead.
func TestPreparedIsNotShown(t *testing.T) {
	juliet, _ := prepareSome(t, 8)
	secret := "under the balcony"
	if !holds(juliet, []byte(secret)) {
		t.Fatal("the test cannot see what was prepared")
	}
	if bytes.Contains(juliet.Save(), []byte(secret)) {
		t.Error("it is stored")
	}
	for _, p := range juliet.keys.prepared {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if s := fmt.Sprintf(verb, p); strings.Contains(s, secret) || s != redactedText {
				t.Errorf("%s prints %q", verb, s)
			}
		}
	}
}

// TestPreparedMessageIsChanged: what was verified says nothing of a message that is
// changed behind it.
func TestPreparedMessageIsChanged(t *testing.T) {
	for name, change := range map[string]func(m *PrivateMessage){
		"authenticated_data": func(m *PrivateMessage) { m.AuthenticatedData = []byte("x") },
		"ciphertext":         func(m *PrivateMessage) { m.Ciphertext[20] ^= 1 },
		"another ciphertext": func(m *PrivateMessage) { m.Ciphertext = flip(m.Ciphertext) },
		"sender data":        func(m *PrivateMessage) { m.EncryptedSenderData = flip(m.EncryptedSenderData) },
	} {
		t.Run(name, func(t *testing.T) {
			juliet, messages := prepareSome(t, 8)
			genuine := wire(t, messages[3])
			change(messages[3].Private)
			if r, err := juliet.Process(messages[3]); err == nil {
				t.Errorf("the changed message is taken for %+v", r)
			}
			if _, err := juliet.Process(genuine); err != nil {
				t.Errorf("the genuine message: %v", err)
			}
		})
	}
}

// TestPrepareAgain: a second Prepare takes the place of the first, and the end of
// the epoch that of both.
func TestPrepareAgain(t *testing.T) {
	juliet, messages := prepareSome(t, 12)
	juliet.Prepare(messages[4:10])
	if len(juliet.keys.prepared) != 6 {
		t.Errorf("%d messages are kept, want 6", len(juliet.keys.prepared))
	}
	juliet.Prepare(nil)
	if len(juliet.keys.prepared) != 0 {
		t.Errorf("%d messages are kept, want none", len(juliet.keys.prepared))
	}
	juliet.Prepare(messages)
	p, err := juliet.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	next, err := p.Merge()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		if r, err := next.Process(m); err != nil {
			t.Errorf("message %d, late: %v", i, err)
		} else if want := fmt.Sprintf("what romeo says under the balcony: %d", i); string(r.(*ApplicationMessage).Data) != want {
			t.Errorf("message %d, late, is %q", i, r.(*ApplicationMessage).Data)
		}
	}
	if holds(next, []byte("under the balcony")) {
		t.Error("what was prepared in a past epoch is kept")
	}
	juliet.Retire(next)
	if holds(juliet, []byte("under the balcony")) {
		t.Error("what was prepared is kept in a retired group")
	}
}

// TestPrepareOnOneCore: it is not worth it, and does nothing.
func TestPrepareOnOneCore(t *testing.T) {
	juliet, messages := prepareSome(t, 8)
	onCores(t, 1)
	juliet.Prepare(messages)
	if len(juliet.keys.prepared) != 0 {
		t.Error("messages are prepared on one core")
	}
}
