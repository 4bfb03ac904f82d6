// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// forger is an account whose client seals what it is told to.
type forger struct {
	mu sync.Mutex
	fn func(plain []byte) []byte
}

func (f *forger) do(fn func(plain []byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fn = fn
}

func (f *forger) config(w *world, name string) client.Config {
	cfg := w.config(name, store.NewMemory(name+"@"+domain))
	client.SetForge(&cfg, func(plain []byte) []byte {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.fn == nil {
			return plain
		}
		return f.fn(plain)
	})
	return cfg
}

// TestFalseEnvelopes has a member who writes in another's name, for another
// group, or says less than an envelope must.
func TestFalseEnvelopes(t *testing.T) {
	w := newWorld(t)
	var f forger
	mallory, romeo := w.start("mallory", f.config(w, "mallory")), w.join("romeo")
	g := must(mallory.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	romeo.group(g.JID())
	replace := func(old, new string) func([]byte) []byte {
		return func(plain []byte) []byte {
			if !bytes.Contains(plain, []byte(old)) {
				t.Errorf("there is no %q in %s", old, plain)
			}
			return bytes.Replace(plain, []byte(old), []byte(new), 1)
		}
	}
	stamp := func(plain []byte) []byte {
		before, rest, _ := bytes.Cut(plain, []byte("<time"))
		_, after, _ := bytes.Cut(rest, []byte("/>"))
		return append(bytes.Clone(before), after...)
	}
	n := 0
	for what, fn := range map[string]func([]byte) []byte{
		"another's name":   replace("<from jid='mallory@", "<from jid='juliet@"),
		"no name":          replace("<from jid='mallory@"+domain+"'/>", ""),
		"another group":    replace("<to jid='"+g.JID(), "<to jid='another@"+dsDomain),
		"no group":         replace("<to jid='"+g.JID()+"'/>", ""),
		"no time":          stamp,
		"another root":     replace("<envelope", "<envelop"),
		"not well-formed":  replace("</content>", "<content>"),
		"no XML, but text": func([]byte) []byte { return []byte("hello") },
	} {
		f.do(fn)
		must(g.Send(ctxShort(t), "false: "+what))(t)
		n++
		romeo.until("refusing "+what, func() bool { return count[*client.Undecryptable](romeo) == n })
	}
	f.do(nil)
	must(g.Send(ctxShort(t), "the truth"))(t)
	romeo.hears("the truth")
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	for _, m := range romeo.messages {
		if strings.HasPrefix(m.Body, "false") {
			t.Errorf("romeo was shown %q of %s", m.Body, m.Sender.JID)
		}
	}
}

// count counts events. Called with the lock held.
func count[E client.Event](a *actor) (n int) {
	for _, e := range a.events {
		if _, ok := e.(E); ok {
			n++
		}
	}
	return n
}

// TestCopies drops a message that some member encrypted anew, also after a
// restart. It has the name that its author gave the first.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	var f forger
	mallory, romeo := w.start("mallory", f.config(w, "mallory")), w.join("romeo")
	g := must(mallory.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	romeo.group(g.JID())
	var first []byte
	f.do(func(plain []byte) []byte { // what mallory sends from now on is her first message
		if first == nil {
			first = bytes.Clone(plain)
		}
		return first
	})
	must(g.Send(ctxShort(t), "once"))(t)
	romeo.hears("once")
	must(g.Send(ctxShort(t), "twice"))(t)
	romeo.until("a copy", func() bool { return count[*client.Undecryptable](romeo) == 1 })
	romeo.stop()
	cfg := romeo.cfg
	cfg.Store = memoryCopy(cfg.Store)
	must(g.Send(ctxShort(t), "thrice"))(t)
	again := w.start("romeo", cfg)
	again.until("a copy after the restart", func() bool { return count[*client.Undecryptable](again) == 1 })
	f.do(nil)
	must(g.Send(ctxShort(t), "something else"))(t)
	again.hears("something else")
	for _, a := range []*actor{romeo, again} {
		a.mu.Lock()
		n := 0
		for _, m := range a.messages {
			if m.Body == "once" {
				n++
			}
		}
		if want := map[*actor]int{romeo: 1, again: 0}[a]; n != want {
			t.Errorf("shown %d times, want %d", n, want)
		}
		a.mu.Unlock()
	}
}

// TestManyMessagesAreNoCopies goes round the memory of names.
func TestManyMessagesAreNoCopies(t *testing.T) {
	if testing.Short() {
		t.Skip("sends two thousand messages")
	}
	w := newWorld(t)
	_, romeo, jg, _ := pair(t, w)
	const n = 2200
	fill(t, jg, n)
	must(jg.Send(ctxShort(t), "the end"))(t)
	romeo.hears("the end")
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	if len(romeo.messages) != n+1 || count[*client.Undecryptable](romeo) > 0 {
		t.Errorf("%d messages, %d were dropped", len(romeo.messages), count[*client.Undecryptable](romeo))
	}
}

// TestAnnounceOnlyReceived has a service that lets somebody speak who may not.
func TestAnnounceOnlyReceived(t *testing.T) {
	l, juliet, romeo, jg, rg := deceived(t)
	w := juliet.w
	mallory := w.join("mallory")
	must(jg.Invite(ctxShort(t), "mallory@"+domain))(t)
	mg := mallory.group(jg.JID())
	sameEpoch(t, jg, rg, mg)
	// Her message is kept back from romeo until she may not speak any more.
	chain := chainOf(t, rg)
	var held []byte
	l.tell(func(s *stanza.Stanza, raw []byte) [][]byte {
		el := s.Child(stanza.NSDelivery, "delivery")
		if s.Kind != stanza.Message || !el.Valid() {
			return [][]byte{raw}
		}
		d, err := stanza.Parse[stanza.Delivery](el)
		m, err2 := stanza.Parse[stanza.MLS](s.Child(stanza.NSMLS, "mls"))
		if err != nil || err2 != nil {
			return [][]byte{raw}
		}
		b := bytes.Clone(m.Bytes)
		if d.Kind == stanza.EntryApplication && held == nil {
			held = b
			return nil
		}
		if d.Kind != stanza.EntryCommit {
			return nil
		}
		d.Seq--
		chain = chain.Next(d.Seq, groupdata.Commit, d.Epoch, b)
		d.Chain = stanza.Hash(chain)
		late := d
		late.Seq, late.Kind = d.Seq+1, stanza.EntryApplication
		late, chain = chained(chain, late, held)
		return [][]byte{delivery(s, d, b), delivery(s, late, held)}
	})
	must(mg.Send(ctxShort(t), "buy pills"))(t)
	p := must(jg.Policy())(t)
	p.Send = groupdata.Admin
	ok(t, jg.SetPolicy(ctxShort(t), p))
	sees[*client.PolicyChanged](romeo)
	if e := sees[*client.Undecryptable](romeo); !strings.Contains(e.Reason, "may not send") {
		t.Errorf("%+v", e)
	}
	romeo.mu.Lock()
	defer romeo.mu.Unlock()
	for _, m := range romeo.messages {
		if m.Body == "buy pills" {
			t.Error("romeo was shown what mallory may not say")
		}
	}
}
