// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPassiveClientVectors runs every file whose name begins with
// passive-client-.
func TestPassiveClientVectors(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(vectorDir(), "passive-client-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		if _, err := os.Stat(vectorDir()); errors.Is(err, fs.ErrNotExist) && os.Getenv("LOCKSTEP_VECTORS") == "" {
			t.Skipf("OFFICIAL VECTORS NOT RUN: no %s; set LOCKSTEP_VECTORS", vectorDir())
		}
		t.Fatalf("no passive-client-*.json in %s", vectorDir())
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
			for i, v := range loadVectors[passiveVector](t, name) {
				v.run(t, i, true)
			}
		})
	}
}

// A passiveVector is the life of a client that never sends, in the working group's
// format. Our own files have more in it, which others may ignore: what the client
// must refuse.
type passiveVector struct {
	CipherSuite               CipherSuite    `json:"cipher_suite"`
	ExternalPSKs              []passivePSK   `json:"external_psks"`
	KeyPackage                hexBytes       `json:"key_package"`
	SignaturePriv             hexBytes       `json:"signature_priv"`
	EncryptionPriv            hexBytes       `json:"encryption_priv"`
	InitPriv                  hexBytes       `json:"init_priv"`
	Welcome                   hexBytes       `json:"welcome"`
	RatchetTree               *hexBytes      `json:"ratchet_tree"`
	InitialEpochAuthenticator hexBytes       `json:"initial_epoch_authenticator"`
	Epochs                    []passiveEpoch `json:"epochs"`

	// RefusedWelcomes are refused before the Welcome is taken.
	RefusedWelcomes []refusal `json:"refused_welcomes,omitempty"`
}

type passivePSK struct {
	ID  hexBytes `json:"psk_id"`
	PSK hexBytes `json:"psk"`
}

type passiveEpoch struct {
	Proposals          []hexBytes `json:"proposals"`
	Commit             hexBytes   `json:"commit"`
	EpochAuthenticator hexBytes   `json:"epoch_authenticator"`

	// Refused are refused after the proposals and before the commit. Messages are
	// read in the epoch that the commit begins.
	Refused  []refusal       `json:"refused,omitempty"`
	Messages []passiveLetter `json:"messages,omitempty"`
}

// A refusal is a message, or the commit or Welcome with some octets changed, and the
// rule that it breaks. A message that does not even decode breaks the rule "decode".
type refusal struct {
	Comment string   `json:"comment,omitempty"`
	Rule    Rule     `json:"rule"`
	Message hexBytes `json:"message,omitempty"`
	// Flip is which octet of the commit or Welcome is xored with 1, counted from its
	// end when negative.
	Flip int `json:"flip,omitempty"`
}

// passiveDecode is the rule of a message that does not decode.
const passiveDecode Rule = "decode"

func (r *refusal) of(genuine []byte) []byte {
	if r.Message != nil {
		return r.Message
	}
	b := bytes.Clone(genuine)
	if r.Flip < 0 {
		b[len(b)+r.Flip] ^= 1
	} else {
		b[r.Flip] ^= 1
	}
	return b
}

// check fails the test unless taking the message breaks the rule.
func (r *refusal) check(t *testing.T, where string, genuine []byte, take func(*Message) error) {
	t.Helper()
	m, err := ParseMessage(r.of(genuine))
	if r.Rule == passiveDecode {
		if err == nil {
			t.Errorf("%s, %s: it decodes", where, r.Comment)
		}
		return
	}
	if err != nil {
		t.Errorf("%s, %s: %v", where, r.Comment, err)
		return
	}
	if err := take(m); !hasRule(err, r.Rule) {
		t.Errorf("%s, %s: want rule %s: %v", where, r.Comment, r.Rule, err)
	}
}

type passiveLetter struct {
	Ciphertext        hexBytes `json:"ciphertext"`
	Plaintext         hexBytes `json:"plaintext"`
	AuthenticatedData hexBytes `json:"authenticated_data"`
}

// vectorAuthenticator lets members take whatever credential the generator of the
// vectors gave them.
type vectorAuthenticator struct{}

func (vectorAuthenticator) ValidateCredential(Credential, []byte, CredentialUse) error { return nil }
func (vectorAuthenticator) ValidateSuccessor(_, _ *LeafNode) error                     { return nil }

func (v *passiveVector) run(t *testing.T, i int, foreign bool) {
	t.Helper()
	psks := make(ExternalPSKs)
	for _, p := range v.ExternalPSKs {
		psks[string(p.ID)] = p.PSK
	}
	cfg := &Config{
		AllowListedDefaults: foreign,
		Suites:              AllCipherSuites(), PSKs: psks, Authenticator: vectorAuthenticator{},
		Time:   func() time.Time { return time.Unix(1700000000, 0) },
		Limits: Limits{MaxLifetime: -1, ResumptionPSKs: 1 << 20},
	}
	m, err := ParseMessage(v.KeyPackage)
	if err != nil {
		t.Fatalf("%d: %v", i, err)
	}
	if m.KeyPackage == nil {
		t.Fatalf("%d: %v where a key package belongs", i, m.WireFormat())
	}
	kp, err := ImportKeyPackage(m.KeyPackage, v.InitPriv, v.EncryptionPriv, v.SignaturePriv)
	if err != nil {
		t.Fatalf("%d: %v", i, err)
	}
	g := v.join(t, i, cfg, kp)
	for e := range v.Epochs {
		g = v.Epochs[e].follow(t, fmt.Sprintf("%d.%d", i, e), g)
	}
}

func (v *passiveVector) join(t *testing.T, i int, cfg *Config, kp *PrivateKeyPackage) *Group {
	t.Helper()
	o := &JoinOptions{}
	if v.RatchetTree != nil && len(*v.RatchetTree) > 0 {
		o.Tree = *v.RatchetTree
	}
	join := func(m *Message) (g *Group, err error) {
		if m.Welcome == nil {
			t.Fatalf("%d: %v where a Welcome belongs", i, m.WireFormat())
		}
		return Join(cfg, m.Welcome, kp, o)
	}
	for _, r := range v.RefusedWelcomes {
		r.check(t, fmt.Sprintf("%d: Welcome", i), v.Welcome, func(m *Message) error {
			_, err := join(m)
			return err
		})
	}
	m, err := ParseMessage(v.Welcome)
	if err != nil {
		t.Fatalf("%d: %v", i, err)
	}
	g, err := join(m)
	if err != nil {
		t.Fatalf("%d: joining: %v", i, err)
	}
	if !bytes.Equal(g.EpochAuthenticator(), v.InitialEpochAuthenticator) {
		t.Fatalf("%d: the first epoch authenticator differs", i)
	}
	return g
}

// follow takes the client through an epoch.
func (e *passiveEpoch) follow(t *testing.T, where string, g *Group) *Group {
	t.Helper()
	for _, b := range e.Proposals {
		m, err := ParseMessage(b)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		r, err := g.Process(m)
		if err != nil {
			t.Fatalf("%s: proposal: %v", where, err)
		}
		p, ok := r.(*StagedProposal)
		if !ok {
			t.Fatalf("%s: proposal: %T", where, r)
		}
		g = p.Merge()
	}
	for _, r := range e.Refused {
		r.check(t, where, e.Commit, func(m *Message) error {
			before := g.Save()
			_, err := g.Process(m)
			if !bytes.Equal(before, g.Save()) {
				t.Errorf("%s, %s: the group is changed", where, r.Comment)
			}
			return err
		})
	}
	m, err := ParseMessage(e.Commit)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	r, err := g.Process(m)
	if err != nil {
		t.Fatalf("%s: commit: %v", where, err)
	}
	c, ok := r.(*StagedCommit)
	if !ok {
		t.Fatalf("%s: commit: %T", where, r)
	}
	if g, err = c.Merge(); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if !bytes.Equal(g.EpochAuthenticator(), e.EpochAuthenticator) {
		t.Fatalf("%s: the epoch authenticator differs", where)
	}
	for _, l := range e.Messages {
		m, err := ParseMessage(l.Ciphertext)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		r, err := g.Process(m)
		if err != nil {
			t.Fatalf("%s: message: %v", where, err)
		}
		a, ok := r.(*ApplicationMessage)
		if !ok || !bytes.Equal(a.Data, l.Plaintext) || !bytes.Equal(a.AAD, l.AuthenticatedData) {
			t.Fatalf("%s: message: %T", where, r)
		}
	}
	return g
}

// TestPassiveClientFiles: a file from elsewhere runs, whatever its generator makes of
// what is absent, and whatever else it has in it.
func TestPassiveClientFiles(t *testing.T) {
	b, err := os.ReadFile(scenarioFile)
	if err != nil {
		t.Fatal(err)
	}
	var cases []map[string]any
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	// Suite 1 has its tree in the Welcome, suite 2 apart.
	plain := func(i int) map[string]any {
		c := maps.Clone(cases[i])
		epoch := maps.Clone(c["epochs"].([]any)[0].(map[string]any))
		delete(epoch, "refused")
		delete(epoch, "messages")
		delete(c, "refused_welcomes")
		c["epochs"] = []any{epoch}
		return c
	}
	var list []map[string]any
	for _, edit := range []func(c map[string]any){
		func(c map[string]any) { c["ratchet_tree"] = nil },
		func(c map[string]any) { delete(c, "ratchet_tree") },
		func(c map[string]any) { c["ratchet_tree"] = "" },
		func(c map[string]any) { c["epochs"] = nil },
		func(c map[string]any) { delete(c, "epochs") },
		func(c map[string]any) { c["epochs"].([]any)[0].(map[string]any)["proposals"] = nil },
		func(c map[string]any) { delete(c["epochs"].([]any)[0].(map[string]any), "proposals") },
		func(c map[string]any) { c["comment"] = []any{map[string]any{"of": "a generator"}} },
		func(c map[string]any) { c["commit"], c["actors"] = nil, map[string]any{"a": 1} },
		func(c map[string]any) { c["welcome"] = strings.ToUpper(c["welcome"].(string)) },
		func(c map[string]any) { // the seed with the public key, as libsodium has it
			m, err := ParseMessage(must(hex.DecodeString(c["key_package"].(string))))
			if err != nil {
				t.Fatal(err)
			}
			c["signature_priv"] = c["signature_priv"].(string) + hex.EncodeToString(m.KeyPackage.LeafNode.SignatureKey)
		},
		func(c map[string]any) { c["cipher_suite"] = 0x4d }, // no suite of ours: skipped
		func(c map[string]any) {
			c["cipher_suite"], c["external_psks"], c["key_package"], c["welcome"] = 0xfe3f, nil, nil, "00"
		},
	} {
		c := plain(0)
		edit(c)
		list = append(list, c)
	}
	list = append(list, plain(1))
	if b, err = json.Marshal(list); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "passive-client-from-elsewhere.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LOCKSTEP_VECTORS", dir)
	t.Run("file", TestPassiveClientVectors)
}
