// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
)

// This file shows what members have reported to the operator. All of it was
// written by strangers: nothing of it reaches the terminal but what can be
// printed.

type reportCmd struct {
	List   reportListCmd   `cmd:"" help:"List reports."`
	Show   reportShowCmd   `cmd:"" help:"Show a report with its evidence, which its reporter chose to disclose."`
	Delete reportDeleteCmd `cmd:"" help:"Delete reports that have been dealt with, so that their reporters may make others."`
}

type reportListCmd struct{}

func (reportListCmd) Run(e *env) error {
	return withStore(e, true, func(ctx context.Context, st store.Store) error {
		w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tTIME\tREASON\tREPORTER\tGROUP\tENTRY")
		after := int64(0)
		for {
			var page []store.Report
			err := st.View(ctx, func(r store.Reader) (err error) {
				page, err = r.Reports(after, 100)
				return err
			})
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return w.Flush()
			}
			for _, r := range page {
				entry := ""
				if r.Seq != 0 {
					entry = fmt.Sprint(r.Seq)
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Stamp.Local().Format(time.DateTime), printable(r.Reason), printable(r.Reporter), printable(r.Group), entry)
			}
			after = page[len(page)-1].ID
		}
	})
}

type reportShowCmd struct {
	ID   int64 `arg:"" help:"Number of the report."`
	JSON bool  `name:"json" help:"Print the evidence as it is kept, in JSON, for other programs."`
}

func (c reportShowCmd) Run(e *env) error {
	return withStore(e, true, func(ctx context.Context, st store.Store) error {
		var page []store.Report
		err := st.View(ctx, func(r store.Reader) (err error) {
			page, err = r.Reports(c.ID-1, 1)
			return err
		})
		if err != nil {
			return err
		}
		if len(page) == 0 || page[0].ID != c.ID {
			return withHint(fmt.Errorf("there is no report %d", c.ID), "lockstepd report list shows them all")
		}
		r := &page[0]
		if c.JSON {
			_, err := fmt.Fprintf(e.stdout, "%s\n", r.Evidence)
			return err
		}
		ev, err := component.ParseReport(r)
		if err != nil {
			return withHint(err, "lockstepd report show --json %d prints it as it is", c.ID)
		}
		w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
		line := func(name, value string) {
			if value != "" {
				fmt.Fprintf(w, "%s\t%s\n", name, printable(value))
			}
		}
		line("report", fmt.Sprint(r.ID))
		line("time", r.Stamp.Local().Format(time.DateTime))
		line("reporter", r.Reporter)
		line("kind", string(ev.Kind))
		line("reason", r.Reason)
		line("about", ev.User)
		line("group", r.Group)
		if r.Seq != 0 {
			line("entry", fmt.Sprint(r.Seq))
		}
		if len(ev.Entry) > 0 {
			line("kept as", fmt.Sprintf("%d bytes, chain %s", len(ev.Entry), ev.Chain))
			line("sent by", ev.Sender)
		}
		if ev.Ref != "" {
			line("epoch", fmt.Sprint(ev.Epoch))
			line("ref", ev.Ref)
		}
		line("text", r.Text)
		if err := w.Flush(); err != nil {
			return err
		}
		for _, x := range ev.Evidence {
			fmt.Fprintf(e.stdout, "\nevidence: %s, %d bytes\n", printable(x.Type), len(x.Bytes))
			if utf8.Valid(x.Bytes) {
				for line := range strings.Lines(string(x.Bytes)) {
					fmt.Fprintf(e.stdout, "    %s\n", printable(strings.TrimRight(line, "\r\n")))
				}
				continue
			}
			fmt.Fprintf(e.stdout, "    base64 %s\n", base64.StdEncoding.EncodeToString(x.Bytes))
		}
		return nil
	})
}

type reportDeleteCmd struct {
	IDs []int64 `arg:"" name:"id" help:"Numbers of the reports."`
}

func (c reportDeleteCmd) Run(e *env) error {
	return withStore(e, false, func(ctx context.Context, st store.Store) error {
		return st.Update(ctx, func(tx store.Tx) error {
			for _, id := range c.IDs {
				if err := tx.DeleteReport(id); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// printable replaces what could move the cursor, hide text or turn its direction.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
