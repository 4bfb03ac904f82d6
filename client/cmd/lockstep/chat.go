// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
)

type chatCmd struct {
	Receipts bool   `help:"Tell others what you have seen."`
	Typing   bool   `help:"Tell others while you type."`
	Saves    string `name:"downloads" placeholder:"DIR" help:"Where /save puts files. Default: ~/Downloads, or the current folder."`
}

// Run opens the window.
func (c *chatCmd) Run(a *app) error {
	cfg, err := a.clientConfig()
	if err != nil {
		return err
	}
	if a.cli.Verbose {
		cfg.Log = nil // it would be written over the window
	}
	st, err := openState(&cfg)
	if err != nil {
		return err
	}
	defer st.Close()
	cfg.Store = st
	cfg.Accept = client.AskAlways
	cl, err := client.New(cfg)
	if err != nil {
		return err
	}
	m := newChat(a.ctx, cl, &history{store: st}, c)
	p := tea.NewProgram(m, tea.WithAltScreen(), tea.WithContext(a.ctx))
	m.attach(p.Send)
	ctx, cancel := context.WithCancel(a.ctx)
	ended := make(chan error, 1)
	go func() {
		err := cl.Run(ctx)
		ended <- err
		if ctx.Err() == nil {
			p.Send(fatalMsg{err})
		}
	}()
	final, err := p.Run()
	m.noteRead()
	cancel()
	<-ended
	cl.Close()
	if f, ok := final.(*chat); ok && f.fatal != nil {
		return f.fatal
	}
	if a.ctx.Err() != nil {
		return nil
	}
	return err
}

// openState opens the account's store, as the client would, so that the window
// can keep what was said in it too.
func openState(cfg *client.Config) (store.Store, error) {
	path, err := cfg.DefaultStorePath()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	account, err := cfg.Account()
	if err != nil {
		return nil, err
	}
	s, err := store.Open(path, account)
	if err != nil {
		return nil, err
	}
	if cfg.StoreKey == nil {
		return s, nil
	}
	enc, err := store.Encrypt(s, cfg.StoreKey)
	if err != nil {
		s.Close()
	}
	return enc, err
}

// history keeps conversations in the account's store, beside the keys and as
// well protected as they are.
type history struct {
	store store.Store

	mu   sync.Mutex
	last int64 // of the rows that have no time of their own
}

// keepLines is how many lines of a group are kept.
const keepLines = 1000

// prefix names a group's rows: names in the store are not encrypted, so that
// they say nothing.
func (h *history) prefix(group string) string { return "chat/" + nameless(group) + "/" }

// readRow holds up to when a group has been read.
func (h *history) readRow(group string) string { return "chat-read/" + nameless(group) }

func nameless(group string) string {
	sum := sha256.Sum256([]byte(group))
	return hex.EncodeToString(sum[:12])
}

// add keeps a line. A message that comes twice has one row.
func (h *history) add(group string, l *line) error {
	if l.row == "" {
		n := l.Time.UnixNano()
		h.mu.Lock()
		if l.ID == "" || n <= 0 {
			n = max(time.Now().UnixNano(), h.last+1)
		}
		h.last = max(h.last, n)
		h.mu.Unlock()
		l.row = fmt.Sprintf("%s%016x-%s", h.prefix(group), n, l.ID)
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return h.store.Apply(context.Background(), []store.Op{store.Put(l.row, b)})
}

func (h *history) load(group string) ([]*line, error) {
	var out []*line
	p := h.prefix(group)
	err := h.store.Scan(p, store.PrefixEnd(p), func(key string, value []byte) error {
		l := &line{row: key}
		if json.Unmarshal(value, l) == nil {
			out = append(out, l)
		}
		return nil
	})
	if err != nil || len(out) <= keepLines {
		return out, err
	}
	var ops []store.Op
	for _, l := range out[:len(out)-keepLines] {
		ops = append(ops, store.Delete(l.row))
	}
	return out[len(out)-keepLines:], h.store.Apply(context.Background(), ops)
}

func (h *history) clear(group string) error {
	return h.store.Apply(context.Background(), []store.Op{store.DeletePrefix(h.prefix(group)), store.Delete(h.readRow(group))})
}

// setRead notes up to when a group has been read.
func (h *history) setRead(group string, at time.Time) error {
	b, err := at.MarshalBinary()
	if err != nil {
		return err
	}
	return h.store.Apply(context.Background(), []store.Op{store.Put(h.readRow(group), b)})
}

// readUntil says up to when a group has been read, zero if it never was.
func (h *history) readUntil(group string) (at time.Time, err error) {
	b, ok, err := h.store.Get(h.readRow(group))
	if err == nil && ok {
		err = at.UnmarshalBinary(b)
	}
	return at, err
}
