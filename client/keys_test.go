// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/integration/loopback"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// TestRotateSignatureKey gives a verified device a new key. Who has verified the
// old one need not compare again, and nobody can be misled by its old key packages.
func TestRotateSignatureKey(t *testing.T) {
	w := newWorld(t)
	juliet, romeo, jg, rg := pair(t, w)
	nurse := w.join("nurse")
	ok(t, romeo.SetTrust(ctxShort(t), "juliet@"+domain, juliet.Fingerprint(), client.Verified))
	old := juliet.Fingerprint()
	ok(t, juliet.RotateSignatureKey(ctxShort(t)))
	if juliet.Fingerprint() == old {
		t.Fatal("the key is the same")
	}
	e := sees[*client.KeyChanged](romeo)
	if e.Old != old || e.Device.Fingerprint != juliet.Fingerprint() || e.Device.Trust != client.Verified {
		t.Errorf("romeo is told %+v", e)
	}
	must(rg.Send(ctxShort(t), "still friends"))(t)
	juliet.hears("still friends")
	must(jg.Send(ctxShort(t), "with a new key"))(t)
	if m := romeo.hears("with a new key"); m.Sender.Fingerprint != juliet.Fingerprint() || m.Sender.Trust != client.Verified {
		t.Errorf("sent by %+v", m.Sender)
	}
	ng := must(nurse.CreateGroup(ctxShort(t), "", nil))(t)
	for range juliet.cfg.KeyPackages + 1 {
		res := must(ng.Invite(ctxShort(t), "juliet@"+domain))(t)
		if d := res.Users[0].Devices; len(d) != 1 || d[0].Fingerprint != juliet.Fingerprint() {
			t.Fatalf("invited with %+v", res.Users)
		}
		ok(t, ng.Remove(ctxShort(t), "juliet@"+domain))
	}
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	if n := count[*client.KeyChanged](romeo); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// TestRotationInterrupted kills the device when it has the new key and nobody knows.
func TestRotationInterrupted(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("juliet", store.NewMemory("juliet@"+domain))
	crash := crashAt(&cfg, "key-rotated")
	juliet, romeo := w.start("juliet", cfg), w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	crash.of(juliet, func() { juliet.RotateSignatureKey(context.Background()) })
	cfg = w.config("juliet", crash.store)
	client.SetMaintain(&cfg, 50*time.Millisecond)
	again := w.start("juliet", cfg)
	if e := sees[*client.KeyChanged](romeo); e.Device.Fingerprint != again.Fingerprint() {
		t.Errorf("%+v", e)
	}
	must(rg.Send(ctxShort(t), "hello"))(t)
	again.hears("hello")
	sameEpoch(t, rg, again.group(g.JID()))
}

// TestNewCertificate starts a device with another certificate: the old leaf is
// replaced in the groups that it is in.
func TestNewCertificate(t *testing.T) {
	w := newWorld(t)
	ca, caKey, roots := authority(t, 24*time.Hour)
	config := func(name string, st store.Store) client.Config {
		pub, key, _ := ed25519.GenerateKey(rand.Reader)
		cfg := w.config(name, st)
		cfg.Roots, cfg.Certificate = roots, certificate(t, ca, caKey, name+"@"+domain, key, pub)
		client.SetMaintain(&cfg, 50*time.Millisecond)
		return cfg
	}
	cfg := config("juliet", store.NewMemory("juliet@"+domain))
	juliet, romeo := w.start("juliet", cfg), w.start("romeo", config("romeo", store.NewMemory("romeo@"+domain)))
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg := romeo.group(g.JID())
	old := juliet.Fingerprint()
	if err := juliet.RotateSignatureKey(ctxShort(t)); err == nil {
		t.Error("rotated a key that is in a certificate")
	}
	juliet.stop()
	juliet = w.start("juliet", config("juliet", memoryCopy(cfg.Store)))
	if e := sees[*client.KeyChanged](romeo); e.Old != old || e.Device.Fingerprint != juliet.Fingerprint() {
		t.Errorf("%+v", e)
	}
	must(rg.Send(ctxShort(t), "hello"))(t)
	juliet.hears("hello")
}

// published are the key packages of last resort that passed to the service.
func (w *world) published(t *testing.T, name string) (out []*mls.KeyPackage) {
	t.Helper()
	for _, r := range w.server.Wire().Records() {
		if r.Kind != loopback.C2S || r.Dir != loopback.In || !strings.HasPrefix(r.Peer, name+"@") || !strings.Contains(r.XML(), "<publish xmlns='"+stanza.NSKeyPackages) && !strings.Contains(r.XML(), "<publish xmlns=\""+stanza.NSKeyPackages) {
			continue
		}
		for _, part := range strings.Split(r.XML(), "<key-package")[1:] {
			attrs, rest, _ := strings.Cut(part, ">")
			text, _, _ := strings.Cut(rest, "<")
			if !strings.Contains(attrs, "last-resort") {
				continue
			}
			if b, err := base64.StdEncoding.DecodeString(text); err == nil {
				if m, err := mls.ParseMessage(b); err == nil && m.KeyPackage != nil {
					out = append(out, m.KeyPackage)
				}
			}
		}
	}
	return out
}

// TestLastResort is added twice with key packages while away: the second time the
// last resort has to serve. It is replaced, and the leaf that came of it renewed.
func TestLastResort(t *testing.T) {
	w := newWorld(t)
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	cfg.KeyPackages = 1
	romeo, juliet := w.start("romeo", cfg), w.join("juliet")
	romeo.stop()
	before := len(w.published(t, "romeo"))
	if before != 1 {
		t.Fatalf("%d key packages of last resort", before)
	}
	var groups []*client.Group
	for range 2 {
		g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
		must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
		groups = append(groups, g)
	}
	cfg.Store = memoryCopy(cfg.Store)
	again := w.start("romeo", cfg)
	again.group(groups[1].JID())
	again.until("a new leaf", func() bool { return groups[1].Epoch() == 2 })
	again.until("another last resort", func() bool { return len(w.published(t, "romeo")) == before+1 })
	if e := groups[0].Epoch(); e != 1 {
		t.Errorf("the leaf of the usual key package was renewed, too: epoch %d", e)
	}
	list := w.published(t, "romeo")
	if bytes.Equal(list[0].InitKey, list[len(list)-1].InitKey) {
		t.Error("the same was published again")
	}
}

// TestAges lets key packages, leaves and acknowledgements grow old.
func TestAges(t *testing.T) {
	w := newWorld(t)
	var ahead atomic.Int64
	config := func(st store.Store) client.Config {
		cfg := w.config("romeo", st)
		cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		cfg.StaleDevice = -1
		client.SetMaintain(&cfg, 50*time.Millisecond)
		return cfg
	}
	st := store.NewMemory("romeo@" + domain)
	romeo, juliet := w.start("romeo", config(st)), w.join("juliet")
	g := must(romeo.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "juliet@"+domain))(t)
	jg := juliet.group(g.JID())
	at := w.server.Wire().Last()
	must(jg.Send(ctxShort(t), "acknowledge this"))(t)
	romeo.hears("acknowledge this")
	romeo.until("an acknowledgement", func() bool {
		for _, r := range w.server.Wire().Since(at) {
			if r.Kind == loopback.C2S && r.Dir == loopback.In && strings.HasPrefix(r.Peer, "romeo@") && strings.Contains(r.XML(), "<ack") {
				return true
			}
		}
		return false
	})
	stocked := func() (n int) {
		st.Scan("k/", store.PrefixEnd("k/"), func(string, []byte) error { n++; return nil })
		return n
	}
	epoch, last, rows := g.Epoch(), len(w.published(t, "romeo")), stocked()
	ahead.Store(int64(6 * 24 * time.Hour))
	time.Sleep(200 * time.Millisecond) // several rounds of maintenance
	if g.Epoch() != epoch || len(w.published(t, "romeo")) != last {
		t.Errorf("renewed after six days: epoch %d, %d last resorts", g.Epoch(), len(w.published(t, "romeo")))
	}
	ahead.Store(int64(11 * 24 * time.Hour))
	romeo.until("new keys in the group after ten days", func() bool { return g.Epoch() > epoch })
	ahead.Store(int64(31 * 24 * time.Hour))
	romeo.until("another last resort after thirty days", func() bool { return len(w.published(t, "romeo")) == last+1 })
	// The service's clock is right: it refuses the new one, which is not kept then.
	if n := stocked(); n < rows {
		t.Errorf("%d private parts, want those of before, %d", n, rows)
	}
	// Long after their end the private parts of the first are gone.
	ahead.Store(int64(150 * 24 * time.Hour))
	romeo.until("the end of the private parts", func() bool {
		old := false
		st.Scan("k/", store.PrefixEnd("k/"), func(_ string, b []byte) error {
			old = old || bytes.Contains(b, []byte(`"retired":true`))
			return nil
		})
		return !old
	})
}

// TestRefusedLastResort has a new key package of last resort refused: the service
// goes on giving the old one away, whose private part must not be given up.
func TestRefusedLastResort(t *testing.T) {
	w := newWorld(t)
	var ahead atomic.Int64
	st := store.NewMemory("romeo@" + domain)
	cfg := w.config("romeo", st)
	cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	client.SetMaintain(&cfg, 50*time.Millisecond)
	romeo := w.start("romeo", cfg)
	rows := func() (list []string) {
		st.Scan("k/", store.PrefixEnd("k/"), func(_ string, b []byte) error {
			if bytes.Contains(b, []byte(`"last-resort":true`)) {
				list = append(list, string(b))
			}
			return nil
		})
		return list
	}
	romeo.until("the first to be accepted", func() bool { l := rows(); return len(l) == 1 && strings.Contains(l[0], `"published":true`) })
	first, tries := rows()[0], len(w.published(t, "romeo"))
	ahead.Store(int64(31 * 24 * time.Hour)) // the service's clock is right: it refuses what is valid from then on
	romeo.until("two more tries", func() bool { return len(w.published(t, "romeo")) >= tries+2 })
	for _, row := range rows() {
		if strings.Contains(row, `"retired":true`) {
			t.Error("a key package of last resort is retired, and the service has no other")
		}
	}
	if !slices.Contains(rows(), first) {
		t.Error("the row of the key package that the service has was changed")
	}
	w.restartDS()
	ahead.Store(0)
	juliet := w.join("juliet")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	romeo.group(g.JID())
}

// TestWrongClock has a clock that is a year off: the client goes on with what works,
// says what is wrong, and keeps no keys that nobody can use.
func TestWrongClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for off, words := range map[time.Duration]string{year: "365 days ahead of", -year: "365 days behind"} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.join("romeo")
			st := store.NewMemory("juliet@" + domain)
			cfg := w.config("juliet", st)
			cfg.TLS.Time = time.Now // the connection would not come about
			cfg.Clock = func() time.Time { return time.Now().Add(off) }
			juliet := w.start("juliet", cfg)
			said := false
			for _, f := range juliet.Doctor(ctxShort(t)) {
				said = said || f.Name == "clock" && !f.OK && strings.Contains(f.Text, words)
			}
			if !said {
				t.Errorf("the doctor says %+v", juliet.Doctor(ctxShort(t)))
			}
			g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
			must(g.Send(ctxShort(t), "what's in a name"))(t)
			res, err := g.Invite(ctxShort(t), "romeo@"+domain)
			if !errors.Is(err, client.ErrNobodyAdded) || !strings.Contains(res.Users[0].Reason, words) {
				t.Errorf("inviting: %v, %+v", err, res)
			}
			// Publishing is tried again and again.
			until(t, "the keys are gone", func() bool {
				n := 0
				ok(t, st.Scan("k/", store.PrefixEnd("k/"), func(string, []byte) error { n++; return nil }))
				return n == 0
			})
		})
	}
}
