// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/integration/play"
)

// A listener is a plain connection with a device in the group: it counts, and reads nothing.
type listener struct {
	*play.Plain
	device string
	log    atomic.Int64 // application entries of the delivery service
	muc    atomic.Int64 // groupchat messages of the room
	bytes  atomic.Int64 // of both
	sealed atomic.Int64 // length of the payload of an application entry, in base64
	seq    int64        // of the last entry; the reader's own
	bad    atomic.Int64 // entries out of order
}

var mark = []byte("fan-out ")

func (l *listener) hook(x []byte) bool {
	switch {
	case bytes.Contains(x, []byte("<delivery")):
		if bytes.Contains(x, []byte("kind='application'")) || bytes.Contains(x, []byte(`kind="application"`)) {
			if n := seqOf(x); n <= l.seq {
				l.bad.Add(1)
			} else {
				l.seq = n
			}
			l.log.Add(1)
			l.bytes.Add(int64(len(x)))
			l.sealed.Store(int64(sealedIn(x)))
		}
		return true
	case bytes.Contains(x, mark) && bytes.Contains(x, []byte("groupchat")):
		l.muc.Add(1)
		l.bytes.Add(int64(len(x)))
		return true
	}
	return false
}

// sealedIn is the length of the sealed text in a delivery.
func sealedIn(x []byte) int {
	_, rest, _ := bytes.Cut(x, []byte("<mls "))
	_, rest, _ = bytes.Cut(rest, []byte(">"))
	text, _, _ := bytes.Cut(rest, []byte("<"))
	return len(text)
}

// seqOf reads the seq attribute of a delivery.
func seqOf(x []byte) int64 {
	_, rest, ok := bytes.Cut(x, []byte(" seq="))
	var n int64
	for i := 1; ok && i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
		n = n*10 + int64(rest[i]-'0')
	}
	return n
}

// fanOut is the second part.
func fanOut(ctx context.Context, s *stage, host play.Host, o options) (*fanout, error) {
	names := []string{"crier"}
	for i := range o.listeners {
		names = append(names, fmt.Sprintf("listener%04d", i))
	}
	users, passwords, err := host.Accounts(names)
	if err != nil {
		return nil, err
	}
	crier, err := s.client(ctx, host, users[0], passwords[0], func(*client.Message) {})
	if err != nil {
		return nil, err
	}
	list := make([]*listener, o.listeners)
	jids := make([]string, o.listeners)
	b := newBar("listeners")
	var in atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range list {
		g.Go(func() error {
			gctx, cancel := context.WithTimeout(gctx, time.Minute)
			defer cancel()
			part := &play.Part{Name: names[i+1], Role: names[i+1], Host: host, User: users[i+1], Password: passwords[i+1], Tap: play.NewTap("", nil)}
			jids[i] = part.JID()
			c, device, err := play.NewCitizen(gctx, part)
			if err != nil {
				return err
			}
			list[i] = &listener{Plain: c, device: device}
			s.Cleanup(func() { _ = c.Close() })
			b.show(float64(in.Add(1))/float64(o.listeners), fmt.Sprintf("%d logged in", in.Load()))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	group, err := crier.CreateGroup(ctx, "square", nil)
	if err != nil {
		return nil, err
	}
	for rest := jids; len(rest) > 0; {
		n := min(len(rest), 100)
		if res, err := group.Invite(ctx, rest[:n]...); err != nil {
			return nil, err
		} else if f := res.Failed(); len(f) > 0 {
			return nil, fmt.Errorf("%s could not be invited: %s %s", f[0].JID, f[0].Status, f[0].Reason)
		}
		rest = rest[n:]
	}
	domain, _ := host.Component()
	for _, l := range list {
		l.SetHook(l.hook)
		if err := l.Write("<presence to='" + domain + "'><session xmlns='urn:xmpp:mls:ds:0' device='" + l.device + "'/></presence>"); err != nil {
			return nil, err
		}
		if _, err := l.Journal().Expect(ctx, "stanza", "", []string{"<ready"}); err != nil {
			return nil, err
		}
	}
	f := &fanout{Listeners: o.listeners, Multicast: s.svc.Stats().Multicast != "", size: func() (n int64) {
		for _, l := range list {
			n += l.bytes.Load()
		}
		return n
	}}
	f.Service, err = f.measure(ctx, host, "the service", o, func(i int) error {
		_, err := group.Send(ctx, fmt.Sprintf("%s%d|%s", mark, i, strings.Repeat("x", o.size)))
		return err
	}, func() (n int64) {
		for _, l := range list {
			n += l.log.Load()
		}
		return n
	})
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		f.Disordered += int(l.bad.Load())
	}
	if err := f.muc(ctx, host, list, o); err != nil {
		return nil, err
	}
	if f.MUC.PerSecond > 0 {
		f.Ratio = f.Service.PerSecond / f.MUC.PerSecond
	}
	if c := f.MUC.perCPU(); c > 0 {
		f.CPURatio = f.Service.perCPU() / c
	}
	return f, nil
}

// muc does the same in a room of the server.
func (f *fanout) muc(ctx context.Context, host play.Host, list []*listener, o options) (err error) {
	room := "square@" + host.Rooms()
	for i, l := range list {
		if err := l.Do(ctx, "login", nil); err != nil {
			return err
		}
		if err := l.Write(fmt.Sprintf("<presence to='%s/l%d'><x xmlns='http://jabber.org/protocol/muc'><history maxchars='0'/></x></presence>", room, i)); err != nil {
			return err
		}
		if _, err := l.Journal().Expect(ctx, "stanza", "", []string{"110", room}); err != nil {
			return err
		}
		if i == 0 {
			if _, err := l.Ask(ctx, "set", room, "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"); err != nil {
				return err
			}
		}
	}
	// As large as what the service has just passed on, sealed and in base64: the
	// comparison is of what the two servers do with a message, not of encryption.
	text := strings.Repeat("x", max(int(list[0].sealed.Load())-len(mark)-5, 1))
	f.MUC, err = f.measure(ctx, host, "MUC", o, func(i int) error {
		// The speaker waits for its own echo, as the service's client waits for its answer.
		want := list[0].muc.Load() + 1
		err := list[0].Write(fmt.Sprintf("<message type='groupchat' to='%s'><body>%s%d|%s</body></message>", room, mark, i, text))
		for err == nil && list[0].muc.Load() < want-window && ctx.Err() == nil {
			time.Sleep(200 * time.Microsecond)
		}
		return err
	}, func() (n int64) {
		for _, l := range list {
			n += l.muc.Load()
		}
		return n
	})
	return err
}

// window is how many messages may be under way.
const window = 16

// measure sends the messages and waits until all deliveries were counted.
func (f *fanout) measure(ctx context.Context, host play.Host, what string, o options, send func(int) error, count func() int64) (rate, error) {
	ctx, cancel := context.WithTimeout(ctx, o.time)
	defer cancel()
	b := newBar(what)
	want := int64(o.messages) * int64(f.Listeners)
	used, before := serverCPU(host), f.size()
	begin := time.Now()
	g := errgroup.Group{}
	g.SetLimit(window)
	if what == "MUC" {
		g.SetLimit(1) // one stream: its order is the room's
	}
	done := make(chan error, 1)
	go func() {
		for i := range o.messages {
			if ctx.Err() != nil {
				break
			}
			g.Go(func() error { return send(i) })
		}
		done <- g.Wait()
	}()
	n := int64(0)
	for n < want && ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
		n = count()
		b.show(float64(n)/float64(want)-1e-9, fmt.Sprintf("%d deliveries", n))
	}
	took := time.Since(begin)
	b.show(1, fmt.Sprintf("%d deliveries", n))
	r := rate{Deliveries: n, Expected: want, Seconds: took.Seconds(), PerSecond: float64(n) / took.Seconds(), Bytes: f.size() - before, ServerCPU: (serverCPU(host) - used).Seconds()}
	select {
	case err := <-done:
		if err != nil && ctx.Err() == nil {
			return r, fmt.Errorf("fan-out of %s: %w", what, err)
		}
	case <-time.After(30 * time.Second):
	}
	// What was cut short is still under way, and is not to burden what follows.
	for quiet, end := 0, time.Now().Add(time.Minute); n < want && quiet < 20 && time.Now().Before(end); quiet++ {
		time.Sleep(50 * time.Millisecond)
		if now := count(); now != n {
			n, quiet = now, 0
		}
	}
	return r, nil
}

// serverCPU is the processor time that the server has used, 0 where nobody counts it.
func serverCPU(host play.Host) time.Duration {
	h, ok := host.(interface{ CPU() (time.Duration, error) })
	if !ok {
		return 0
	}
	d, err := h.CPU()
	if err != nil {
		fmt.Fprintf(os.Stderr, "load: %v\n", err)
	}
	return d
}
