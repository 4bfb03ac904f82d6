// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// Finding is one thing that [Client.Doctor] has looked at.
type Finding struct {
	// Name says what was looked at, such as "clock" or "key packages".
	Name string `json:"name"`
	// OK says that nothing is wrong with it.
	OK bool `json:"ok"`
	// Text says in plain words how it is.
	Text string `json:"text"`
	// Hint says what to do, empty if nothing needs to be done.
	Hint string `json:"hint,omitempty"`
}

// Doctor looks at everything that this client needs and says in plain words
// what is wrong. It changes nothing. It works best while the client runs.
func (c *Client) Doctor(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	var out []Finding
	add := func(name string, ok bool, hint, format string, args ...any) {
		if ok {
			hint = ""
		}
		out = append(out, Finding{name, ok, fmt.Sprintf(format, args...), hint})
	}
	if err := c.alive(); err != nil {
		add("client", false, "make a new client with New", "the client has been closed")
		return out
	}
	c.doctorStore(add)
	c.doctorCredential(add)
	l, _ := c.currentLink()
	if l == nil {
		c.mu.Lock()
		err := c.lastErr
		c.mu.Unlock()
		why := "the client has not been started"
		if err != nil {
			why = err.Error()
		}
		add("connection", false, "check the network, the server's address and the password", "not connected to %s: %s", c.domain, why)
		return out
	}
	add("connection", true, "", "connected to %s as %s", c.domain, l.local())
	c.doctorClock(ctx, add)
	if home, ok := c.doctorService(ctx, add); ok {
		c.doctorStock(ctx, home, add)
		c.doctorGroups(ctx, add)
	}
	return out
}

type finder func(name string, ok bool, hint, format string, args ...any)

func (c *Client) doctorStore(add finder) {
	if c.store.RolledBack() {
		add("store", false, "do not restore backups of the store over a used one; each device needs its own",
			"the store is older than it was before: a backup was restored. Groups are rejoined with new keys")
		return
	}
	if _, _, err := c.store.Get(rowDevice); err != nil {
		add("store", false, "check the disk and the file's permissions", "the store cannot be read: %v", err)
		return
	}
	add("store", true, "", "the store of %s can be read; this is device %s", c.account, c.device)
}

func (c *Client) doctorCredential(add finder) {
	me, err := c.identityFor(c.suite)
	if err != nil {
		add("credential", false, "see the configuration", "there is no key for %v: %v", c.suite, err)
		return
	}
	if err := c.mls.Authenticator.ValidateCredential(me.Credential, me.Key.Public(), mls.UseMember); err != nil {
		add("credential", false, "renew the certificate, or set Roots so that this client accepts its own kind", "the own credential is not valid: %v", err)
		return
	}
	if err := outdatedCertificate(me.Credential, c.cfg.clock()); err != nil {
		add("credential", false, "configure another Certificate: until then nobody can add this device to a group", "%v", err)
		return
	}
	add("credential", true, "", "the device's key is %s", FormatFingerprint(c.Fingerprint()))
}

// doctorClock compares the clock with the server's, or the delivery service's.
func (c *Client) doctorClock(ctx context.Context, add finder) {
	c.mu.Lock()
	home := c.home
	c.mu.Unlock()
	of := c.domain
	off, err := c.clockOff(ctx, of)
	if err != nil && home != "" {
		of = home
		off, err = c.clockOff(ctx, of)
	}
	words := clockWords(of, off)
	switch {
	case err != nil:
		add("clock", true, "", "the server does not tell the time; not compared")
	case words != "":
		add("clock", false, "set the clock of this machine: until then its key packages are refused, and those of others seem to have expired", "%s", words)
	default:
		add("clock", true, "", "the clock agrees with that of %s to %v", of, off.Abs().Round(time.Second)+time.Second)
	}
}

func (c *Client) doctorService(ctx context.Context, add finder) (string, bool) {
	home, err := c.serviceOf(ctx, c.account)
	if err != nil {
		add("delivery service", false, "ask the operator of "+c.domain+" for a delivery service, or set Service to one elsewhere", "%v", err)
		return "", false
	}
	began := time.Now()
	info := new(stanza.DiscoInfo)
	if err := c.ask(ctx, "get", home, &stanza.DiscoInfoQuery{}, info); err != nil {
		add("delivery service", false, "the component may be down: tell the operator", "%s does not answer: %v", home, err)
		return home, false
	}
	if !info.Has(stanza.NSDelivery) && !info.Has(stanza.NSKeyPackages) {
		add("delivery service", false, "set Service to the right address", "%s is no delivery service", home)
		return home, false
	}
	s := c.service(home)
	live := false
	if s != nil {
		s.mu.Lock()
		live = s.live && s.synced
		s.mu.Unlock()
	}
	if !live {
		c.mu.Lock()
		err := c.lastErr
		c.mu.Unlock()
		add("delivery service", false, "wait a moment; if it stays, look at the log", "%s answers in %v, and there is no session with it: %v", home, time.Since(began).Round(time.Millisecond), err)
		return home, true
	}
	add("delivery service", true, "", "%s answers in %v", home, time.Since(began).Round(time.Millisecond))
	return home, true
}

func (c *Client) doctorStock(ctx context.Context, home string, add finder) {
	const hint = "leave the client running: it publishes what is missing"
	var count stanza.Count
	if err := c.ask(ctx, "get", home, &stanza.CountQuery{}, &count); err != nil {
		add("key packages", false, hint, "the service does not tell how many there are: %v", err)
		return
	}
	for _, d := range count.Devices {
		if d.ID != c.device {
			continue
		}
		switch {
		case d.Available == 0 && !d.LastResort:
			add("key packages", false, hint, "none left: nobody can add this device to a group")
		case !d.LastResort:
			add("key packages", false, hint, "%d left, and no last resort", d.Available)
		case d.Available == 0:
			add("key packages", false, hint, "only the last resort is left")
		case !d.Expires.IsZero() && d.Expires.Sub(c.cfg.clock()) < renewBefore:
			add("key packages", false, hint, "%d left, which expire on %s", d.Available, d.Expires.Format("2006-01-02"))
		default:
			add("key packages", true, "", "%d left and a last resort", d.Available)
		}
		return
	}
	add("key packages", false, hint, "the service has none of this device: nobody can add it to a group")
}

func (c *Client) doctorGroups(ctx context.Context, add finder) {
	for _, g := range c.Groups() {
		name := "group " + g.jid
		g.mu.Lock()
		stuck, seq, status, reason := g.stuck(), g.meta.Seq, g.meta.Status, g.meta.Reason
		waiting := len(g.outbox)
		g.mu.Unlock()
		switch {
		case stuck != nil:
			add(name, false, "show the evidence to the group's owners; Rejoin follows the delivery service", "%v", stuck)
			continue
		case status == statusLost:
			add(name, false, "wait: the client comes back with new keys", "the state was given up: %s", reason)
			continue
		}
		outdated := g.outdatedMembers()
		var page stanza.Log
		err := c.ask(ctx, "get", g.jid, &stanza.LogQuery{Device: c.device, After: seq, Max: 1}, &page)
		switch {
		case errors.Is(err, ErrOffline):
			add(name, false, "wait for the connection", "not connected")
		case err != nil:
			add(name, false, "tell the operator of "+g.host, "its log cannot be read: %v", err)
		case page.Head < seq:
			add(name, false, "the delivery service was restored from a backup, or lies: tell its operator", "the service's log ends at entry %d, this device has seen entry %d", page.Head, seq)
		case page.Head > seq+1:
			add(name, false, "wait: the client is catching up", "%d entries behind", page.Head-seq)
		case waiting > 0:
			add(name, false, "wait: they are sent as soon as the service takes them", "up to date at epoch %d, %d messages not accepted yet", g.Epoch(), waiting)
		case outdated != nil:
			add(name, false, "they are still in the group, and read what is sent: ask them for new certificates, or remove them", "up to date, and the certificates of these have expired or are not valid yet: %s", strings.Join(outdated, ", "))
		default:
			add(name, true, "", "up to date at entry %d, epoch %d", seq, g.Epoch())
		}
	}
}

// outdatedMembers are the accounts in the group of which a device has a certificate
// that has expired, or is not valid yet.
func (g *Group) outdatedMembers() (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.load() != nil || g.state == nil {
		return nil
	}
	now := g.c.cfg.clock()
	for m := range g.state.Members() {
		if jid := leafIdentity(m.Leaf); outdatedCertificate(m.Leaf.Credential, now) != nil && !slices.Contains(out, jid) {
			out = append(out, jid)
		}
	}
	return out
}
