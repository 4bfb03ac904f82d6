// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/integration/play"
)

// A ledger holds what was sent and checks what arrives: each message once at each other
// member, in the order of the group's log.
type ledger struct {
	mu        sync.Mutex
	sent      map[string]time.Time // text of a message -> when
	expect    int
	delivered int
	doubled   int
	disorder  int
	strange   int
	seen      map[string]bool   // member + message
	last      map[string]uint64 // member + group -> seq
	times     []time.Duration
}

func (l *ledger) arrived(member string, m *client.Message) {
	now := time.Now()
	head, _, _ := strings.Cut(m.Body, "|")
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.sent[head]
	switch {
	case !ok:
		l.strange++
		return
	case l.seen[member+" "+head]:
		l.doubled++
		return
	}
	l.seen[member+" "+head] = true
	key := member + " " + m.Group.JID()
	if m.Seq <= l.last[key] {
		l.disorder++
	}
	l.last[key] = m.Seq
	l.delivered++
	l.times = append(l.times, now.Sub(at))
}

func (l *ledger) counts() (expect, delivered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expect, l.delivered
}

// converse is the first part.
func converse(ctx context.Context, s *stage, host play.Host, o options) (*conversation, error) {
	users := max(o.members, min(o.groups*o.members, 40)) // an account may be in several groups
	var names []string
	for i := range users {
		names = append(names, fmt.Sprintf("speaker%03d", i))
	}
	list, passwords, err := host.Accounts(names)
	if err != nil {
		return nil, err
	}
	l := &ledger{sent: make(map[string]time.Time), seen: make(map[string]bool), last: make(map[string]uint64)}
	clients := make([]*client.Client, users)
	b := newBar("logging in")
	var in atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range clients {
		g.Go(func() error {
			gctx, cancel := context.WithTimeout(gctx, time.Minute)
			defer cancel()
			var err error
			clients[i], err = s.client(gctx, host, list[i], passwords[i], func(m *client.Message) { l.arrived(list[i], m) })
			b.show(float64(in.Add(1))/float64(users), fmt.Sprintf("%d clients", in.Load()))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	b = newBar("forming groups")
	rooms := make([][]*client.Group, o.groups) // the group as each member has it
	for i := range rooms {
		gctx, cancel := context.WithTimeout(ctx, time.Minute)
		rooms[i], err = form(gctx, clients, i, o.members)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("forming group %d: %w", i, err)
		}
		b.show(float64(i+1)/float64(o.groups), fmt.Sprintf("%d groups of %d", i+1, o.members))
	}
	begin := time.Now()
	failed := speak(ctx, rooms, l, o)
	took := time.Since(begin)
	// What was accepted must arrive; a server that is behind gets as long again.
	for end := time.Now().Add(max(o.time, 20*time.Second)); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if want, got := l.counts(); got >= want {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return &conversation{Groups: o.groups, Members: o.members, Sent: len(l.sent), Refused: failed, Expected: l.expect, Delivered: l.delivered,
		Doubled: l.doubled, Disordered: l.disorder, Strange: l.strange, Seconds: took.Seconds(),
		PerSecond: float64(l.delivered) / took.Seconds(), Latency: percentiles(l.times)}, nil
}

// form makes one group of the members that begin at the i-th.
func form(ctx context.Context, clients []*client.Client, i, members int) ([]*client.Group, error) {
	var who []*client.Client
	for k := range members {
		who = append(who, clients[(i*members+k)%len(clients)])
	}
	g, err := who[0].CreateGroup(ctx, fmt.Sprintf("group %d", i), nil)
	if err != nil {
		return nil, err
	}
	var jids []string
	for _, c := range who[1:] {
		jids = append(jids, c.Account())
	}
	res, err := g.Invite(ctx, jids...)
	if err != nil {
		return nil, err
	}
	if f := res.Failed(); len(f) > 0 {
		return nil, fmt.Errorf("%s could not be invited: %s %s", f[0].JID, f[0].Status, f[0].Reason)
	}
	out := []*client.Group{g}
	for _, c := range who[1:] {
		for {
			if m, ok := c.Group(g.JID()); ok && m.Joined() {
				out = append(out, m)
				break
			}
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("%s did not join", c.Account())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return out, nil
}

// speak sends at the rate until the time is over, and returns how many sends failed.
func speak(ctx context.Context, rooms [][]*client.Group, l *ledger, o options) int {
	ctx, cancel := context.WithTimeout(ctx, o.time)
	defer cancel()
	b := newBar("conversing")
	begin := time.Now()
	every := time.Duration(float64(time.Second) / o.rate)
	var wg sync.WaitGroup
	var failed, n atomic.Int64
	limit := make(chan struct{}, 64) // messages under way: a slow service slows us, not memory
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-tick.C:
		}
		limit <- struct{}{}
		room := rooms[rand.IntN(len(rooms))]
		g := room[rand.IntN(len(room))]
		head := strconv.FormatInt(n.Add(1), 10)
		l.mu.Lock()
		l.sent[head] = time.Now()
		l.mu.Unlock()
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-limit }()
			send, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			if _, err := g.Send(send, head+"|"+strings.Repeat("x", o.size)); err != nil {
				failed.Add(1)
				return
			}
			l.mu.Lock()
			l.expect += len(room) - 1
			l.mu.Unlock()
		}()
		_, got := l.counts()
		b.show(min(time.Since(begin).Seconds()/o.time.Seconds(), 0.999), fmt.Sprintf("%d sent, %d delivered", n.Load(), got))
	}
	wg.Wait()
	_, got := l.counts()
	b.show(1, fmt.Sprintf("%d sent, %d delivered", n.Load(), got))
	return int(failed.Load())
}
