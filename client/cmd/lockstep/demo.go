// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/integration/loopback"
)

// This file plays a short story on a stage that it builds itself: an XMPP
// server in this process, the delivery service in a process of its own, so that
// it can be killed for real, and three people. Every sentence that it prints is
// checked before it is printed.

const (
	demoDomain = "capulet.lit"
	demoDS     = "mls.capulet.lit"
	demoEnv    = "LOCKSTEP_DEMO_SERVICE" // "address file secret", for the child
)

type demoCmd struct {
	Keep bool `help:"Keep the temporary folder and say where it is."`
}

// Run plays the story.
func (d *demoCmd) Run(app *app) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "lockstep-demo-")
	if err != nil {
		return err
	}
	if d.Keep {
		fmt.Fprintln(app.out, "folder:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	s := &stage{out: app.out, dir: dir, began: time.Now(), people: make(map[string]*person)}
	defer s.close()
	if err := s.play(ctx); err != nil {
		return fmt.Errorf("the story went wrong: %w", err)
	}
	return nil
}

func (s *stage) play(ctx context.Context) error {
	fmt.Fprintln(s.out, "lockstep: end-to-end encrypted groups on XMPP. A story in six acts, on this machine only.")
	for _, act := range []func(context.Context) error{s.prologue, s.invitation, s.talk, s.removal, s.accident, s.verification} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.out, "\nAll %d checks hold. It took %.1f seconds.\n", s.checks, time.Since(s.began).Seconds())
	return nil
}

func (s *stage) prologue(ctx context.Context) error {
	s.title("The stage")
	var err error
	if s.server, err = loopback.Start(loopback.Options{Domain: demoDomain}); err != nil {
		return err
	}
	var secret [16]byte
	rand.Read(secret[:])
	s.secret = hex.EncodeToString(secret[:])
	if err := s.server.AddComponent(demoDS, s.secret); err != nil {
		return err
	}
	s.tell("An XMPP server for %s runs in this process.", demoDomain)
	if err := s.startService(ctx); err != nil {
		return err
	}
	s.tell("The delivery service %s runs beside it (process %d) and keeps one file.", demoDS, s.ds.Process.Pid)
	for _, name := range []string{"juliet", "romeo", "nurse"} {
		if err := s.enter(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range []string{"juliet", "romeo", "nurse"} {
		devices, err := s.people[name].Devices(ctx)
		if err != nil {
			return err
		}
		if err := s.check(len(devices) == 1 && devices[0].KeyPackages > 0 && devices[0].LastResort,
			"%s is online and has published %d key packages, so that others can add her or him at any time.", name, devices[0].KeyPackages); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) invitation(ctx context.Context) error {
	s.title("The invitation")
	juliet := s.people["juliet"]
	g, err := juliet.CreateGroup(ctx, "Balcony", &client.GroupOptions{Local: "balcony"})
	if err != nil {
		return err
	}
	s.tell("juliet creates the group %q at %s.", g.Name(), g.JID())
	res, err := g.Invite(ctx, "romeo@"+demoDomain, "nurse@"+demoDomain, "paris@"+demoDomain)
	if err != nil {
		return err
	}
	if err := s.check(res.Added("romeo@"+demoDomain) && res.Added("nurse@"+demoDomain) && !res.Added("paris@"+demoDomain),
		"She invites romeo, nurse and paris. Paris does not exist: he is reported, and stops nobody."); err != nil {
		return err
	}
	for _, name := range []string{"romeo", "nurse"} {
		if _, err := s.group(ctx, name); err != nil {
			return err
		}
	}
	if err := s.sameEpoch(ctx, "juliet", "romeo", "nurse"); err != nil {
		return err
	}
	return s.check(true, "All three are in epoch %d and hold the same secret; nobody else does.", g.Epoch())
}

func (s *stage) talk(ctx context.Context) error {
	s.title("The talk, and what the server saw of it")
	const line = "wherefore art thou romeo"
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	sent, err := g.Send(ctx, line)
	if err != nil {
		return err
	}
	for _, name := range []string{"romeo", "nurse"} {
		if _, err := s.hears(ctx, name, line); err != nil {
			return err
		}
	}
	s.tell("juliet writes:          %s", line)
	saw := s.sawSend()
	s.tell("the server saw:         <send epoch='%d'> %s…", sent.Epoch, saw)
	if err := s.check(saw != "" && !s.onTheWire(line), "romeo and nurse read it; the words are in no stanza that passed the server."); err != nil {
		return err
	}
	m, err := s.hears(ctx, "romeo", line)
	if err != nil {
		return err
	}
	const reply = "call me but love"
	if _, err := m.Reply(ctx, reply); err != nil {
		return err
	}
	r, err := s.hears(ctx, "juliet", reply)
	if err != nil {
		return err
	}
	s.tell("romeo answers:          %s", reply)
	return s.check(r.ReplyTo != nil && r.ReplyTo.ID == sent.OriginID && !s.onTheWire(reply), "The answer points at the question, inside the encryption.")
}

func (s *stage) removal(ctx context.Context) error {
	s.title("The removal")
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	before := g.Epoch()
	if err := g.Remove(ctx, "nurse@"+demoDomain); err != nil {
		return err
	}
	if err := s.waitEvent(ctx, "nurse", func(e client.Event) bool { _, ok := e.(*client.Removed); return ok }); err != nil {
		return err
	}
	s.tell("juliet removes nurse. Everybody else changes keys: epoch %d becomes %d.", before, g.Epoch())
	const secret = "at what hour tomorrow shall I send to thee"
	if _, err := g.Send(ctx, secret); err != nil {
		return err
	}
	if _, err := s.hears(ctx, "romeo", secret); err != nil {
		return err
	}
	nurse := s.people["nurse"]
	heard := nurse.heard(secret)
	ng := nurse.Groups()
	return s.check(!heard && len(ng) == 0, "romeo reads what comes next; nurse has no key for it any more.")
}

func (s *stage) accident(ctx context.Context) error {
	s.title("The accident")
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	s.leave("romeo")
	s.tell("romeo goes offline.")
	pid := s.ds.Process.Pid
	s.killService()
	if err := s.check(!s.server.ComponentUp(demoDS), "The delivery service (process %d) is killed with SIGKILL.", pid); err != nil {
		return err
	}
	const line = "by the hour of nine"
	result := make(chan error, 1)
	go func() {
		_, err := g.Send(ctx, line)
		result <- err
	}()
	select {
	case err := <-result:
		return fmt.Errorf("a message was answered while the service was dead: %v", err)
	case <-time.After(700 * time.Millisecond):
	}
	s.tell("juliet writes all the same: the message is sealed, stored, and waits.")
	if err := s.startService(ctx); err != nil {
		return err
	}
	s.tell("The delivery service comes back (process %d) from its file.", s.ds.Process.Pid)
	select {
	case err := <-result:
		if err != nil {
			return fmt.Errorf("sending after the service came back: %w", err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.check(true, "The message went out by itself, once."); err != nil {
		return err
	}
	if err := g.UpdateKeys(ctx); err != nil {
		return err
	}
	const more = "I will not fail"
	if _, err := g.Send(ctx, more); err != nil {
		return err
	}
	s.tell("juliet changes her keys and writes on while romeo is away.")
	if err := s.enter(ctx, "romeo"); err != nil {
		return err
	}
	for _, text := range []string{line, more} {
		if _, err := s.hears(ctx, "romeo", text); err != nil {
			return err
		}
	}
	romeo := s.people["romeo"]
	if err := s.check(romeo.count(line) == 1 && romeo.count(more) == 1, "romeo comes back and catches up from the log: each message once, in order."); err != nil {
		return err
	}
	return s.sameEpoch(ctx, "juliet", "romeo")
}

func (s *stage) verification(ctx context.Context) error {
	s.title("The proof")
	juliet, romeo := s.people["juliet"], s.people["romeo"]
	a, err := juliet.SafetyNumber("romeo@" + demoDomain)
	if err != nil {
		return err
	}
	b, err := romeo.SafetyNumber("juliet@" + demoDomain)
	if err != nil {
		return err
	}
	s.tell("juliet sees the safety number %s", a[:35])
	s.tell("                              %s", a[36:])
	if err := s.check(a == b, "romeo sees the same: no one sits between them."); err != nil {
		return err
	}
	if _, err := juliet.ApplyURI(ctx, romeo.URI()); err != nil {
		return err
	}
	g, err := s.group(ctx, "juliet")
	if err != nil {
		return err
	}
	members, err := g.Members()
	if err != nil {
		return err
	}
	verified := len(members) == 2
	for _, m := range members {
		verified = verified && m.Trust == client.Verified
	}
	if err := s.check(verified, "juliet scans romeo's code, and his device is verified."); err != nil {
		return err
	}
	rg, err := s.group(ctx, "romeo")
	if err != nil {
		return err
	}
	jc, err := g.EpochCode()
	if err != nil {
		return err
	}
	rc, err := rg.EpochCode()
	if err != nil {
		return err
	}
	jseq, jchain := g.Chain()
	rseq, rchain := rg.Chain()
	if err := s.check(jc == rc && jseq == rseq && jchain == rchain, "Both have the same epoch code (%s) and the same hash over all %d entries of the log.", jc, jseq); err != nil {
		return err
	}
	for name, p := range s.people {
		p.mu.Lock()
		for _, e := range p.events {
			switch v := e.(type) {
			case *client.ForkDetected, *client.Misbehaved, *client.Undecryptable, *client.RollbackDetected:
				p.mu.Unlock()
				return fmt.Errorf("%s raised an alarm: %s %+v", name, client.EventName(e), v)
			}
		}
		p.mu.Unlock()
	}
	var file []byte
	for _, name := range []string{"service.db", "service.db-wal"} {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		file = append(file, b...)
	}
	clean := true
	for _, text := range []string{"wherefore art thou", "call me but love", "at what hour tomorrow", "by the hour of nine", "I will not fail"} {
		clean = clean && !s.onTheWire(text) && !bytes.Contains(file, []byte(text))
	}
	return s.check(clean, "No word that was spoken is in any stanza or in the delivery service's file.")
}
