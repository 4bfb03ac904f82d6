// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Play is one script on one world.
type Play struct {
	T      T
	Script *Script
	World  World
	Kinds  Kinds
	Make   ServiceMaker

	Log   *XMLLog
	Hosts map[string]Host
	order []ServerSpec

	mu       sync.Mutex
	services map[string]Service
	taps     map[string]*Tap // by actor, and "ds" or "ds SERVER"
	actors   map[string]Actor
	accounts map[string]*Part // by role
	casts    map[string]castSpec
	groups   map[string]string // name in the script -> JID
	crowds   map[string][]string
	verbs    map[string]func(context.Context, []string) error
	powers   map[string]map[string]func() error

	curtain  time.Time
	beside   sync.WaitGroup
	failed   []error // of sentences that ran beside
	patience time.Duration
}

// A Sentence is a verb of the stage, not of an actor: it begins a line.
type Sentence func(ctx context.Context, p *Play, words []string) error

// Verb adds a sentence to this play.
func (p *Play) Verb(name string, f func(context.Context, []string) error) { p.verbs[name] = f }

// Power adds something that can be stopped, killed and started.
func (p *Play) Power(name string, does map[string]func() error) { p.powers[name] = does }

// First is the first server.
func (p *Play) First() Host { return p.Hosts[p.order[0].Name] }

// Crowd names a list of bare JIDs.
func (p *Play) Crowd(name string, jids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crowds[name] = jids
}

// Patience is how long an expectation waits.
const Patience = 30 * time.Second

// Run plays the script and fails T where it does not go as written.
func Run(t T, s *Script, w World, kinds Kinds, maker ServiceMaker, verbs map[string]Sentence) {
	t.Helper()
	p := &Play{T: t, Script: s, World: w, Kinds: kinds, Make: maker, Log: &XMLLog{},
		services: make(map[string]Service), taps: make(map[string]*Tap), actors: make(map[string]Actor),
		accounts: make(map[string]*Part), casts: make(map[string]castSpec), groups: make(map[string]string),
		crowds: make(map[string][]string), verbs: make(map[string]func(context.Context, []string) error), curtain: time.Now(),
		powers: make(map[string]map[string]func() error), patience: Patience}
	for name, f := range verbs {
		p.verbs[name] = func(ctx context.Context, w []string) error { return f(ctx, p, w) }
	}
	if s.Issue != "" {
		t.Logf("%s", s.Issue)
	}
	acts, err := p.prepare()
	if err != nil {
		t.Fatalf("%v", err)
		return
	}
	t.Cleanup(p.end)
	for _, l := range acts {
		if err := p.sentence(l); err != nil {
			t.Fatalf("%s:%d: %s\n    %v", s.Path, l.N, l.Text, err)
			return
		}
	}
	if err := p.await(); err != nil {
		t.Fatalf("%s: %v", s.Path, err)
	}
}

// prepare reads the sentences that set the stage, and sets it. What remains is the play.
func (p *Play) prepare() ([]Line, error) {
	var acts []Line
	var ds []Line
	needsOwn, needsProcess := make(map[string]bool), make(map[string]bool)
	for _, l := range p.Script.Lines {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s:%d: %s: %s", p.Script.Path, l.N, l.Text, fmt.Sprintf(format, args...))
		}
		w := l.Words
		switch w[0] {
		case "needs":
			if why := p.Script.NotFor(p.World); why != "" {
				p.T.Skipf("not for %s: %s", p.World.Name(), why)
			}
		case "server":
			spec := ServerSpec{}
			if len(w) < 2 {
				return nil, fail("which server?")
			}
			spec.Name = w[1]
			for _, x := range w[2:] {
				switch x {
				case "with", "and":
				case "mam":
					spec.MAM, spec.Own = true, true
				case "rates":
					spec.Rate, spec.Own = true, true
				case "kick-old":
					spec.KickOld, spec.Own = true, true
				case "two-links":
					spec.Links, spec.Own = 2, true
				case "no-multicast":
					spec.Plain, spec.Own = true, true
				default:
					return nil, fail("a server cannot have %q", x)
				}
			}
			p.order = append(p.order, spec)
		case "ds":
			ds = append(ds, l)
		case "cast":
		default:
			acts = append(acts, l)
		}
		text := " " + strings.Join(w, " ") + " "
		for _, x := range []string{" kill server ", " stop server ", " restart server "} {
			if i := strings.Index(text, x); i >= 0 {
				needsOwn[strings.Fields(text[i+len(x):])[0]] = true
			}
		}
		if (w[0] == "part" || w[0] == "heal") && len(w) == 3 {
			needsOwn[w[1]], needsOwn[w[2]] = true, true
		}
		if i := strings.Index(text, " kill ds "); i >= 0 {
			rest := strings.Fields(text[i+len(" kill ds "):])
			if len(rest) == 0 {
				rest = []string{""}
			}
			needsProcess[rest[0]] = true
		}
	}
	if len(p.order) == 0 {
		p.order = []ServerSpec{{Name: "verona"}}
	}
	for i := range p.order {
		s := &p.order[i]
		if needsOwn[s.Name] {
			s.Own = true
			s.Timeout = 3 * time.Second
		}
	}
	specs := make(map[string]*ServiceSpec)
	for i, s := range p.order {
		specs[s.Name] = &ServiceSpec{Server: s.Name, Options: make(map[string]string), Process: needsProcess[s.Name] || i == 0 && needsProcess[""]}
	}
	for _, l := range ds {
		if err := parseService(l, p.order[0].Name, specs); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", p.Script.Path, l.N, err)
		}
	}
	for _, s := range specs {
		if s != nil && s.Postgres {
			if why := p.World.Lacks("postgres"); why != "" {
				p.T.Skipf("not here: %s", why)
			}
		}
	}
	for _, l := range p.Script.Lines {
		if l.Words[0] == "cast" {
			c, err := parseCast(l.Words[1:], p.order)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", p.Script.Path, l.N, err)
			}
			if p.Kinds[c.kind] == nil {
				return nil, fmt.Errorf("%s:%d: no kind of actor %q", p.Script.Path, l.N, c.kind)
			}
			p.casts[c.name] = c
		}
	}
	p.Hosts = p.World.Build(p.T, p.order)
	for _, s := range p.order {
		if p.Hosts[s.Name] == nil {
			return nil, fmt.Errorf("play: %s built no server %q", p.World.Name(), s.Name)
		}
		p.T.Logf("%s: %s", s.Name, p.Hosts[s.Name].Where())
	}
	for _, s := range p.order {
		spec := specs[s.Name]
		if spec == nil || p.Make == nil {
			continue
		}
		name := "ds"
		if s.Name != p.order[0].Name {
			name = "ds " + s.Name
		}
		tap := NewTap(name, p.Log)
		svc, err := p.Make(p, p.Hosts[s.Name], *spec, tap)
		if err != nil {
			return nil, fmt.Errorf("play: making the delivery service of %s: %w", s.Name, err)
		}
		p.taps[name], p.services[s.Name] = tap, svc
		ctx, cancel := context.WithTimeout(p.T.Context(), p.patience)
		err = svc.Start(ctx)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("play: starting the delivery service of %s: %w", s.Name, err)
		}
	}
	return acts, nil
}

func parseService(l Line, first string, specs map[string]*ServiceSpec) error {
	w := l.Words[1:]
	name := first
	if len(w) >= 2 && w[0] == "of" {
		name, w = w[1], w[2:]
	}
	spec, ok := specs[name]
	if !ok {
		return fmt.Errorf("%s: no server %q", l.Text, name)
	}
	for _, x := range w {
		switch {
		case x == "none":
			specs[name] = nil
		case x == "as" || x == "a" || x == "on" || x == "with" || x == "and":
		case x == "process":
			spec.Process = true
		case x == "postgres":
			spec.Postgres = true
		case x == "twice":
			spec.Twice, spec.Postgres, spec.Process = true, true, true
		case strings.Contains(x, "="):
			k, v, _ := strings.Cut(x, "=")
			spec.Options[k] = v
		default:
			return fmt.Errorf("%s: what is %q?", l.Text, x)
		}
	}
	return nil
}

// end strikes the set.
func (p *Play) end() {
	var xml bytes.Buffer
	_ = p.Log.Write(&xml)
	p.keepLog(xml.Bytes())
	if os.Getenv("KEEP") == "1" {
		p.hold()
	}
	p.mu.Lock()
	actors, services, taps := p.actors, p.services, p.taps
	p.mu.Unlock()
	for _, t := range taps {
		t.Clear()
	}
	var wg sync.WaitGroup
	for name, a := range actors {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := a.Close(); err != nil {
				p.T.Errorf("%s: leaving the stage: %v", name, err)
			}
		}()
	}
	wg.Wait()
	for name, s := range services {
		if err := s.Close(); err != nil {
			p.T.Errorf("delivery service of %s: %v", name, err)
		}
	}
	for _, t := range taps {
		t.Cut()
	}
}

// keepLog puts the XML of both directions into the test log: its end here, all of it in a
// file when LOCKSTEP_TEST_LOGS names a folder or the play failed.
func (p *Play) keepLog(xml []byte) {
	dir := os.Getenv("LOCKSTEP_TEST_LOGS")
	if dir == "" && p.T.Failed() {
		dir = filepath.Join(os.TempDir(), "lockstep-test-logs")
	}
	if dir != "" {
		name := filepath.Join(dir, strings.NewReplacer("/", "-", " ", "_").Replace(p.T.Name())+".xml.log")
		if err := os.MkdirAll(dir, 0o777); err == nil {
			if err := os.WriteFile(name, xml, 0o666); err == nil {
				p.T.Logf("all XML of both directions: %s", name)
			}
		}
	}
	const shown = 64 << 10
	head := ""
	if len(xml) > shown {
		head, xml = fmt.Sprintf("(%d bytes before this)\n", len(xml)-shown), xml[len(xml)-shown:]
	}
	p.T.Logf("XML of both directions:\n%s%s", head, xml)
}

// hold keeps the world until the person at the terminal has seen enough.
func (p *Play) hold() {
	if _, ok := p.World.(*LoopbackWorld); !ok {
		return // package servers keeps real servers beyond the end of the process
	}
	fmt.Fprintf(os.Stderr, "play: KEEP=1: %s stays up; end with Ctrl-C\n", p.T.Name())
	for _, s := range p.order {
		fmt.Fprintf(os.Stderr, "  %s: %s\n", s.Name, p.Hosts[s.Name].Where())
	}
	p.mu.Lock()
	for role, part := range p.accounts {
		fmt.Fprintf(os.Stderr, "  %s: %s password %s\n", role, part.JID(), part.Password)
	}
	p.mu.Unlock()
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	defer signal.Stop(c)
	<-c
}

// sentence plays one line.
func (p *Play) sentence(l Line) error {
	p.T.Logf("%7.2f  %4d  %s", time.Since(p.curtain).Seconds(), l.N, l.Text)
	if l.Beside {
		p.beside.Add(1)
		go func() {
			defer p.beside.Done()
			if err := p.judge(l, p.act(l.Words)); err != nil {
				p.mu.Lock()
				p.failed = append(p.failed, fmt.Errorf("line %d: %s: %w", l.N, l.Text, err))
				p.mu.Unlock()
			}
		}()
		return nil
	}
	return p.judge(l, p.act(l.Words))
}

func (p *Play) judge(l Line, err error) error {
	if !l.Fails {
		return err
	}
	if err == nil {
		return fmt.Errorf("it succeeded, and should have been refused")
	}
	if l.Because != "" && !strings.Contains(err.Error(), l.Because) {
		return fmt.Errorf("refused, but not because of %q: %w", l.Because, err)
	}
	return nil
}

// await waits for what runs beside.
func (p *Play) await() error {
	p.beside.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, err := range p.failed {
		p.failed = nil
		return err
	}
	return nil
}

// Group is the JID of a group of the script.
func (p *Play) Group(name string) (jid string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	jid, ok = p.groups[name]
	return jid, ok
}

// SetGroup names a group.
func (p *Play) SetGroup(name, jid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[name] = jid
}

// GroupName is the script's name of a group, or its JID.
func (p *Play) GroupName(jid string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, j := range p.groups {
		if j == jid {
			return n
		}
	}
	return jid
}

// Account is the part of a role, its account made on first use.
func (p *Play) Account(role string) (*Part, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accountLocked(role)
}

func (p *Play) accountLocked(role string) (*Part, error) {
	if a := p.accounts[role]; a != nil {
		return a, nil
	}
	c, ok := p.casts[role]
	if !ok {
		c = castSpec{name: role, server: p.order[0].Name, kind: "member"}
		p.casts[role] = c
	}
	h := p.Hosts[c.server]
	user, password, err := h.Account(role)
	if err != nil {
		return nil, err
	}
	a := &Part{Name: role, Role: role, Host: h, User: user, Password: password, Play: p}
	p.accounts[role] = a
	return a, nil
}

// RoleOf is the role with this bare JID, or the JID.
func (p *Play) RoleOf(jid string) string {
	if p == nil { // a plain client outside a play
		return jid
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for role, a := range p.accounts {
		if a.JID() == jid {
			return role
		}
	}
	return jid
}

// JIDs turns roles, crowds and JIDs into bare JIDs.
func (p *Play) JIDs(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		p.mu.Lock()
		crowd, ok := p.crowds[n]
		p.mu.Unlock()
		switch {
		case ok:
			out = append(out, crowd...)
		case strings.Contains(n, "@"):
			out = append(out, n)
		default:
			a, err := p.Account(n)
			if err != nil {
				return nil, err
			}
			out = append(out, a.JID())
		}
	}
	return out, nil
}

// Actor finds or hires the actor of a name such as "juliet" or "juliet/phone".
func (p *Play) Actor(name string) (Actor, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.actors[name]; a != nil {
		return a, nil
	}
	role, _, _ := strings.Cut(name, "/")
	if !roleName(role) {
		return nil, fmt.Errorf("who is %q?", name)
	}
	account, err := p.accountLocked(role)
	if err != nil {
		return nil, err
	}
	part := *account
	part.Name = name
	part.Tap = NewTap(name, p.Log)
	part.Dir = filepath.Join(p.T.TempDir(), strings.ReplaceAll(name, "/", "_"))
	if err := os.MkdirAll(part.Dir, 0o700); err != nil {
		return nil, err
	}
	hire := p.Kinds[p.casts[role].kind]
	if hire == nil {
		return nil, fmt.Errorf("nobody can play a %s", p.casts[role].kind)
	}
	a, err := hire(&part)
	if err != nil {
		return nil, fmt.Errorf("%s enters: %w", name, err)
	}
	p.actors[name], p.taps[name] = a, part.Tap
	return a, nil
}

// roles are who may speak without having been cast: a typing error is none of them.
var roles = []string{"juliet", "romeo", "mercutio", "benvolio", "tybalt", "nurse", "mallory", "paris", "rosaline", "laurence"}

func roleName(s string) bool { return slices.Contains(roles, s) }
