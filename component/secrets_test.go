// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// syncBuffer is a buffer that a logger and a test share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func policyDefault() groupdata.Policy { return groupdata.DefaultPolicy() }

// TestStoreHoldsNoSecret greps the whole store, its log included, for every
// plaintext and for the secrets of every epoch of a group: the service cannot
// lose what it never has.
func TestStoreHoldsNoSecret(t *testing.T) {
	s := start(t)
	j, r := pair(t, s)
	var secrets [][]byte
	note := func(a *actor) {
		exported, err := a.g.Export("test", nil, 32)
		a.must(err)
		secrets = append(secrets, a.g.EpochAuthenticator(), a.g.ResumptionPSK(), exported, a.me.Key.Bytes())
	}
	note(j)
	for _, text := range []string{"parting is such sweet sorrow", "what's in a name"} {
		secrets = append(secrets, []byte(text))
		_, err := j.sendText(balcony, text)
		j.must(err)
		r.catchUp(balcony)
		_, err = r.commit(balcony, mls.CommitOptions{ForcePath: true})
		r.must(err)
		j.seq = r.seq
		j.catchUp(balcony)
		r.seq = j.seq
		note(j)
		note(r)
	}
	for _, kp := range r.kps {
		if b := kp.Marshal(); len(b) > 64 {
			secrets = append(secrets, b[len(b)-32:])
		}
	}
	s.stop()
	files, err := filepath.Glob(s.path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	size := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		size += len(b)
		for _, secret := range secrets {
			for _, form := range [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret)), []byte(hex.EncodeToString(secret))} {
				if len(form) >= 12 && bytes.Contains(b, form) {
					t.Errorf("%s holds a secret: %q", f, secret)
				}
			}
		}
		// The grep itself works: what must be there is found.
		if f == s.path && !bytes.Contains(b, []byte(balcony)) {
			t.Errorf("%s does not even hold the name of the group", f)
		}
	}
	if size < 50_000 || len(secrets) < 15 {
		t.Errorf("looked for %d secrets in %d bytes", len(secrets), size)
	}
}

// TestSendersAreNotKept: the log does not say who spoke, unless the operator has
// decided so.
func TestSendersAreNotKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		s := start(t, func(c *component.Config) { c.KeepSenders = keep })
		j, r := pair(t, s)
		for _, a := range []*actor{j, r} {
			_, err := a.sendText(balcony, "who am I")
			a.must(err)
		}
		var got []string
		j.must(s.store.View(context.Background(), func(rd store.Reader) error {
			row, err := rd.Group(balcony)
			if err != nil {
				return err
			}
			list, err := rd.Log(row.Key, store.LogQuery{Limit: 100})
			for _, e := range list {
				if e.Kind == store.KindApplication {
					got = append(got, e.Sender+e.Device)
				}
			}
			return err
		}))
		want := []string{"", ""}
		if keep {
			want = []string{juliet, romeo}
		}
		if !slices.Equal(got, want) {
			t.Errorf("kept %v: the log's senders are %q, want %q", keep, got, want)
		}
	}
}
