// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// faulty is a store that can be gone, hang, or lose its answers.
type faulty struct {
	store.Store
	gone atomic.Bool
	full atomic.Bool  // it can be read
	lose atomic.Int32 // so many answers are lost, after the change was made
	hang atomic.Pointer[chan struct{}]
	// goneAfterLoss makes the store go when it has lost an answer.
	goneAfterLoss atomic.Bool
}

func (f *faulty) err() error {
	if until := f.hang.Load(); until != nil {
		<-*until
	}
	if f.gone.Load() {
		return fmt.Errorf("disk full: %w", store.ErrUnavailable)
	}
	return nil
}

func (f *faulty) lost() error {
	if f.lose.Add(-1) >= 0 {
		if f.goneAfterLoss.Swap(false) {
			f.gone.Store(true)
		}
		return store.ErrUnknownOutcome
	}
	f.lose.Store(0)
	return nil
}

func (f *faulty) View(ctx context.Context, g func(store.Reader) error) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Store.View(ctx, g)
}

func (f *faulty) Update(ctx context.Context, g func(store.Tx) error) error {
	if err := f.err(); err != nil {
		return err
	}
	if f.full.Load() {
		return fmt.Errorf("disk full: %w", store.ErrUnavailable)
	}
	return f.Store.Update(ctx, g)
}

func (f *faulty) Append(ctx context.Context, e *store.NewEntry) (store.Accepted, error) {
	if err := f.err(); err != nil {
		return store.Accepted{}, err
	}
	acc, err := f.Store.Append(ctx, e)
	if lost := f.lost(); err == nil && lost != nil {
		return store.Accepted{}, lost
	}
	return acc, err
}

func (f *faulty) AcceptCommit(ctx context.Context, c *store.Commit) (store.Accepted, error) {
	if err := f.err(); err != nil {
		return store.Accepted{}, err
	}
	acc, err := f.Store.AcceptCommit(ctx, c)
	if lost := f.lost(); err == nil && lost != nil {
		return store.Accepted{}, lost
	}
	return acc, err
}

// TestStoreInTrouble: nothing is accepted that is not durable, each request is
// answered, and when the store is back all goes on.
func TestStoreInTrouble(t *testing.T) {
	var f *faulty
	s := start(t, func(c *component.Config) {
		f = &faulty{Store: c.Store}
		c.Store = f
	})
	j, r := pair(t, s)
	f.gone.Store(true)
	if _, err := j.sendText(balcony, "lost"); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("a message without a store: %v", err)
	}
	p := j.pending(mls.CommitOptions{ForcePath: true})
	if err := j.set(balcony, submission(p, 1), nil); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("a commit without a store: %v", err)
	}
	if err := j.get(balcony, &stanza.LogQuery{Device: j.id}, nil); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("the log without a store: %v", err)
	}
	j.must(j.get(domain, &stanza.Ping{}, nil)) // what needs no store is served
	f.gone.Store(false)
	var acc stanza.Accepted
	j.must(j.set(balcony, submission(p, 1), &acc))
	if acc.Seq != 2 {
		t.Errorf("the commit is entry %d: something refused was kept", acc.Seq)
	}
	g, err := p.Merge()
	j.must(err)
	j.g = g
	r.event(balcony, "commit")

	// An answer of the store is lost: the sender does not notice, and neither
	// do the others.
	f.lose.Store(1)
	sent, err := j.sendText(balcony, "once")
	j.must(err)
	if d, _ := r.event(balcony, "application"); d.Seq != sent.Seq || sent.Seq != 3 {
		t.Errorf("message %d, delivered as %d", sent.Seq, d.Seq)
	}
	f.lose.Store(1)
	done, err := j.commit(balcony, mls.CommitOptions{ForcePath: true})
	j.must(err)
	if d, _ := r.event(balcony, "commit"); d.Seq != done.Seq || done.Seq != 4 {
		t.Errorf("commit %d, delivered as %d", done.Seq, d.Seq)
	}
	r.seq = 1
	r.catchUp(balcony)
	sameEpoch(t, j, r)

	// A store that hangs delays, and starves nobody who does not need it.
	goesOn := make(chan struct{})
	f.hang.Store(&goesOn)
	m, err := j.g.Seal([]byte("slow"), nil)
	j.must(err)
	h := stanza.Header{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "slow", From: j.full, To: balcony}
	s.write(string(h.Append(nil, &stanza.Send{Epoch: 3, Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}})))
	r.must(r.get(domain, &stanza.Ping{}, nil))
	if j.box().count("id='slow'") > 0 {
		t.Error("the message did not wait for the store")
	}
	close(goesOn)
	j.box().take(t, "id='slow'")
}

// TestStoreFailing: a store that can be read and not written is known to be in
// trouble until something has been written.
func TestStoreFailing(t *testing.T) {
	var f *faulty
	reg := prometheus.NewRegistry()
	s := start(t, func(c *component.Config) {
		f = &faulty{Store: c.Store}
		c.Store, c.Registry = f, reg
	})
	j, r := pair(t, s)
	failing := func(want bool) {
		t.Helper()
		st := s.Stats()
		if st.StoreFailing.IsZero() == want || (st.StoreError != "") != want {
			t.Errorf("failing since %v, %q; want it failing: %v", st.StoreFailing, st.StoreError, want)
		}
		if got := gauge(t, reg, "lockstep_store_failing"); (got == 1) != want {
			t.Errorf("the gauge says %v", got)
		}
	}
	failing(false)
	f.gone.Store(true)
	if _, err := j.sendText(balcony, "lost"); err == nil {
		t.Error("a message was accepted without a store")
	}
	failing(true)
	since := s.Stats().StoreFailing
	if err := r.get(balcony, &stanza.LogQuery{Device: r.id, Ack: 1}, nil); err == nil {
		t.Error("an ack was accepted without a store")
	}
	if again := s.Stats().StoreFailing; !again.Equal(since) {
		t.Errorf("failing since %v, and then since %v", since, again)
	}
	// The next message that is kept shows that it is well.
	f.gone.Store(false)
	_, err := j.sendText(balcony, "kept")
	j.must(err)
	failing(false)

	// Where nobody writes, the service finds out by itself.
	f.gone.Store(true)
	if _, err := j.sendText(balcony, "lost too"); err == nil {
		t.Error("a message was accepted without a store")
	}
	failing(true)
	f.gone.Store(false)
	eventually(t, "the store is well", func() bool { return s.Stats().StoreFailing.IsZero() })
	failing(false)

	// A refusal that is not the store's fault says nothing about it.
	if err := j.set(balcony, &stanza.Send{Epoch: 99, Ref: stanza.MessageRef([]byte("x")), Message: stanza.MLS{Bytes: []byte("x")}}, nil); err == nil {
		t.Error("nonsense was accepted")
	}
	failing(false)
}

// gauge reads a metric that has these values of labels.
func gauge(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetValue())
			}
			if slices.Equal(have, labels) {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s %q", name, labels)
	return 0
}

// TestTroubleIsBrief: a store in trouble does not fill the log.
func TestTroubleIsBrief(t *testing.T) {
	var f *faulty
	var buf syncBuffer
	s := start(t, func(c *component.Config) {
		f = &faulty{Store: c.Store}
		c.Store, c.Logger = f, slog.New(slog.NewTextHandler(&buf, nil))
	})
	j, _ := pair(t, s)
	f.gone.Store(true)
	begin := time.Now()
	for range 200 {
		if err := j.get(balcony, &stanza.LogQuery{Device: j.id}, nil); refusal(err).Condition != stanza.ResourceConstraint {
			t.Fatalf("the log without a store: %v", err)
		}
	}
	lines := strings.Count(buf.String(), "the store is unavailable")
	if most := 2 + int(time.Since(begin).Seconds()); lines < 1 || lines > most {
		t.Errorf("%d lines about 200 refusals, want at most %d", lines, most)
	}
}

// TestReadingFromFullDisk: who catches up acknowledges, which cannot be kept now, and
// gets the log all the same.
func TestReadingFromFullDisk(t *testing.T) {
	var f *faulty
	s := start(t, func(c *component.Config) {
		f = &faulty{Store: c.Store}
		c.Store = f
	})
	j, r := pair(t, s)
	sent, err := j.sendText(balcony, "read this")
	j.must(err)
	f.full.Store(true)
	var page stanza.Log
	r.must(r.get(balcony, &stanza.LogQuery{Device: r.id, After: sent.Seq - 1, Ack: sent.Seq}, &page))
	if len(page.Entries) != 1 || page.Entries[0].Seq != sent.Seq {
		t.Errorf("the log: %+v", page)
	}
	if s.Stats().StoreFailing.IsZero() {
		t.Error("nobody knows that the disk is full")
	}
}

// TestUnluckyTwice: when the store loses an answer and then cannot say what
// became of it, nobody is told that nothing was changed.
func TestUnluckyTwice(t *testing.T) {
	var f *faulty
	s := start(t, func(c *component.Config) {
		f = &faulty{Store: c.Store}
		c.Store = f
	})
	j, _ := pair(t, s)
	p := j.pending(mls.CommitOptions{ForcePath: true})
	m, err := j.g.Seal([]byte("once"), nil)
	j.must(err)
	leave, _, err := j.g.ProposeUpdate(nil, nil)
	j.must(err)
	for _, c := range []struct {
		name    string
		payload stanza.Payload
	}{
		{"a message", &stanza.Send{Epoch: 1, Ref: stanza.MessageRef(m.Bytes()), Message: stanza.MLS{Bytes: m.Bytes()}}},
		{"a proposal", &stanza.Proposal{Epoch: 1, Ref: stanza.MessageRef(leave.Bytes()), Bytes: leave.Bytes()}},
		{"a commit", submission(p, 1)}, // last: it ends the epoch of the others
	} {
		name, payload := c.name, c.payload
		f.lose.Store(1)
		f.goneAfterLoss.Store(true)
		err := j.set(balcony, payload, nil)
		if e := refusal(err); e.Condition != stanza.ResourceConstraint || !strings.Contains(e.Text, "outcome is unknown") {
			t.Errorf("%s: %v", name, err)
		}
		f.gone.Store(false)
		var acc stanza.Accepted
		if err := j.set(balcony, payload, &acc); err != nil && name != "a commit" && refusal(err).Condition != stanza.Conflict {
			t.Errorf("%s again: %v", name, err)
		}
	}
}

// overtaken is a store whose answer to a commit comes only after another process
// has banned somebody from the group.
type overtaken struct {
	store.Store
	ban atomic.Bool
}

func (o *overtaken) AcceptCommit(ctx context.Context, c *store.Commit) (store.Accepted, error) {
	acc, err := o.Store.AcceptCommit(ctx, c)
	if err == nil && o.ban.Swap(false) {
		err = o.Update(ctx, func(tx store.Tx) (err error) {
			acc.Rev, err = tx.UpdateGroup(c.Group, acc.Rev, store.GroupChange{Roles: []store.Affiliation{{User: romeo, Value: store.AffiliationOutcast}}})
			return err
		})
	}
	return acc, err
}

// TestLateAnswer: what another process has changed before an answer came is not
// taken for known.
func TestLateAnswer(t *testing.T) {
	var o *overtaken
	s := start(t, func(c *component.Config) {
		o = &overtaken{Store: c.Store}
		c.Store = o
	})
	j, r := pair(t, s)
	o.ban.Store(true)
	_, err := j.commit(balcony, mls.CommitOptions{ForcePath: true})
	j.must(err)
	r.seq = 1
	r.event(balcony, "commit")
	if _, err := r.sendText(balcony, "still here"); refusal(err).Condition != stanza.ServiceUnavailable {
		t.Errorf("romeo, who is banned, sends: %v", err)
	}
}

// hurried is a store in which something happens just before a change.
type hurried struct {
	store.Store
	before atomic.Pointer[func()]
}

func (h *hurried) Update(ctx context.Context, f func(store.Tx) error) error {
	if fn := h.before.Swap(nil); fn != nil {
		(*fn)()
	}
	return h.Store.Update(ctx, f)
}

// TestLostAnswerOfMany: a message whose answer was lost is tried again at no cost to its
// sender, and what others have added meanwhile is not forgotten.
func TestLostAnswerOfMany(t *testing.T) {
	var l *losing
	s := start(t, func(c *component.Config) {
		l = &losing{Store: c.Store}
		c.Store = l
		c.Limits.Send = component.Rate{PerSecond: 1e-9, Burst: 1}
	})
	j, _ := pair(t, s)
	l.once.Store(true)
	sent, err := j.sendText(balcony, "one of one that is allowed")
	j.must(err)
	if sent.Seq != 2 {
		t.Errorf("accepted as %d", sent.Seq)
	}
	err = j.set(balcony, &stanza.Send{Epoch: 99, Ref: stanza.MessageRef([]byte("x")), Message: stanza.MLS{Bytes: []byte("x")}}, nil)
	var future *stanza.FutureEpoch
	if !errors.As(err, &future) || future.Head != 3 {
		t.Errorf("the log's end, after entry 3 of another process: %v, %+v", err, future)
	}
}

// losing is a store that loses an answer, and another process is quick.
type losing struct {
	store.Store
	once atomic.Bool
}

func (l *losing) Append(ctx context.Context, e *store.NewEntry) (store.Accepted, error) {
	acc, err := l.Store.Append(ctx, e)
	if err == nil && l.once.Swap(false) {
		other := *e
		other.Ref, other.ID = store.RefOf([]byte("another")), "another"
		if _, err := l.Store.Append(ctx, &other); err != nil {
			return acc, err
		}
		return store.Accepted{}, store.ErrUnknownOutcome
	}
	return acc, err
}

// TestDestroyedUnderReader: who reads the log while the group is destroyed is told
// that, and not that it was removed.
func TestDestroyedUnderReader(t *testing.T) {
	var h *hurried
	s := start(t, func(c *component.Config) {
		h = &hurried{Store: c.Store}
		c.Store = h
	})
	j, r := pair(t, s)
	sent, err := j.sendText(balcony, "read this")
	j.must(err)
	ctx := context.Background()
	var row *store.Group
	r.must(h.View(ctx, func(rd store.Reader) (err error) {
		row, err = rd.Group(balcony)
		return err
	}))
	destroy := func() {
		r.must(h.Store.Update(ctx, func(tx store.Tx) error {
			return tx.DestroyGroup(row.Key, store.Tombstone{JID: balcony, Until: time.Now().Add(time.Hour)})
		}))
	}
	h.before.Store(&destroy)
	err = r.get(balcony, &stanza.LogQuery{Device: r.id, After: sent.Seq, Ack: sent.Seq}, nil)
	if e := refusal(err); e.Condition != stanza.Gone {
		t.Errorf("romeo is told %v", err)
	}
	if h.before.Load() != nil {
		t.Error("the ack was not noted")
	}
}
