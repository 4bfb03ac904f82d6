// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The states of the first version, as programs in the field have stored them. The
// file is frozen: a later version reads it, or says in its own words why not. Only
// a format that was never released is written anew:
//
//	go test ./mls -run TestStoredStateOfVersion1 -args -update-state
var updateState = flag.Bool("update-state", false, "write the stored states of version 1 anew")

const stateFixture = "testdata/state-v1.json"

// stateTime is when the fixture was made: its key packages are valid then.
var stateTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type fixtureHex []byte

func (h fixtureHex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *fixtureHex) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type storedNode struct {
	Index uint32     `json:"index"`
	Data  fixtureHex `json:"data"`
}

// A stateCase is what three members and an observer have stored in one epoch.
type stateCase struct {
	CipherSuite CipherSuite `json:"cipher_suite"`
	// Juliet is about to commit the addition of Mercutio.
	Juliet  fixtureHex `json:"juliet"`
	Pending fixtureHex `json:"pending_commit"`
	// Romeo has proposed an Update, and has missed a message of Juliet's.
	Romeo   fixtureHex `json:"romeo"`
	Message fixtureHex `json:"message"`
	// Mercutio waits for the Welcome.
	Mercutio fixtureHex `json:"private_key_package"`
	// The observer.
	State fixtureHex   `json:"public_state"`
	Nodes []storedNode `json:"public_nodes"`
	// The epoch after the commit.
	Authenticator fixtureHex `json:"epoch_authenticator"`
}

const missedText = "wherefore art thou"

func stateConfig(cs CipherSuite) *Config {
	return &Config{Time: func() time.Time { return stateTime }, Suites: []CipherSuite{cs}}
}

func makeStateCase(t *testing.T, cs CipherSuite) *stateCase {
	cfg := stateConfig(cs)
	tg := newTestGroup(t, cfg, cs, "juliet", "romeo", "nurse")
	tg.commit("nurse", nil)
	tg.commit("romeo", nil)
	juliet := tg.members["juliet"]
	missed, err := juliet.Seal([]byte(missedText), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	tg.say("juliet", "the second arrives first")
	tg.propose("romeo", func(g *Group) (*Message, *Group, error) { return g.ProposeUpdate(nil, nil) })
	juliet = tg.members["juliet"]
	mercutio := testKeyPackage(t, cfg, cs, "mercutio")
	p, err := juliet.Commit(&CommitOptions{Add: []*KeyPackage{mercutio.KeyPackage}, InlineTree: true})
	if err != nil {
		t.Fatal(err)
	}
	next, err := p.Merge()
	if err != nil {
		t.Fatal(err)
	}
	s := &stateCase{
		CipherSuite: cs, Juliet: juliet.Save(), Pending: p.Marshal(), Romeo: tg.members["romeo"].Save(),
		Message: missed.Bytes(), Mercutio: mercutio.Marshal(), State: tg.public.State(), Authenticator: next.EpochAuthenticator(),
	}
	for n := range tg.public.TreeNodes() {
		s.Nodes = append(s.Nodes, storedNode{n.Index, n.Data})
	}
	return s
}

func TestStoredStateOfVersion1(t *testing.T) {
	if *updateState {
		var list []*stateCase
		for _, cs := range []CipherSuite{
			MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
			MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448,
		} {
			list = append(list, makeStateCase(t, cs))
		}
		b, err := json.MarshalIndent(list, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.FromSlash(stateFixture), append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.FromSlash(stateFixture))
	if err != nil {
		t.Fatal(err)
	}
	var list []*stateCase
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("the fixture has no cases")
	}
	for _, s := range list {
		t.Run(fmt.Sprintf("suite%d", s.CipherSuite), s.check)
	}
}

// check goes on from the stored states as if nothing had happened.
func (s *stateCase) check(t *testing.T) {
	cfg := stateConfig(s.CipherSuite)
	juliet, err := Load(cfg, s.Juliet)
	if err != nil {
		t.Fatal(err)
	}
	p, err := juliet.UnmarshalPendingCommit(s.Pending)
	if err != nil {
		t.Fatal(err)
	}
	next, err := p.Merge()
	if err != nil {
		t.Fatal(err)
	}
	agree := func(who string, g *Group) {
		t.Helper()
		if !bytes.Equal(g.EpochAuthenticator(), s.Authenticator) {
			t.Errorf("%s is in another epoch", who)
		}
	}
	agree("juliet", next)

	romeo, err := Load(cfg, s.Romeo)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMessage(s.Message)
	if err != nil {
		t.Fatal(err)
	}
	r, err := romeo.Process(m)
	if err != nil {
		t.Fatal(err)
	}
	if app, ok := r.(*ApplicationMessage); !ok || string(app.Data) != missedText || string(app.AAD) != "aad" {
		t.Errorf("romeo reads %+v", r)
	}
	if r, err = romeo.Process(p.Message()); err != nil {
		t.Fatal(err)
	}
	if romeo, err = r.(*StagedCommit).Merge(); err != nil {
		t.Fatal(err)
	}
	agree("romeo", romeo)

	kp, err := UnmarshalPrivateKeyPackage(s.Mercutio)
	if err != nil {
		t.Fatal(err)
	}
	mercutio, err := Join(cfg, p.Welcome().Welcome, kp, nil)
	if err != nil {
		t.Fatal(err)
	}
	agree("mercutio", mercutio)

	var nodes []TreeNode
	for _, n := range s.Nodes {
		nodes = append(nodes, TreeNode{n.Index, n.Data})
	}
	public, err := LoadPublicGroup(cfg, s.State, slices.Values(nodes))
	if err != nil {
		t.Fatal(err)
	}
	pr, err := public.Process(p.Message())
	if err != nil {
		t.Fatal(err)
	}
	if got := pr.Merge(); !bytes.Equal(got.Context().TreeHash, next.Context().TreeHash) {
		t.Error("the observer has another tree")
	}
}
