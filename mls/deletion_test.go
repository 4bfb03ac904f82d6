// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"testing"
)

// holds reports whether a secret can be reached from a value.
func holds(v any, secret []byte) bool {
	for _, b := range reachableBytes(v) {
		if len(secret) > 0 && bytes.Contains(b, secret) {
			return true
		}
	}
	return false
}

// gone checks that secrets are neither in memory that can be reached from a group
// nor in what it stores.
func gone(t *testing.T, g *Group, secrets map[string][]byte) {
	t.Helper()
	saved := g.Save()
	for name, secret := range secrets {
		if len(secret) < 16 || bytes.Equal(secret, make([]byte, len(secret))) {
			t.Fatalf("%s is no secret: the test looks for nothing", name)
		}
		if holds(g, secret) {
			t.Errorf("%s is still in memory", name)
		}
		if bytes.Contains(saved, secret) {
			t.Errorf("%s is still stored", name)
		}
	}
}

// TestUsedMessageKeysAreGone: RFC 9420 §9.2 for the keys of messages.
func TestUsedMessageKeysAreGone(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	juliet, romeo := tg.members["juliet"], tg.members["romeo"]
	peek := func(generation uint32) []byte {
		k, err := juliet.keys.messages.peek(romeo.self, ratchetApplication, generation)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(k.key())
	}
	first, second, third := peek(0), peek(1), peek(2)
	messages := []*Message{romeo.mustSeal(t, "one"), romeo.mustSeal(t, "two"), romeo.mustSeal(t, "three")}
	process := func(m *Message) {
		if _, err := juliet.Process(m); err != nil {
			t.Fatal(err)
		}
	}
	process(messages[0])
	gone(t, juliet, map[string][]byte{"the first key": first})
	gone(t, romeo, map[string][]byte{"the first key": first, "the third key": third})
	process(messages[2])
	gone(t, juliet, map[string][]byte{"the third key": third})
	if !holds(juliet, second) || !bytes.Contains(juliet.Save(), second) {
		t.Error("the skipped key is not kept: the test cannot see keys")
	}
	process(messages[1])
	gone(t, juliet, map[string][]byte{"the first key": first, "the second key": second, "the third key": third})

	// In a past epoch too.
	late, lateKey := romeo.mustSeal(t, "late"), peek(3)
	tg.commit("juliet", nil)
	juliet = tg.members["juliet"]
	process(late)
	gone(t, juliet, map[string][]byte{"a late key": lateKey})
}

// TestEpochSecretsAreGone: what began an epoch is not kept in it, and what
// belongs to an epoch ends with it.
func TestEpochSecretsAreGone(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo", "nurse")
	old := tg.members["juliet"]
	before := *old.keys.secrets
	secrets := map[string][]byte{
		"init_secret": bytes.Clone(before.initSecret), "confirmation_key": bytes.Clone(before.confirmationKey),
		"membership_key": bytes.Clone(before.membershipKey), "exporter_secret": bytes.Clone(before.exporterSecret),
		"external_secret": bytes.Clone(before.externalSecret), "epoch_authenticator": bytes.Clone(before.epochAuthenticator),
		"leaf key": bytes.Clone(old.private.leaf.bytes()),
	}
	if !holds(old, secrets["init_secret"]) {
		t.Fatal("the test cannot see secrets")
	}
	tg.commit("juliet", nil)
	juliet := tg.members["juliet"]
	gone(t, juliet, secrets)
	for name, secret := range map[string][]byte{
		"epoch_secret": juliet.keys.secrets.epochSecret, "joiner_secret": juliet.keys.secrets.joinerSecret,
		"welcome_secret": juliet.keys.secrets.welcomeSecret, "encryption_secret": juliet.keys.secrets.encryptionSecret,
	} {
		if !bytes.Equal(secret, make([]byte, len(secret))) {
			t.Errorf("%s is kept", name)
		}
	}

	// The old value is a checkpoint until it is retired.
	if !holds(old, secrets["init_secret"]) {
		t.Error("the old group was wiped by the merge")
	}
	old.Retire(juliet)
	for name, secret := range secrets {
		if holds(old, secret) {
			t.Errorf("%s is still in the retired group", name)
		}
	}
	// The new one has lost nothing.
	tg.say("romeo", "still here")
	tg.say("juliet", "so am I")
	tg.commit("nurse", nil)
	tg.agree()

	// Who leaves keeps nothing.
	last := tg.members["juliet"]
	secrets = map[string][]byte{"leaf key": bytes.Clone(last.private.leaf.bytes()), "path key": bytes.Clone(last.private.path[0].bytes())}
	for i, secret := range last.keys.secrets.lasting() {
		secrets[fmt.Sprintf("secret %d", i)] = bytes.Clone(*secret)
	}
	for _, r := range last.resumption {
		secrets[fmt.Sprintf("resumption PSK of epoch %d", r.epoch)] = bytes.Clone(r.psk)
	}
	for _, b := range reachableBytes(last.keys.messages.root) {
		if len(b) == 32 {
			secrets[fmt.Sprintf("ratchet secret %x", b[:4])] = bytes.Clone(b)
		}
	}
	last.Retire(nil)
	for name, secret := range secrets {
		if holds(last, secret) {
			t.Errorf("%s is left in a group that was left", name)
		}
	}
}

// TestJoinerSecretsAreGone: a joiner does not keep how it joined, nor a committer
// how it let others join.
func TestJoinerSecretsAreGone(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "mallory", "juliet")
	f := forge{t, tg.members["mallory"]}
	kp := testKeyPackage(t, nil, suite1, "nurse")
	var seen groupSecrets
	c := f.commit(byValue(&Add{kp.KeyPackage}), forgery{groupInfoTree: true, groupSecrets: func(gs *groupSecrets) {
		seen = groupSecrets{bytes.Clone(gs.joinerSecret), bytes.Clone(gs.pathSecret), nil}
	}})
	g, err := Join(nil, c.welcome, kp, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := g.s
	e := s.epochSecretsFromJoiner(seen.joinerSecret, nil, g.ctxBytes)
	gone(t, g, map[string][]byte{
		"joiner_secret": seen.joinerSecret, "path_secret": seen.pathSecret, "welcome_secret": e.welcomeSecret,
		"epoch_secret": e.epochSecret,
	})
	if !holds(g, e.initSecret) {
		t.Error("the test cannot see secrets")
	}
	init := bytes.Clone(kp.init.bytes())
	kp.Wipe()
	if holds(kp, init) {
		t.Error("the init key is left in a key package that was wiped")
	}
	gone(t, g, map[string][]byte{"init key": init})
}

// TestGroupsAreNotPrinted: no formatting, logging or marshalling of a group shows a secret.
func TestGroupsAreNotPrinted(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	tg.commit("romeo", nil)
	tg.propose("juliet", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) })
	g := tg.members["juliet"]
	p, err := g.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	kp := testKeyPackage(t, nil, suite1, "nurse")
	for _, v := range []any{g, *g, p, kp, g.keys, g.private, g.past, g.me} {
		text := printed(v)
		for name, secret := range map[string][]byte{
			"init_secret": g.keys.secrets.initSecret, "leaf key": g.private.leaf.bytes(), "signature key": g.me.Key.seed,
			"init key": kp.init.bytes(), "resumption PSK": g.resumption[0].psk, "own Update": g.ownUpdates[0].key.bytes(),
		} {
			for _, form := range forms(secret) {
				if bytes.Contains(text, form) {
					t.Errorf("%T prints its %s", v, name)
				}
			}
		}
	}
}

// printed formats a value in every way that a careless program might.
func printed(v any) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v %+v %#v %s %x %q", v, v, v, v, v, v)
	slog.New(slog.NewTextHandler(&b, nil)).Info("value", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("value", "v", v)
	return b.Bytes()
}

// forms are the ways in which octets show up in text.
func forms(secret []byte) [][]byte {
	secret = secret[:16]
	return [][]byte{
		secret, fmt.Appendf(nil, "%x", secret), fmt.Appendf(nil, "%X", secret), bytes.Trim(fmt.Appendf(nil, "%d", secret), "[]"),
		bytes.Trim(bytes.TrimPrefix(fmt.Appendf(nil, "%#v", secret), []byte("[]byte")), "{}"),
		[]byte(base64.StdEncoding.EncodeToString(secret)[:20]),
	}
}

// TestDiscard: a commit that does not take effect leaves none of its secrets, and
// takes none away that is still needed.
func TestDiscard(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo", "nurse")
	tg.commit("romeo", nil)
	tg.public = nil
	juliet, romeo := tg.members["juliet"], tg.members["romeo"]
	update, romeo, err := romeo.ProposeUpdate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	secretsOf := func(g *Group) map[string][]byte {
		m := map[string][]byte{
			"init_secret": bytes.Clone(g.keys.secrets.initSecret), "exporter_secret": bytes.Clone(g.keys.secrets.exporterSecret),
			"the root's key": bytes.Clone(g.private.path[1].bytes()),
		}
		return m
	}

	p, err := juliet.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := romeo.Process(wire(t, p.Message()))
	if err != nil {
		t.Fatal(err)
	}
	s := r.(*StagedCommit)
	restored, err := juliet.UnmarshalPendingCommit(p.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	mine, copied, theirs := p.next, restored.next, s.next
	secrets := secretsOf(mine)
	secrets["the committer's leaf key"] = bytes.Clone(mine.private.leaf.bytes())
	for name, secret := range secrets {
		if !holds(mine, secret) || !holds(copied, secret) {
			t.Fatalf("%s: the test looks for nothing", name)
		}
	}
	p.Discard()
	restored.Discard()
	s.Discard()
	for name, secret := range secrets {
		if holds(p, secret) || holds(mine, secret) || holds(restored, secret) || holds(copied, secret) {
			t.Errorf("%s is still in the pending commit", name)
		}
		if holds(s, secret) || holds(theirs, secret) {
			t.Errorf("%s is still in the staged commit", name)
		}
	}
	if _, err := p.Merge(); err == nil {
		t.Error("a discarded commit was merged")
	}
	if _, err := s.Merge(); err == nil || s.Removed() {
		t.Errorf("a discarded commit was merged, or removes: %v", err)
	}

	// Nobody has lost what the epoch needs, nor romeo the keys of his Update.
	tg.members["romeo"] = romeo
	tg.say("juliet", "goodnight")
	tg.receiveProposal("romeo", update)
	tg.commit("nurse", nil)
	tg.agree()
	tg.say("romeo", "with fresh keys")
}

// TestDiscardAfterMerge: it does nothing, so that it can be deferred.
func TestDiscardAfterMerge(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	p, err := tg.members["juliet"].Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := tg.members["romeo"].Process(wire(t, p.Message()))
	if err != nil {
		t.Fatal(err)
	}
	s := r.(*StagedCommit)
	if tg.members["juliet"], err = p.Merge(); err != nil {
		t.Fatal(err)
	}
	if tg.members["romeo"], err = s.Merge(); err != nil {
		t.Fatal(err)
	}
	p.Discard()
	s.Discard()
	tg.public = nil
	tg.say("romeo", "still here")
	tg.say("juliet", "so am I")
	tg.commit("juliet", nil)
	tg.agree()
}

// TestDiscardPrivateCommit: the key of a PrivateMessage that was staged and
// discarded is not used up: the message can be processed again.
func TestDiscardPrivateCommit(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	p, err := tg.members["juliet"].Commit(&CommitOptions{Wire: WireFormatPrivateMessage})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := tg.members["romeo"].Process(wire(t, p.Message()))
		if err != nil {
			t.Fatal(err)
		}
		r.(*StagedCommit).Discard()
	}
	tg.deliver("juliet", p)
	tg.agree()
}
