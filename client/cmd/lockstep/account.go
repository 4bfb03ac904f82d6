// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"golang.org/x/term"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
	"github.com/lockstep-im/lockstep/mls"
)

// fileConfig is the configuration file. It holds no password, only where one
// is.
type fileConfig struct {
	Account      string   `toml:"account"`
	PasswordFile string   `toml:"password-file"`
	Server       string   `toml:"server"`
	DirectTLS    bool     `toml:"direct-tls"`
	CAFile       string   `toml:"ca-file"`
	Service      string   `toml:"service"`
	State        string   `toml:"state"`
	StateKeyFile string   `toml:"state-key-file"`
	Strict       bool     `toml:"strict"`
	Suites       []string `toml:"suites"`
}

// configure fills what the command line and the environment leave open from
// the configuration file.
func (a *app) configure() error {
	path, chosen := a.cli.Config, a.cli.Config != ""
	if !chosen {
		dir := os.Getenv("XDG_CONFIG_HOME")
		if dir == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil
			}
			dir = filepath.Join(home, ".config")
		}
		path = filepath.Join(dir, "lockstep", "config.toml")
	}
	var f fileConfig
	md, err := toml.DecodeFile(path, &f)
	if errors.Is(err, fs.ErrNotExist) && !chosen {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if un := md.Undecoded(); len(un) > 0 {
		return fmt.Errorf("reading %s: unknown key %q", path, un[0].String())
	}
	set := func(to *string, from string) {
		if *to == "" {
			*to = from
		}
	}
	c := a.cli
	set(&c.Account, f.Account)
	set(&c.PasswordFile, f.PasswordFile)
	set(&c.Server, f.Server)
	set(&c.CAFile, f.CAFile)
	set(&c.Service, f.Service)
	set(&c.State, f.State)
	set(&c.StateKeyFile, f.StateKeyFile)
	c.DirectTLS = c.DirectTLS || f.DirectTLS
	c.Strict = c.Strict || f.Strict
	if c.Suites == nil {
		c.Suites = f.Suites
	}
	return nil
}

// clientConfig is the account's, with the password.
func (a *app) clientConfig() (client.Config, error) {
	var cfg client.Config
	if err := a.configure(); err != nil {
		return cfg, err
	}
	c := a.cli
	if c.Account == "" {
		return cfg, errors.New("no account: use --account JID, $LOCKSTEP_ACCOUNT, or account = \"JID\" in the configuration file")
	}
	cfg = client.Config{JID: c.Account, Server: c.Server, DirectTLS: c.DirectTLS, AllowPlaintext: c.Plaintext, Service: c.Service, StorePath: c.State}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return cfg, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return cfg, fmt.Errorf("%s holds no certificate in PEM form", c.CAFile)
		}
		cfg.TLS = &tls.Config{RootCAs: pool}
	}
	if c.StateKeyFile != "" {
		text, err := os.ReadFile(c.StateKeyFile)
		if err != nil {
			return cfg, err
		}
		key, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(key) != store.KeySize {
			return cfg, fmt.Errorf("%s does not hold %d hexadecimal digits: make one with openssl rand -hex %d", c.StateKeyFile, 2*store.KeySize, store.KeySize)
		}
		cfg.StoreKey = key
	}
	for _, s := range c.Suites {
		n, err := strconv.ParseUint(s, 0, 16)
		if err != nil || !mls.CipherSuite(n).Known() {
			return cfg, fmt.Errorf("%q is no number of a cipher suite that is known here", s)
		}
		cfg.Suites = append(cfg.Suites, mls.CipherSuite(n))
	}
	if c.Strict {
		cfg.Trust = client.StrictTrust()
	}
	if c.Verbose {
		cfg.Log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	var err error
	cfg.Password, err = a.password()
	return cfg, err
}

// password comes from a file, the environment or the terminal.
func (a *app) password() (string, error) {
	if f := a.cli.PasswordFile; f != "" {
		fi, err := os.Stat(f)
		if err != nil {
			return "", err
		}
		if fi.Mode().IsRegular() && fi.Mode().Perm()&0o004 != 0 {
			return "", fmt.Errorf("%s can be read by everybody on this machine: chmod 600 %s", f, f)
		}
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	if p, ok := os.LookupEnv("LOCKSTEP_PASSWORD"); ok {
		return p, nil
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errors.New("no password: set $LOCKSTEP_PASSWORD or --password-file, or run in a terminal to be asked")
	}
	fmt.Fprintf(a.err, "Password of %s: ", a.cli.Account)
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(a.err)
	return string(b), err
}

// session is a client that runs while a command does.
type session struct {
	*client.Client
	cancel context.CancelFunc
	done   chan error
}

// connect makes the account's client. Handlers can be set by before.
func (a *app) connect(cfg client.Config, before func(c *client.Client)) (*session, error) {
	c, err := client.New(cfg)
	if err != nil {
		return nil, err
	}
	if before != nil {
		before(c)
	}
	ctx, cancel := context.WithCancel(a.ctx)
	s := &session{Client: c, cancel: cancel, done: make(chan error, 1)}
	go func() { s.done <- c.Run(ctx) }()
	return s, nil
}

// online is connect, and waits until everything is caught up.
// Invitations wait for an answer unless accept says otherwise.
func (a *app) online(before func(c *client.Client), accept client.AcceptPolicy) (*session, error) {
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	if cfg.Accept = accept; accept == nil {
		cfg.Accept = client.AskAlways
	}
	s, err := a.connect(cfg, before)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(a.ctx, 60*time.Second)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- a.ready(ctx, s.Client) }()
	select {
	case err = <-ready:
	case err = <-s.done:
		s.done <- err
		if err == nil {
			err = context.Canceled
		}
		cancel()
		<-ready // it may be about to say something
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// firstTry is how long nothing is said of a connection that does not come about.
const firstTry = 3 * time.Second

// ready waits until everything is caught up. A person is told what it waits for,
// and does not wait for what will not come.
func (a *app) ready(ctx context.Context, c *client.Client) error {
	first, cancel := context.WithTimeout(ctx, firstTry)
	defer cancel()
	err := c.Ready(first)
	var cert *tls.CertificateVerificationError
	var noHost *net.DNSError
	if err == nil || ctx.Err() != nil || first.Err() == nil || errors.As(err, &cert) || errors.As(err, &noHost) && noHost.IsNotFound {
		return err
	}
	fmt.Fprintf(a.err, "lockstep: %s; still trying\n", strip(err))
	return c.Ready(ctx)
}

func (s *session) close() {
	s.cancel()
	<-s.done
	s.Close()
}

// findGroup takes a JID, its local part, or a name, if only one group has it.
func (s *session) findGroup(name string) (*client.Group, error) {
	if g, ok := s.Group(name); ok {
		return g, nil
	}
	var found []*client.Group
	for _, g := range s.Groups() {
		local, _, _ := strings.Cut(g.JID(), "@")
		if local == name || strings.EqualFold(g.Name(), name) {
			found = append(found, g)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("no group %q: %w", name, client.ErrNotMember)
	}
	return nil, fmt.Errorf("%d groups are called %q: use the address of the one that is meant, such as %s", len(found), name, found[0].JID())
}
