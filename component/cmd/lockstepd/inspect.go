// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
)

// This file looks into the store, also while the service runs.

type groupCmd struct {
	List groupListCmd `cmd:"" help:"List groups."`
	Show groupShowCmd `cmd:"" help:"Show a group: epoch, members by number, owners. Never content."`
}

type groupListCmd struct{}

func (groupListCmd) Run(e *env) error {
	return withStore(e, true, func(ctx context.Context, st store.Store) error {
		w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "GROUP\tEPOCH\tENTRIES\tHANDSHAKES\tCREATED")
		after := ""
		for {
			var page []store.Group
			err := st.View(ctx, func(r store.Reader) (err error) {
				page, err = r.Groups(after, 1000)
				return err
			})
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return w.Flush()
			}
			for _, g := range page {
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", g.JID, g.Epoch, g.Head, g.Mode, g.Created.Local().Format(time.DateTime))
			}
			after = page[len(page)-1].JID
		}
	})
}

type groupShowCmd struct {
	JID string `arg:"" help:"JID of the group."`
}

func (c groupShowCmd) Run(e *env) error {
	return withStore(e, true, func(ctx context.Context, st store.Store) error {
		who, err := bareJID(c.JID)
		if err != nil {
			return err
		}
		g, err := component.SummariseGroup(ctx, st, who)
		if errors.Is(err, store.ErrNotFound) {
			return withHint(fmt.Errorf("there is no group %q", c.JID), "lockstepd group list shows them all")
		}
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintf(w, "group\t%s\n", g.JID)
		fmt.Fprintf(w, "group_id\t%x\n", g.GroupID)
		fmt.Fprintf(w, "handshakes\t%s\n", g.Mode)
		fmt.Fprintf(w, "epoch\t%d\n", g.Epoch)
		fmt.Fprintf(w, "log\tentries %d to %d\n", g.First, g.Head)
		fmt.Fprintf(w, "pending\t%d proposals\n", g.Pending)
		fmt.Fprintf(w, "members\t%d accounts, %d devices\n", g.Accounts, g.Devices)
		fmt.Fprintf(w, "owners\t%s\n", strings.Join(g.Owners, ", "))
		if g.Outcasts > 0 {
			fmt.Fprintf(w, "outcasts\t%d\n", g.Outcasts)
		}
		if g.Retention > 0 {
			fmt.Fprintf(w, "retention\t%s\n", g.Retention)
		}
		fmt.Fprintf(w, "created\t%s\n", g.Created.Local().Format(time.DateTime))
		return w.Flush()
	})
}

// bareJID gives the address as the store has it: people type capitals, and copy
// addresses with a resource.
func bareJID(s string) (string, error) {
	j, err := jid.Parse(s)
	if err != nil {
		return "", withHint(fmt.Errorf("%q is no address: %w", s, err), "it is like juliet@capulet.lit")
	}
	return j.Bare().String(), nil
}

type userCmd struct {
	Show  userShowCmd  `cmd:"" help:"Show an account's devices and groups."`
	Purge userPurgeCmd `cmd:"" help:"Remove everything of an account, and propose its devices' removal from their groups."`
}

type userShowCmd struct {
	JID string `arg:"" help:"Bare JID of the account."`
}

func (c userShowCmd) Run(e *env) error {
	return withStore(e, true, func(ctx context.Context, st store.Store) error {
		who, err := bareJID(c.JID)
		if err != nil {
			return err
		}
		now := time.Now()
		w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
		err = st.View(ctx, func(r store.Reader) error {
			devices, err := r.Devices(who, now)
			if err != nil {
				return err
			}
			sessions, err := r.Sessions(who)
			if err != nil {
				return err
			}
			groups, err := r.UserGroups(who, "", "", 10_000)
			if err != nil {
				return err
			}
			if len(devices)+len(sessions)+len(groups) == 0 {
				return withHint(fmt.Errorf("nothing is known of %q", c.JID), "is it the bare JID, as juliet@capulet.lit?")
			}
			fmt.Fprintln(w, "DEVICE\tKEY PACKAGES\tLAST RESORT\tSEEN\tLIVE")
			for _, d := range devices {
				live := 0
				for _, s := range sessions {
					if s.Device == d.Device {
						live++
					}
				}
				fmt.Fprintf(w, "%s\t%d\t%v\t%s\t%d\n", d.Device, d.Available, d.LastResort, d.Seen.Local().Format(time.DateTime), live)
			}
			fmt.Fprintln(w, "\nGROUP\tAFFILIATION\t\t\t")
			for _, g := range groups {
				a := g.Affiliation
				if a == "" {
					a = "member"
				}
				fmt.Fprintf(w, "%s\t%s\t\t\t\n", g.JID, a)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return w.Flush()
	})
}

type userPurgeCmd struct {
	JID string `arg:"" help:"Bare JID of the account."`
	Yes bool   `help:"Do it: without this nothing is changed."`
}

func (c userPurgeCmd) Run(e *env) error {
	if !c.Yes {
		return withHint(fmt.Errorf("this removes everything of %s", c.JID), "lockstepd user purge --yes %s", c.JID)
	}
	return withStore(e, false, func(ctx context.Context, st store.Store) error {
		conf, err := e.opts.config()
		if err != nil {
			return err
		}
		conf.Store, conf.Logger = st, e.opts.logger(os.Stderr)
		svc, err := component.New(conf)
		if err != nil {
			return err
		}
		defer svc.Close()
		n, err := svc.PurgeUser(ctx, c.JID)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "purged %s; %d removals proposed, which members commit when they come\n", c.JID, n)
		return nil
	})
}

type backupCmd struct {
	File string `arg:"" help:"New file for the copy." type:"path"`
}

func (c backupCmd) Run(e *env) error {
	return withStore(e, true, func(ctx context.Context, st store.Store) error {
		if err := st.Backup(ctx, c.File); err != nil {
			return err
		}
		info, err := os.Stat(c.File)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "wrote %s, %d bytes. It holds the service's signing keys: keep it as safe as the store.\n", c.File, info.Size())
		return nil
	})
}

// withStore opens the store for a command.
func withStore(e *env, readOnly bool, f func(context.Context, store.Store) error) error {
	ctx := context.Background()
	st, err := openStore(ctx, e.opts, readOnly)
	if err != nil {
		return err
	}
	defer st.Close()
	return f(ctx, st)
}
