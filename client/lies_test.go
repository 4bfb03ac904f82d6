// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// liar sits between one client and its server, as a delivery service that lies
// to this one member would.
type liar struct {
	t  testing.TB
	mu sync.Mutex
	// lie replaces a stanza by others; nil leaves all as it is.
	lie   func(s *stanza.Stanza, raw []byte) [][]byte
	asked int // counts again
}

// again reports, within a lie, whether it was asked before.
func (l *liar) again() bool {
	l.asked++
	return l.asked > 1
}

func (l *liar) tell(fn func(s *stanza.Stanza, raw []byte) [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lie = fn
}

// dial is a Config.Dial.
func (l *liar) dial(addr string) func(context.Context) (net.Conn, bool, error) {
	return func(ctx context.Context) (net.Conn, bool, error) {
		up, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, false, err
		}
		mine, theirs := net.Pipe()
		go func() { io.Copy(up, mine); up.Close() }()
		go func() {
			l.down(mine, up)
			mine.Close()
			up.Close()
		}()
		// The tunnel counts as encrypted: there is nobody in it but the liar.
		return theirs, true, nil
	}
}

func (l *liar) down(to io.Writer, from io.Reader) {
	sp := xmlpull.NewSplitter(from, xmlpull.Limits{MaxBytes: 1 << 20})
	for {
		h, err := sp.Open()
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(to, "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='%s' from='%s' version='1.0'>", h.ID, h.From); err != nil {
			return
		}
		for {
			raw, err := sp.Next()
			if err != nil {
				return
			}
			out := [][]byte{raw}
			p := stanza.NewParser(h.Context, xmlpull.Limits{})
			if s, err := p.Parse(raw); err == nil && s.Kind != stanza.Other {
				l.mu.Lock()
				if l.lie != nil {
					out = l.lie(&s, raw)
				}
				l.mu.Unlock()
			}
			success := strings.HasPrefix(string(raw), "<success")
			for _, b := range out {
				if _, err := to.Write(b); err != nil {
					return
				}
			}
			if success {
				break // the stream begins anew
			}
		}
	}
}

// deceived is a pair whose romeo hears through a liar.
func deceived(t *testing.T) (l *liar, juliet, romeo *actor, jg, rg *client.Group) {
	w := newWorldWith(t, func(o *worldOptions) { o.PlainC2S = true })
	l = &liar{t: t}
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	cfg.Dial, cfg.AllowPlaintext = l.dial(w.server.AddrC2S()), true
	juliet, romeo = w.join("juliet"), w.start("romeo", cfg)
	jg = must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(jg.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg = romeo.group(jg.JID())
	var passed atomic.Bool
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		if _, _, ok := delivered(s); ok {
			passed.Store(true)
		}
		return [][]byte{raw}
	})
	must(jg.Send(ctxShort(t), "the truth"))(t)
	romeo.hears("the truth")
	// He may have it from the log: no lie must be about its event.
	until(t, "the event has passed", passed.Load)
	l.tell(nil)
	return l, juliet, romeo, jg, rg
}

// delivered reads an application message out of a stanza.
func delivered(s *stanza.Stanza) (d stanza.Delivery, b []byte, ok bool) {
	el := s.Child(stanza.NSDelivery, "delivery")
	if s.Kind != stanza.Message || !el.Valid() {
		return d, nil, false
	}
	d, err := stanza.Parse[stanza.Delivery](el)
	m, err2 := stanza.Parse[stanza.MLS](s.Child(stanza.NSMLS, "mls"))
	return d, m.Bytes, err == nil && err2 == nil && d.Kind == stanza.EntryApplication
}

// delivery writes one.
func delivery(s *stanza.Stanza, d stanza.Delivery, b []byte) []byte {
	h := s.Header()
	return h.Append(nil, &stanza.MLS{Bytes: b}, &d)
}

// chained gives d the chain that follows prev, as a careful liar would.
func chained(prev groupdata.Chain, d stanza.Delivery, b []byte) (stanza.Delivery, groupdata.Chain) {
	next := prev.Next(d.Seq, groupdata.Application, d.Epoch, b)
	d.Chain = stanza.Hash(next)
	return d, next
}

func chainOf(t *testing.T, g *client.Group) groupdata.Chain {
	t.Helper()
	_, text := g.Chain()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return must(groupdata.ChainFromBytes(b))(t)
}

// say sends a message and waits until its sender has seen it in the log: from then
// on, what the sender says bears witness to it.
func say(t *testing.T, g *client.Group, text string) {
	t.Helper()
	sent := must(g.Send(ctxShort(t), text))(t)
	ok(t, g.Sync(ctxShort(t)))
	if seq, _ := g.Chain(); seq < sent.Seq {
		t.Fatalf("caught up to entry %d, and sent entry %d", seq, sent.Seq)
	}
}

// TestHiddenEntry hides one message from romeo, with a log that is consistent
// in itself. The next message gives it away.
func TestHiddenEntry(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	chain := chainOf(t, rg)
	hidden := false
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		if s.Child(stanza.NSDelivery, "log").Valid() {
			return nil // it would give the lie away before a member does
		}
		d, b, isMessage := delivered(s)
		if !isMessage {
			return [][]byte{raw}
		}
		if !hidden {
			hidden = true
			return nil
		}
		d.Seq--
		d, chain = chained(chain, d, b)
		return [][]byte{delivery(s, d, b)}
	})
	say(t, jg, "hidden")
	must(jg.Send(ctxShort(t), "shown"))(t)
	e := sees[*client.ForkDetected](romeo)
	if e.Evidence.Member == nil || e.Evidence.Member.JID != "juliet@"+domain || len(e.Evidence.Message) == 0 {
		t.Errorf("evidence %+v", e.Evidence)
	}
}

// TestSwappedEntries shows two messages in another order.
func TestSwappedEntries(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	chain := chainOf(t, rg)
	var first []byte
	var firstD stanza.Delivery
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		if s.Child(stanza.NSDelivery, "log").Valid() {
			return nil // it would give the lie away before a member does
		}
		d, b, isMessage := delivered(s)
		if !isMessage {
			return [][]byte{raw}
		}
		if first == nil {
			first, firstD = b, d
			return nil
		}
		second := d
		d.Seq, second.Seq = firstD.Seq, d.Seq
		var x, y stanza.Delivery
		x, chain = chained(chain, d, b)
		y, chain = chained(chain, second, first)
		return [][]byte{delivery(s, x, b), delivery(s, y, first)}
	})
	say(t, jg, "first")
	must(jg.Send(ctxShort(t), "second"))(t)
	sees[*client.ForkDetected](romeo)
}

// TestReplayedEntry plays an old message again in a new place.
func TestReplayedEntry(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	chain := chainOf(t, rg)
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		d, b, isMessage := delivered(s)
		if !isMessage {
			return [][]byte{raw}
		}
		var x, y stanza.Delivery
		x, chain = chained(chain, d, b)
		d.Seq++
		y, chain = chained(chain, d, b)
		return [][]byte{delivery(s, x, b), delivery(s, y, b)}
	})
	must(jg.Send(ctxShort(t), "give me my romeo"))(t)
	if e := sees[*client.Misbehaved](romeo); len(e.Evidence.Message) == 0 || !strings.Contains(e.Reason, "twice") {
		t.Errorf("%+v", e)
	}
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	n := 0
	for _, m := range romeo.messages {
		if m.Body == "give me my romeo" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("heard %d times", n)
	}
}

// TestWrongChain states a chain that does not fit the log.
func TestWrongChain(t *testing.T) {
	l, _, romeo, jg, _ := deceived(t)
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		d, b, isMessage := delivered(s)
		if !isMessage {
			return [][]byte{raw}
		}
		d.Chain[0] ^= 1
		return [][]byte{delivery(s, d, b)}
	})
	must(jg.Send(ctxShort(t), "x"))(t)
	if e := sees[*client.Misbehaved](romeo); e.Evidence.Ours == e.Evidence.Theirs || e.Evidence.Theirs == "" {
		t.Errorf("%+v", e.Evidence)
	}
	romeo.hears("x")
}

// TestSpoiledMessage flips a bit: the genuine message is told to be lost, the
// group goes on.
func TestSpoiledMessage(t *testing.T) {
	l, _, romeo, jg, _ := deceived(t)
	once := true
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		d, b, isMessage := delivered(s)
		if !isMessage || !once {
			return [][]byte{raw}
		}
		once = false
		b[len(b)-1] ^= 1
		return [][]byte{delivery(s, d, b)}
	})
	must(jg.Send(ctxShort(t), "spoiled"))(t)
	sees[*client.Undecryptable](romeo)
	sees[*client.Misbehaved](romeo) // its chain does not fit any more
}

// TestRolledBackLog has a log that ends earlier than it did.
func TestRolledBackLog(t *testing.T) {
	l, _, romeo, _, rg := deceived(t)
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		if el := s.Child(stanza.NSDelivery, "log"); el.Valid() {
			h := s.Header()
			return [][]byte{h.Append(nil, &stanza.Log{Epoch: 1, Head: 1, Complete: true})}
		}
		return [][]byte{raw}
	})
	if err := rg.Sync(ctxShort(t)); err == nil {
		t.Error("synchronised with a log that has gone back")
	}
	if e := sees[*client.RollbackDetected](romeo); e.Evidence.Seq != 2 {
		t.Errorf("%+v", e)
	}
}

// TestOldGroupInfo gives a member that comes back the group as it was.
func TestOldGroupInfo(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	var mu sync.Mutex
	var old *stanza.GroupInfo
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		el := s.Child(stanza.NSDelivery, "group-info")
		if !el.Valid() {
			return [][]byte{raw}
		}
		mu.Lock()
		defer mu.Unlock()
		gi, err := stanza.Parse[stanza.GroupInfo](el)
		if err != nil {
			return [][]byte{raw}
		}
		if old == nil {
			old = &gi
			return [][]byte{raw}
		}
		h := s.Header()
		return [][]byte{h.Append(nil, old)}
	})
	rg.Lose("for the first time")
	sees[*client.Rejoined](romeo)
	for range 3 {
		ok(t, jg.UpdateKeys(ctxShort(t)))
	}
	romeo.until("the new epochs", func() bool { return rg.Epoch() == jg.Epoch() })
	rg.Lose("for the second time")
	sees[*client.RollbackDetected](romeo)
}

// TestLawlessCommit makes mallory owner in a group whose commits the service
// cannot read. The others do not follow.
func TestLawlessCommit(t *testing.T) {
	w := newWorld(t)
	juliet := w.join("juliet")
	cfg := w.config("mallory", store.NewMemory("mallory@"+domain))
	client.SetLawless(&cfg)
	mallory := w.start("mallory", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", &client.GroupOptions{PrivateHandshakes: true}))(t)
	must(g.Invite(ctxShort(t), "mallory@"+domain))(t)
	mg := mallory.group(g.JID())
	if err := mg.SetRole(ctxShort(t), "mallory@"+domain, groupdata.Owner); err != nil {
		t.Logf("mallory's own client says: %v", err)
	}
	e := sees[*client.Misbehaved](juliet)
	if len(e.Evidence.Message) == 0 {
		t.Errorf("%+v", e)
	}
	if role := must(g.Role("mallory@" + domain))(t); role != groupdata.Member {
		t.Errorf("mallory is %s", role)
	}
	if _, err := g.Send(contextFor(t, 3*time.Second), "hello"); err == nil {
		t.Error("juliet went on in a group that she must not follow")
	}
	// Nor after a second commit, which she cannot read, and a restart.
	seq := g.Seq()
	if err := mg.Rename(ctxShort(t), "Mallory's"); err != nil {
		t.Logf("mallory's own client says: %v", err)
	}
	juliet.until("the second commit", func() bool { return g.Seq() > seq })
	juliet.stop()
	jcfg := juliet.cfg
	jcfg.Store = memoryCopy(jcfg.Store)
	juliet = w.start("juliet", jcfg)
	g = juliet.group(g.JID())
	var stuck *client.StuckError
	if err := g.Sync(ctxShort(t)); !errors.As(err, &stuck) || stuck.Group != g.JID() {
		t.Errorf("Sync: %v", err)
	}
	if _, err := g.Send(ctxShort(t), "hello"); !errors.As(err, &stuck) {
		t.Errorf("Send: %v", err)
	}
	ok(t, g.Rejoin(ctxShort(t))) // a person has looked at it
	must(g.Send(ctxShort(t), "so be it"))(t)
	mallory.hears("so be it")
}

// TestBrokenGroup describes a group so that no device can come into it: the new
// device of a member is ready all the same.
func TestBrokenGroup(t *testing.T) {
	w := newWorldWith(t, func(o *worldOptions) { o.PlainC2S = true })
	phone := w.join("romeo")
	whole := must(phone.CreateGroup(ctxShort(t), "", nil))(t)
	broken := must(phone.CreateGroup(ctxShort(t), "", nil))(t)
	l := &liar{t: t}
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		el := s.Child(stanza.NSDelivery, "group-info")
		if !el.Valid() || string(s.From) != broken.JID() {
			return [][]byte{raw}
		}
		gi, err := stanza.Parse[stanza.GroupInfo](el)
		if err != nil {
			return [][]byte{raw}
		}
		gi.Bytes[len(gi.Bytes)-1] ^= 1 // of the signature
		h := s.Header()
		return [][]byte{h.Append(nil, &gi)}
	})
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	cfg.Dial, cfg.AllowPlaintext = l.dial(w.server.AddrC2S()), true
	laptop := w.start("romeo", cfg)
	laptop.group(whole.JID())
	must(whole.Send(ctxShort(t), "from the phone"))(t)
	laptop.hears("from the phone")
	if g, ok := laptop.Group(broken.JID()); ok && g.Joined() {
		t.Error("came into a group by a GroupInfo that nobody signed")
	}
}

// TestWelcomeWaitsAtTheGroup has a home service that holds nothing but a pointer, as
// it does of what is too large for the way from the group's service.
func TestWelcomeWaitsAtTheGroup(t *testing.T) {
	w := newWorldWith(t, func(o *worldOptions) { o.PlainC2S = true })
	juliet := w.join("juliet")
	l := &liar{t: t}
	var mu sync.Mutex
	var asked []string
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		el := s.Child(stanza.NSDelivery, "welcome")
		if !el.Valid() || s.Kind != stanza.IQ {
			return [][]byte{raw}
		}
		mu.Lock()
		defer mu.Unlock()
		from := string(s.From)
		asked = append(asked, from)
		in, err := stanza.Parse[stanza.Welcome](el)
		switch {
		case err != nil || len(asked) > 2:
			return [][]byte{raw}
		case from == dsDomain:
			in.Bytes, in.Total = nil, 0
			h := s.Header()
			return [][]byte{h.Append(nil, &in)}
		}
		return [][]byte{fmt.Appendf(nil, "<iq xmlns='jabber:client' type='error' id='%s' from='%s' to='%s'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", s.ID, s.From, s.To)}
	})
	cfg := w.config("romeo", store.NewMemory("romeo@"+domain))
	cfg.Dial, cfg.AllowPlaintext = l.dial(w.server.AddrC2S()), true
	romeo := w.start("romeo", cfg)
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	epoch := g.Epoch()
	sameEpoch(t, g, romeo.group(g.JID()))
	mu.Lock()
	defer mu.Unlock()
	if want := []string{g.JID(), dsDomain, g.JID()}; !slices.Equal(asked, want) {
		t.Errorf("asked %v for the Welcome, want %v", asked, want)
	}
	if g.Epoch() != epoch {
		t.Errorf("romeo came in from outside: the epoch is %d, want %d", g.Epoch(), epoch)
	}
}

// withoutEntry leaves an entry out of a page of the log, and every other stanza as
// it is. hidden tells whether the entry was there.
func withoutEntry(t *testing.T, s *stanza.Stanza, raw []byte, seq uint64) (out []byte, hidden bool) {
	el := s.Child(stanza.NSDelivery, "log")
	if !el.Valid() {
		return raw, false
	}
	page, err := stanza.Parse[stanza.Log](el)
	if err != nil {
		t.Error(err)
		return raw, false
	}
	n := len(page.Entries)
	page.Entries = slices.DeleteFunc(page.Entries, func(e stanza.Entry) bool { return e.Seq == seq })
	h := s.Header()
	return h.Append(nil, &page), len(page.Entries) < n
}

// TestLongHole leaves an entry out of the log, with more behind it than a client
// keeps out of order: it does not wait for the entry for ever.
func TestLongHole(t *testing.T) {
	l, _, romeo, jg, rg := deceived(t)
	hole := rg.Seq() + 1
	var missed atomic.Bool
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		if _, _, isMessage := delivered(s); isMessage {
			return nil
		}
		raw, hidden := withoutEntry(t, s, raw, hole)
		if hidden {
			missed.Store(true)
		}
		return [][]byte{raw}
	})
	fill(t, jg, 800)
	// It fails, or ends after the client has come back by itself.
	t.Log(rg.Sync(contextFor(t, 20*time.Second)))
	if !missed.Load() {
		t.Error("the hole was never shown")
	}
	sees[*client.Rejoined](romeo)
	l.tell(nil)
	sameEpoch(t, jg, rg) // who comes back reads nothing of the epochs before
	must(jg.Send(ctxShort(t), "after all"))(t)
	romeo.hears("after all")
}
