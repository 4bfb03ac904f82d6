// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// act plays the words of one sentence.
func (p *Play) act(w []string) error {
	ctx, cancel := context.WithTimeout(p.T.Context(), 2*p.patience)
	defer cancel()
	switch w[0] {
	case "wait":
		return p.await()
	case "pause":
		if len(w) != 2 {
			return errors.New("pause how long?")
		}
		d, err := time.ParseDuration(w[1])
		if err != nil {
			return err
		}
		time.Sleep(d)
		return nil
	case "until":
		return p.until(ctx, w)
	case "patience":
		d, err := time.ParseDuration(strings.Join(w[1:], ""))
		if err != nil {
			return err
		}
		p.patience = d
		return nil
	case "kill", "stop", "start", "restart":
		return p.power(ctx, w)
	case "part", "heal":
		if len(w) != 3 || p.Hosts[w[1]] == nil || p.Hosts[w[2]] == nil {
			return fmt.Errorf("%s which two servers?", w[0])
		}
		if w[0] == "part" {
			return p.Hosts[w[1]].Partition(p.Hosts[w[2]])
		}
		return p.Hosts[w[1]].Heal(p.Hosts[w[2]])
	case "drop", "double", "reorder", "delay", "cut", "stall", "outdate", "at":
		return p.fault(w)
	case "clear":
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, t := range p.taps {
			t.Clear()
		}
		return nil
	case "nobody":
		return p.nobody(w)
	case "somebody": // somebody saw "text": it went over a link
		if len(w) != 3 || w[1] != "saw" {
			return errors.New(`somebody saw "what"?`)
		}
		if !p.Log.Contains(w[2]) {
			return fmt.Errorf("%q went over no link", w[2])
		}
		return nil
	case "agree":
		return p.agree(ctx, w)
	case "largest": // largest stanza BYTES
		if len(w) != 3 || w[1] != "stanza" {
			return errors.New("largest stanza how many bytes?")
		}
		most, err := strconv.Atoi(w[2])
		if err != nil {
			return err
		}
		if got, who := p.Log.Largest(); got > most {
			return fmt.Errorf("a stanza of %d bytes went over the link of %s", got, who)
		}
		return nil
	}
	if f := p.verbs[w[0]]; f != nil {
		return f(ctx, w)
	}
	if len(w) < 2 {
		return fmt.Errorf("%s does what?", w[0])
	}
	for _, name := range strings.Split(w[0], ",") {
		if err := p.speak(ctx, name, w[1], w[2:]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// speak lets one actor do one thing.
func (p *Play) speak(ctx context.Context, name, verb string, args []string) error {
	a, err := p.Actor(name)
	if err != nil {
		return err
	}
	return p.Perform(ctx, a, verb, args)
}

// Perform lets an actor do one thing, or checks what it was told.
func (p *Play) Perform(ctx context.Context, a Actor, verb string, args []string) error {
	switch verb {
	case "expect":
		ctx, cancel := context.WithTimeout(p.T.Context(), p.patience)
		defer cancel()
		kind, group, words, err := p.expectation(args)
		if err != nil {
			return err
		}
		_, err = a.Journal().Expect(ctx, kind, group, words)
		return err
	case "never":
		kind, group, words, err := p.expectation(args)
		if err != nil {
			return err
		}
		if n := a.Journal().Count(kind, group, words); n > 0 {
			return fmt.Errorf("it came %d times", n)
		}
		return nil
	case "count": // juliet count 3 message balcony "hello"
		if len(args) < 2 {
			return errors.New("count what?")
		}
		want, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		kind, group, words, err := p.expectation(args[1:])
		if err != nil {
			return err
		}
		if n := a.Journal().Count(kind, group, words); n != want {
			return fmt.Errorf("it came %d times, want %d; was told:\n%s", n, want, a.Journal().tail(40))
		}
		return nil
	}
	return a.Do(ctx, verb, args)
}

// expectation: KIND [GROUP] WORDS...
func (p *Play) expectation(args []string) (kind, group string, words []string, err error) {
	if len(args) == 0 {
		return "", "", nil, errors.New("expect what?")
	}
	kind, words = args[0], args[1:]
	if len(words) > 0 {
		if _, ok := p.Group(words[0]); ok {
			group, words = words[0], words[1:]
		}
	}
	return kind, group, words, nil
}

// power: kill|stop|start|restart ds|server [NAME]
func (p *Play) power(ctx context.Context, w []string) error {
	if len(w) < 2 {
		return fmt.Errorf("%s what?", w[0])
	}
	name := p.order[0].Name
	if len(w) > 2 {
		name = w[2]
	}
	var kill, start, stop func() error
	switch w[1] {
	case "ds":
		s := p.services[name]
		if s == nil {
			return fmt.Errorf("%s has no delivery service", name)
		}
		kill, start, stop = s.Kill, func() error { return s.Start(ctx) }, func() error { return s.Stop(ctx) }
	case "server":
		h := p.Hosts[name]
		if h == nil {
			return fmt.Errorf("there is no server %q", name)
		}
		kill, start, stop = h.Kill, h.Start, h.Stop
	default:
		does := p.powers[w[1]]
		if w[0] == "restart" && does != nil {
			return errors.Join(does["stop"](), does["start"]())
		}
		if f := does[w[0]]; f != nil {
			return f()
		}
		return fmt.Errorf("%s what?", w[0])
	}
	switch w[0] {
	case "kill":
		return kill()
	case "start":
		return start()
	case "stop":
		return stop()
	}
	if err := stop(); err != nil {
		return err
	}
	return start()
}

// fault: ACTION [COUNT|all] [after SKIP] [DURATION] ["pattern"] from|to WHO [then sentence, for "at"]
func (p *Play) fault(w []string) error {
	f := &Fault{Action: w[0], Count: 1, Delay: 300 * time.Millisecond}
	i := 1
	for ; i < len(w) && w[i] != From && w[i] != To; i++ {
		if n, err := strconv.Atoi(w[i]); err == nil {
			f.Count = n
		} else if d, err := time.ParseDuration(w[i]); err == nil {
			f.Delay = d
		} else if w[i] == "all" {
			f.Count = 0
		} else if w[i] == "after" && i+1 < len(w) {
			n, err := strconv.Atoi(w[i+1])
			if err != nil {
				return err
			}
			f.Skip = n
			i++
		} else {
			re, err := regexp.Compile(w[i])
			if err != nil {
				return err
			}
			f.Match = re
		}
	}
	if i+1 >= len(w) {
		return fmt.Errorf("%s: from or to whom?", w[0])
	}
	f.Dir = w[i]
	who, rest := w[i+1], w[i+2:]
	if who == "ds" && len(rest) > 0 && p.Hosts[rest[0]] != nil {
		who, rest = "ds "+rest[0], rest[1:]
		if strings.TrimPrefix(who, "ds ") == p.order[0].Name {
			who = "ds"
		}
	}
	if roleName(strings.SplitN(who, "/", 2)[0]) {
		if _, err := p.Actor(who); err != nil {
			return err
		}
	}
	p.mu.Lock()
	tap := p.taps[who]
	p.mu.Unlock()
	if tap == nil {
		return fmt.Errorf("%s: no link of %q", w[0], who)
	}
	if f.Action == "at" {
		if len(rest) == 0 {
			return errors.New("at that, what?")
		}
		f.Then = func() {
			if err := p.act(rest); err != nil {
				p.mu.Lock()
				p.failed = append(p.failed, fmt.Errorf("%s: %w", strings.Join(w, " "), err))
				p.mu.Unlock()
			}
		}
	} else if len(rest) > 0 {
		return fmt.Errorf("%s: what is %q?", w[0], strings.Join(rest, " "))
	}
	tap.Add(f)
	return nil
}

// until: until it happens: the sentences of all faults "at" have been played.
func (p *Play) until(ctx context.Context, w []string) error {
	if len(w) != 3 || w[1] != "it" || w[2] != "happens" {
		return errors.New("until what?")
	}
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	for {
		open := ""
		p.mu.Lock()
		for _, t := range p.taps {
			if a := t.awaits(); a != "" {
				open = a
			}
		}
		p.mu.Unlock()
		if open == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not: nothing like %s has passed", open)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// nobody: nobody [but ...] saw "text": neither any link nor any file of a service holds it.
func (p *Play) nobody(w []string) error {
	if len(w) != 3 || w[1] != "saw" {
		return errors.New(`nobody saw "what"?`)
	}
	if p.Log.Contains(w[2]) {
		return fmt.Errorf("%q went over a link", w[2])
	}
	for _, s := range p.services {
		for _, f := range s.Files() {
			b, err := os.ReadFile(f)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if bytes.Contains(b, []byte(w[2])) {
				return fmt.Errorf("%q is in %s", w[2], f)
			}
		}
	}
	return nil
}

// A Stater tells where an actor stands in a group, for "agree".
type Stater interface {
	// State is the epoch and the authenticator of the epoch, as one text.
	State(group string) (string, error)
}

// agree: agree GROUP NAME...: all reach the same epoch with the same authenticator.
func (p *Play) agree(ctx context.Context, w []string) error {
	if len(w) < 4 {
		return errors.New("who agrees on what?")
	}
	jid, ok := p.Group(w[1])
	if !ok {
		return fmt.Errorf("no group %q", w[1])
	}
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	for {
		var states []string
		same := true
		for _, name := range w[2:] {
			a, err := p.Actor(name)
			if err != nil {
				return err
			}
			s, ok := a.(Stater)
			if !ok {
				return fmt.Errorf("%s is in no group", name)
			}
			state, err := s.State(jid)
			if err != nil {
				state = "error: " + err.Error()
				same = false
			}
			states = append(states, name+" "+state)
			if len(states) > 1 && strings.TrimPrefix(states[0], w[2]+" ") != state {
				same = false
			}
		}
		if same {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("they differ:\n    %s", strings.Join(states, "\n    "))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
