// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
)

type checkCmd struct{}

// Run looks at everything that can be wrong before the service runs, and goes on
// after the first fault: an operator wants to know them all.
func (checkCmd) Run(e *env) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c := &checker{e: e}
	if e.file != "" {
		c.ok("configuration", "read from %s", e.file)
	} else {
		c.warn("configuration", "no file: flags, environment and defaults", "lockstepd config > lockstepd.toml gives one to begin with")
	}
	conf, err := e.opts.config()
	if err == nil {
		err = component.CheckConfig(conf)
	}
	if err != nil {
		c.fail("options", err)
	} else {
		c.ok("options", "the component is %s", e.opts.Domain)
	}
	secret := c.secret()
	running := c.running(ctx)
	st := c.store(ctx)
	if st != nil {
		c.clock(ctx, st)
		defer st.Close()
	} else {
		c.clock(ctx, nil)
	}
	if err == nil && secret && !running {
		c.link(ctx, conf)
	}
	if c.failed > 0 {
		return fmt.Errorf("%d of the checks failed", c.failed)
	}
	return nil
}

type checker struct {
	e      *env
	failed int
}

func (c *checker) ok(what, format string, args ...any) {
	fmt.Fprintf(c.e.stdout, "ok    %-13s %s\n", what, fmt.Sprintf(format, args...))
}

func (c *checker) warn(what, text, hint string) {
	fmt.Fprintf(c.e.stdout, "warn  %-13s %s\n", what, text)
	if hint != "" {
		fmt.Fprintf(c.e.stdout, "      %-13s hint: %s\n", "", hint)
	}
}

func (c *checker) fail(what string, err error) {
	c.failed++
	fmt.Fprintf(c.e.stdout, "FAIL  %-13s %s\n", what, err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(c.e.stdout, "      %-13s hint: %s\n", "", hint)
	}
}

func (c *checker) secret() bool {
	s, err := c.e.opts.secret()
	if err != nil {
		c.fail("secret", err)
		return false
	}
	switch w := c.e.opts.secretWarning(); {
	case w != "":
		c.warn("secret", w, "")
	case len(s) < 16:
		c.warn("secret", "it is shorter than 16 characters", "openssl rand -hex 32 makes a good one")
	default:
		c.ok("secret", "is there")
	}
	return true
}

// running looks whether a service with the same configuration runs already.
func (c *checker) running(ctx context.Context) bool {
	if c.e.opts.HTTP == "" {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+c.e.opts.HTTP+"/healthz", nil)
	if err != nil {
		c.fail("http", withHint(err, "http is host:port"))
		return false
	}
	res, err := (&http.Client{Timeout: 2 * time.Second}).Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var h health
	if json.NewDecoder(res.Body).Decode(&h) != nil || h.Version == "" {
		c.fail("http", withHint(fmt.Errorf("another program listens at %s", c.e.opts.HTTP), "choose another address for http, or none"))
		return false
	}
	if h.Domain != c.e.opts.Domain {
		c.fail("http", withHint(fmt.Errorf("the lockstepd of %s listens at %s", h.Domain, c.e.opts.HTTP), "give each lockstepd of this machine its own address for http, or none"))
		return false
	}
	if !h.Store {
		c.fail("store", h.storeFault())
	}
	if !h.Link {
		c.fail("link", fmt.Errorf("the service runs and is not connected: %s", h.LinkError))
		return true
	}
	c.ok("link", "the service runs and is connected, up %s", h.Uptime)
	return true
}

// store looks at the store without changing it: who checks is often another user
// than the one that runs the service, who must own the files.
func (c *checker) store(ctx context.Context) store.Store {
	st, err := openStore(ctx, c.e.opts, true)
	if missing(err) {
		address, _ := c.e.opts.storeAddress()
		dir := filepath.Dir(strings.TrimPrefix(address, "sqlite://"))
		switch info, derr := os.Stat(dir); {
		case derr == nil && info.IsDir():
			c.ok("store", "%s is not there yet: serve makes it", address)
			return nil
		case missing(derr):
			err = withHint(derr, "make the folder, and give it to the user that runs lockstepd")
		case derr != nil:
			err = derr
		}
	}
	if err != nil {
		c.fail("store", err)
		return nil
	}
	s, err := st.Stats(ctx)
	if err != nil {
		c.fail("store", err)
		st.Close()
		return nil
	}
	c.ok("store", "%s, schema %d, %d groups, %d key packages", s.Engine, s.Schema, s.Groups, s.KeyPackages)
	for _, w := range s.Warnings {
		c.warn("store", w, "")
	}
	return st
}

// clock compares the clock with what the store has seen. A wrong clock expires
// key packages and welcomes.
func (c *checker) clock(ctx context.Context, st store.Store) {
	now := time.Now()
	if now.Year() < 2026 {
		c.fail("clock", withHint(fmt.Errorf("it says %s", now.Format(time.RFC3339)), "set the clock, and keep it right with chrony or systemd-timesyncd"))
		return
	}
	if st != nil {
		var last time.Time
		err := st.View(ctx, func(r store.Reader) error {
			list, err := r.AllSessions("", 1000)
			for _, s := range list {
				if s.Since.After(last) {
					last = s.Since
				}
			}
			return err
		})
		if err == nil && last.After(now.Add(time.Minute)) {
			c.fail("clock", withHint(fmt.Errorf("it says %s, the store has seen %s", now.Format(time.RFC3339), last.Format(time.RFC3339)), "the clock has gone backwards: set it right before you start the service"))
			return
		}
	}
	c.ok("clock", "%s", now.Format(time.RFC3339))
}

func (c *checker) link(ctx context.Context, conf component.Config) {
	err := component.CheckLink(ctx, conf)
	var se *component.StreamError
	switch {
	case err == nil:
		c.ok("link", "the server accepts %s as a component", c.e.opts.Domain)
	case errors.As(err, &se) && se.Condition == "conflict":
		c.warn("link", "the secret is right, and another process is connected", se.Hint())
	case errors.As(err, &se):
		c.fail("link", err)
	case os.IsTimeout(err):
		c.fail("link", withHint(err, "the server at %s does not answer: is it the component port, and does a firewall stand between?", c.e.opts.Server))
	default:
		c.fail("link", withHint(err, "is the server running, and does it listen for components at %s? (Prosody: component_ports, component_interfaces; ejabberd: ejabberd_service)", c.e.opts.Server))
	}
}
