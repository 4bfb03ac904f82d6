// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"testing"
)

// TestNothingPrintsSecrets prints every exported type that holds a secret, or
// something that does, in all ways that Go has.
func TestNothingPrintsSecrets(t *testing.T) {
	psk := bytes.Repeat([]byte("feud"), 8)
	cfg := &Config{PSKs: ExternalPSKs{"feud": psk}}
	tg := newTestGroup(t, cfg, suite1, "juliet", "romeo", "nurse")
	tg.commit("juliet", nil)
	_, juliet, err := tg.members["juliet"].ProposeUpdate(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	kp := testKeyPackage(t, nil, suite1, "tybalt")
	p := must(juliet.Commit(&CommitOptions{Add: []*KeyPackage{kp.KeyPackage}, GroupInfoExternalPub: true, InlineTree: true}))
	restored := must(UnmarshalPendingCommit(nil, p.Marshal()))
	external := must(JoinExternal(nil, p.GroupInfo().GroupInfo, testIdentity(t, suite1, "paris"), nil))
	commit := must(tg.members["romeo"].Commit(nil))
	staged := must(juliet.Process(commit.Message())).(*StagedCommit)
	private := must(tg.members["romeo"].Commit(&CommitOptions{Wire: WireFormatPrivateMessage}))
	stagedPrivate := must(juliet.Process(private.Message())).(*StagedCommit)
	remove, _, err := tg.members["romeo"].ProposeRemove(2, &ProposeOptions{Wire: WireFormatPrivateMessage})
	if err != nil {
		t.Fatal(err)
	}
	stagedProposal := must(juliet.Process(remove)).(*StagedProposal)

	observed := must(juliet.Public().Process(must2m(tg.members["romeo"].ProposeRemove(2, nil))))
	stagedPublic := must(juliet.Public().Process(commit.Message())).(*StagedPublicCommit)

	secrets := secretsOf("juliet", juliet)
	maps.Copy(secrets, secretsOf("next", must(p.Merge())))
	maps.Copy(secrets, secretsOf("paris", must(external.Merge())))
	maps.Copy(secrets, secretsOf("staged", must(staged.Merge())))
	secrets["init key"], secrets["leaf key"] = kp.init.bytes(), kp.leaf.bytes()
	secrets["signature key"], secrets["PSK"] = kp.key.seed, psk
	secrets["key of a pending Update"] = juliet.ownUpdates[0].key.bytes()
	for name, key := range map[string]*messageKey{"commit key": stagedPrivate.key, "proposal key": stagedProposal.key} {
		secrets[name] = key.key()
	}

	rows := juliet.Rows()
	for _, v := range []any{
		juliet, *juliet, p, *p, restored, *restored, external, kp, *kp, kp.Identity(), *kp.Identity(), juliet.me.Key, *juliet.me.Key,
		staged, *staged, stagedPrivate, *stagedPrivate, stagedProposal, *stagedProposal,
		rows[0], &rows[0], rows, cfg, *cfg, cfg.PSKs, &JoinOptions{PSKs: cfg.PSKs, Parent: juliet}, JoinOptions{PSKs: cfg.PSKs, Parent: juliet},
		&DeriveOptions{Identity: kp.Identity(), Config: cfg}, &ExternalJoinOptions{PSKs: cfg.PSKs}, &LeafChange{Identity: kp.Identity()},
		&CommitOptions{Update: &LeafChange{Identity: kp.Identity()}},
		map[string]*Group{"juliet": juliet}, []Group{*juliet}, struct{ G Group }{*juliet}, struct{ G *Group }{juliet},
		juliet.Public(), *juliet.Public(), staged.Change(), stagedPublic, *stagedPublic, observed, p.Change(),
	} {
		texts := map[string]string{"Error": fmt.Errorf("wrapped: %v", v).Error()}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			texts[verb] = fmt.Sprintf(verb, v)
		}
		for name, h := range map[string]func(b *bytes.Buffer) slog.Handler{
			"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(h(&b)).Info("x", "v", v)
			texts[name] = b.String()
		}
		_, isRows := v.([]Row)
		_, isRow := v.(Row)
		_, isRowPointer := v.(*Row)
		if b, err := json.Marshal(v); err == nil {
			texts["JSON"] = string(b)
		}
		for how, text := range texts {
			if t.Failed() {
				return // one is enough: the texts are long
			}
			if (isRows || isRow || isRowPointer) && (how == "JSON" || isRows && how == "slog JSON") {
				continue // a Row is there to be stored, JSON is a way to store it
			}
			if len(text) > 2000 && how == "%v" {
				t.Logf("%T prints %d octets with %s", v, len(text), how)
			}
			wantNoSecrets(t, text, secrets)
			if t.Failed() {
				t.Logf("%T with %s", v, how)
			}
		}
	}
	for _, v := range []fmt.Stringer{juliet, p, kp, juliet.me.Key} {
		if !bytes.Contains([]byte(v.String()), []byte(redactedText)) {
			t.Errorf("%T prints as %q", v, v.String())
		}
	}
}

// TestUsedKeysAreGone follows the deletion schedule (RFC 9420 §9.2): what opened or
// sealed a message is neither in memory that the group reaches nor in what is
// stored of it, whole or as deltas.
func TestUsedKeysAreGone(t *testing.T) {
	c := newCourt(t, &offence{})
	romeo := c.tg.members["romeo"]
	store := make(rowStore)
	store.apply(romeo.Delta())
	gone := make(map[string][]byte)
	check := func(when string) {
		t.Helper()
		store.apply(romeo.Delta())
		saved := romeo.Save()
		for what, secret := range gone {
			if bytes.Contains(saved, secret) {
				t.Errorf("%s: %s is in the stored group", when, what)
			}
			for key, value := range store {
				if bytes.Contains(value, secret) {
					t.Errorf("%s: %s is in row %s", when, what, key)
				}
			}
		}
		wantUnreachable(t, romeo, gone)
		wantUnreachable(t, reload(t, romeo), gone)
	}
	// keyOf finds the key by which romeo will open a message.
	keyOf := func(m *Message) []byte {
		t.Helper()
		d, err := romeo.sealer().openSenderData(m.Private)
		if err != nil {
			t.Fatal(err)
		}
		k, err := romeo.keys.messages.peek(d.leaf, ratchetOf(m.ContentType()), d.generation)
		if err != nil {
			t.Fatal(err)
		}
		key := bytes.Clone(k.key())
		k.wipe()
		return key
	}
	first := c.f.application([]byte("first"), forgery{})
	skipped := c.f.application([]byte("skipped"), forgery{})
	third := c.f.application([]byte("third"), forgery{})
	for name, m := range map[string]*Message{"the first key": first, "the third key": third} {
		key := keyOf(m)
		if _, err := romeo.Process(m); err != nil {
			t.Fatal(err)
		}
		gone[name] = key
		check(name)
	}
	key := keyOf(skipped)
	wantReachable(t, romeo, "the skipped key", key)
	if !bytes.Contains(romeo.Save(), key) {
		t.Error("a skipped key is not stored: the search finds nothing")
	}
	if _, err := romeo.Process(skipped); err != nil {
		t.Fatal(err)
	}
	gone["the skipped key"] = key
	check("the skipped message")

	// A message that is refused gives nothing away either, and its key stays.
	bad := c.f.application([]byte("bad"), forgery{signature: flip})
	key = keyOf(bad)
	if _, err := romeo.Process(bad); err == nil {
		t.Fatal("accepted")
	}
	if bytes.Contains(romeo.Save(), key) {
		t.Error("the key of a refused message is in the stored group")
	}
	wantUnreachable(t, romeo, map[string][]byte{"the key of a refused message": key})

	// A private proposal and commit, when they take effect.
	proposal := c.f.proposal(&Remove{c.self("nurse")}, forgery{wire: WireFormatPrivateMessage})
	key = keyOf(proposal)
	r, err := romeo.Process(proposal)
	if err != nil {
		t.Fatal(err)
	}
	romeo = r.(*StagedProposal).Merge()
	gone["the key of a proposal"] = key
	check("a proposal")

	// An own message.
	own := romeo.keys.messages.clone()
	_, ownKey, _, err := own.next(romeo.self, ratchetApplication)
	if err != nil {
		t.Fatal(err)
	}
	ownKey = bytes.Clone(ownKey)
	own.wipe()
	romeo = romeo.ClearProposals(func(ProposalInfo) bool { return true })
	romeo.mustSeal(t, "mine")
	gone["the key of an own message"] = ownKey
	check("an own message")

	// The next epoch: nothing but what late messages need is left of the old one.
	old := romeo.keys.secrets
	gone["the last init_secret"] = bytes.Clone(old.initSecret)
	gone["the last exporter_secret"] = bytes.Clone(old.exporterSecret)
	gone["the last membership_key"] = bytes.Clone(old.membershipKey)
	gone["the last external_secret"] = bytes.Clone(old.externalSecret)
	gone["the last epoch_authenticator"] = bytes.Clone(old.epochAuthenticator)
	gone["the last confirmation_key"] = bytes.Clone(old.confirmationKey)
	commit := c.commit(forgery{wire: WireFormatPrivateMessage})
	key = keyOf(commit)
	r, err = romeo.Process(commit)
	if err != nil {
		t.Fatal(err)
	}
	if romeo, err = r.(*StagedCommit).Merge(); err != nil {
		t.Fatal(err)
	}
	gone["the key of a commit"] = key
	check("a commit")
}

// TestErrorsOfStoredSecrets: what is wrong with a stored secret is said without
// the secret.
func TestErrorsOfStoredSecrets(t *testing.T) {
	tg := newTestGroup(t, nil, suite1, "juliet", "romeo")
	g := tg.members["juliet"]
	secrets := secretsOf("juliet", g)
	kp := testKeyPackage(t, nil, suite1, "nurse")
	secrets["init key"], secrets["nurse's leaf key"], secrets["nurse's signature key"] = kp.init.bytes(), kp.leaf.bytes(), kp.key.seed
	pending := must(g.Commit(nil))
	for name, b := range map[string][]byte{"group": g.Save(), "key package": kp.Marshal(), "commit": pending.Marshal()} {
		for i := 0; i < len(b); i += 1 + len(b)/300 {
			c := bytes.Clone(b)
			c[i] ^= 0x81
			for _, c := range [][]byte{c, b[:i]} {
				var err error
				switch name {
				case "group":
					_, err = Load(nil, c)
				case "key package":
					_, err = UnmarshalPrivateKeyPackage(c)
				default:
					_, err = g.UnmarshalPendingCommit(c)
				}
				if err != nil {
					wantNoSecrets(t, err.Error(), secrets)
				}
			}
		}
	}
	if _, err := ParseSignaturePrivateKey(suite1, append(bytes.Clone(kp.key.seed), 1)); err == nil {
		t.Error("a key of 33 octets")
	} else {
		wantNoSecrets(t, err.Error(), secrets)
	}
	// The search itself finds what it is for.
	for _, text := range []string{
		"key " + base64.StdEncoding.EncodeToString(kp.key.seed), fmt.Sprintf("%X", kp.key.seed), fmt.Sprint(kp.key.seed),
		fmt.Sprintf("%#v", kp.key.seed), string(kp.key.seed),
	} {
		rec := &recorder{TB: t}
		wantNoSecrets(rec, text, map[string][]byte{"key": kp.key.seed})
		if rec.failures == 0 {
			t.Errorf("the search finds nothing in %q", text)
		}
	}
}

// A recorder counts failures instead of failing.
type recorder struct {
	testing.TB
	failures int
}

func (r *recorder) Errorf(string, ...any) { r.failures++ }

func must2m(m *Message, _ *Group, err error) *Message { return must(m, err) }
