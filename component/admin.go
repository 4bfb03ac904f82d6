// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file holds the operator's ad-hoc commands (XEP-0050, xep/mls-delivery.xml#admin):
// what an operator can do from any client. None of them shows content.

// command is one ad-hoc command: a form, if it needs one, and what it does.
type command struct {
	node, name string
	form       func() *stanza.Form // nil: it runs at once
	run        func(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error)
}

var commands []command

func init() { // breaks the cycle between the table and the handlers
	commands = []command{
		{stanza.NodeListGroups, "List groups", ask("Groups", field("after", "Begin behind this JID", "")), cmdListGroups},
		{stanza.NodeGroupInfo, "Show a group", ask("Group", required("group", "JID of the group")), cmdGroupInfo},
		{stanza.NodeDestroyGroup, "Destroy a group", ask("Destroy a group for everybody", required("group", "JID of the group"), field("reason", "Reason, shown to its members", "")), cmdDestroyGroup},
		{stanza.NodeSetQuota, "Set an account's quota of groups", ask("Quota", required("user", "Bare JID"), required("groups", "Number of groups that the account may own; empty: the default")), cmdSetQuota},
		{stanza.NodeBanDomain, "Ban a domain", ask("Ban a domain, and all below it", required("domain", "Domain"), field("reason", "Reason, for your own records", ""), field("lift", "Lift the ban", "0")), cmdBanDomain},
		{stanza.NodeListDevices, "List an account's devices", ask("Devices", required("user", "Bare JID")), cmdListDevices},
		{stanza.NodePurgeUser, "Purge an account", ask("Remove everything of an account, and its devices from their groups", required("user", "Bare JID")), cmdPurgeUser},
		{nodeDeleteReport, "Delete reports", ask("Delete reports that have been dealt with", required("ids", "Numbers of the reports, as lockstepd report list shows them")), cmdDeleteReport},
		{stanza.NodeStats, "Statistics", nil, cmdStats},
		{stanza.NodeMaintenance, "Maintenance", ask("Refuse requests for a while", required("minutes", "Minutes; 0 ends it")), cmdMaintenance},
		{stanza.NodeRotateExternalSender, "Rotate the external sender key", ask("Make a new signing key; groups list it once their admins commit it", field("cipher-suite", "Cipher suite", "1")), cmdRotate},
		{stanza.NodeAnnounce, "Send an announcement", ask("Announcement to all live sessions", required("announcement", "Text")), cmdAnnounce},
		{stanza.NodeShutdown, "Shut the service down", nil, cmdShutdown},
	}
}

// nodeDeleteReport is not of the protocol: how reports are read is not, either.
const nodeDeleteReport = "lockstep#delete-report"

func findCommand(node string) *command {
	for i := range commands {
		if commands[i].node == node {
			return &commands[i]
		}
	}
	return nil
}

func field(name, label, value string) stanza.Field {
	return stanza.Field{Var: name, Type: stanza.FieldTextSingle, Label: label, Values: []string{value}}
}

func required(name, label string) stanza.Field {
	return stanza.Field{Var: name, Type: stanza.FieldTextSingle, Label: label, Required: true}
}

func ask(title string, fields ...stanza.Field) func() *stanza.Form {
	return func() *stanza.Form { return &stanza.Form{Type: stanza.FormForm, Title: title, Fields: fields} }
}

// adHoc serves a command in at most two steps: the form, and the deed. There is
// no state in between.
func adHoc(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Command](r.payload)
	if err != nil {
		return nil, err
	}
	if !s.admins[r.from.bare] {
		return nil, stanza.NewError(stanza.Forbidden, "These commands are for the operators of the service.")
	}
	c := findCommand(in.Node)
	if c == nil {
		return nil, stanza.NewError(stanza.ItemNotFound, "There is no such command.")
	}
	out := &stanza.Command{Node: in.Node, SessionID: in.SessionID, Status: stanza.StatusCompleted}
	if out.SessionID == "" {
		out.SessionID = newID(s.rand)[:16]
	}
	switch {
	case in.Action == stanza.ActionCancel:
		out.Status = stanza.StatusCanceled
		return out, nil
	case c.form != nil && in.Form == nil:
		out.Status, out.Form = stanza.StatusExecuting, c.form()
		out.Actions, out.Execute = []string{stanza.ActionComplete}, stanza.ActionComplete
		return out, nil
	}
	if c.form != nil {
		for _, f := range c.form().Fields {
			if f.Required && in.Form.Field(f.Var) == nil {
				return nil, stanza.NewError(stanza.BadRequest, fmt.Sprintf("The form lacks the field %q.", f.Var))
			}
		}
	}
	s.log.Info("operator's command", "command", strings.TrimPrefix(in.Node, stanza.NSDelivery), "by", r.from.bare)
	if out.Form, err = c.run(r.ctx, s, in.Form); err != nil {
		return nil, err
	}
	out.Notes = []stanza.CommandNote{{Type: "info", Text: "Done."}}
	return out, nil
}

func result(title string) *stanza.Form { return &stanza.Form{Type: stanza.FormResult, Title: title} }

func add(f *stanza.Form, name, label, value string) {
	f.Fields = append(f.Fields, stanza.Field{Var: name, Type: stanza.FieldTextSingle, Label: label, Values: []string{value}})
}

func userField(f *stanza.Form, name string) (string, error) {
	a, err := parseAddr(strings.TrimSpace(f.Get(name)))
	if err != nil || a.local == "" || a.resource != "" {
		return "", stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("The field %q is not a bare JID.", name))
	}
	return a.bare, nil
}

func cmdListGroups(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	var list []store.Group
	err := s.store.View(ctx, func(rd store.Reader) (err error) {
		list, err = rd.Groups(in.Get("after"), listMax)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := result("Groups")
	for _, name := range []string{"jid", "epoch", "entries", "created"} {
		out.Reported = append(out.Reported, stanza.Field{Var: name, Label: name})
	}
	for _, g := range list {
		out.Items = append(out.Items, []stanza.Field{
			{Var: "jid", Values: []string{g.JID}}, {Var: "epoch", Values: []string{strconv.FormatUint(g.Epoch, 10)}},
			{Var: "entries", Values: []string{strconv.FormatUint(g.Head, 10)}}, {Var: "created", Values: []string{g.Created.UTC().Format(time.RFC3339)}},
		})
	}
	return out, nil
}

func groupField(s *Service, in *stanza.Form) (string, error) {
	jid, err := userField(in, "group")
	if err != nil {
		return "", err
	}
	if domainOf(jid) != s.domain.bare {
		return "", stanza.NewError(stanza.NotAcceptable, "The group lives at another service.")
	}
	return jid, nil
}

// GroupSummary is what an operator may know of a group.
type GroupSummary struct {
	JID       string
	GroupID   []byte
	Mode      string
	Epoch     uint64
	Head      uint64
	First     uint64 // seq of the oldest entry kept
	Pending   int
	Accounts  int
	Devices   int
	Owners    []string
	Outcasts  int
	Retention time.Duration
	Created   time.Time
}

// SummariseGroup reads what an operator may know of a group: never content.
func SummariseGroup(ctx context.Context, st store.Store, jid string) (*GroupSummary, error) {
	out := &GroupSummary{JID: jid}
	err := st.View(ctx, func(rd store.Reader) error {
		row, err := rd.Group(jid)
		if err != nil {
			return err
		}
		*out = GroupSummary{JID: row.JID, GroupID: row.GroupID, Mode: row.Mode, Epoch: row.Epoch, Head: row.Head, First: row.First, Pending: row.Pending, Retention: row.Retention, Created: row.Created}
		members, err := rd.Members(row.Key)
		if err != nil {
			return err
		}
		users := make(map[string]bool)
		for _, m := range members {
			if m.InTree() {
				out.Devices++
				users[m.User] = true
			}
		}
		out.Accounts = len(users)
		return eachAffiliation(rd, row.Key, func(a store.Affiliation) {
			switch a.Value {
			case groupdata.Owner.String():
				out.Owners = append(out.Owners, a.User)
			case store.AffiliationOutcast:
				out.Outcasts++
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func cmdGroupInfo(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	jid, err := groupField(s, in)
	if err != nil {
		return nil, err
	}
	g, err := SummariseGroup(ctx, s.store, jid)
	if err != nil {
		return nil, stanza.NewError(stanza.ItemNotFound, "There is no such group.")
	}
	out := result(g.JID)
	add(out, "group-id", "group_id", fmt.Sprintf("%x", g.GroupID))
	add(out, "mode", "Handshakes", g.Mode)
	add(out, "epoch", "Epoch", strconv.FormatUint(g.Epoch, 10))
	add(out, "head", "Last entry", strconv.FormatUint(g.Head, 10))
	add(out, "first", "Oldest entry kept", strconv.FormatUint(g.First, 10))
	add(out, "pending", "Pending proposals", strconv.Itoa(g.Pending))
	add(out, "accounts", "Accounts", strconv.Itoa(g.Accounts))
	add(out, "devices", "Devices", strconv.Itoa(g.Devices))
	add(out, "owners", "Owners", strings.Join(g.Owners, " "))
	add(out, "created", "Created", g.Created.UTC().Format(time.RFC3339))
	return out, nil
}

func cmdDestroyGroup(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	jid, err := groupField(s, in)
	if err != nil {
		return nil, err
	}
	err = s.onGroup(ctx, jid, func(ctx context.Context, g *group) error {
		st, err := g.load(ctx)
		if err != nil {
			return err
		}
		return g.destroy(ctx, st, "", in.Get("reason"), nil)
	})
	return nil, err
}

// onGroup runs f in a group's goroutine and waits for it.
func (s *Service) onGroup(ctx context.Context, jid string, f func(ctx context.Context, g *group) error) error {
	done := make(chan error, 1)
	ok := s.groups.run(jid, func(ctx context.Context, g *group) {
		err := error(&stanza.RetryAfter{After: time.Second}) // stays if f panics
		defer func() { done <- err }()
		err = f(ctx, g)
	})
	if !ok {
		return &stanza.RetryAfter{After: time.Second}
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func cmdSetQuota(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	user, err := userField(in, "user")
	if err != nil {
		return nil, err
	}
	var value []byte
	if v := strings.TrimSpace(in.Get("groups")); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return nil, stanza.NewError(stanza.NotAcceptable, "The quota is not a number.")
		}
		value = []byte(strconv.Itoa(n))
	}
	return nil, s.store.Update(ctx, func(tx store.Tx) error { return tx.SetSetting(user, settingQuota, value) })
}

func cmdBanDomain(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	a, err := parseAddr(strings.TrimSpace(in.Get("domain")))
	if err != nil || a.local != "" || a.resource != "" {
		return nil, stanza.NewError(stanza.NotAcceptable, "The field \"domain\" is not a domain.")
	}
	lift := in.Get("lift") == "1" || in.Get("lift") == "true"
	if err := s.settings.ban(ctx, a.domain, bound(in.Get("reason"), destroyReason), !lift); err != nil {
		return nil, err
	}
	if !lift {
		if err := s.endBanned(ctx); err != nil {
			return nil, err
		}
	}
	out := result("Banned domains")
	out.Fields = append(out.Fields, stanza.Field{Var: "domains", Type: stanza.FieldTextMulti, Label: "Domains", Values: s.settings.list()})
	return out, nil
}

func cmdListDevices(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	user, err := userField(in, "user")
	if err != nil {
		return nil, err
	}
	var list []store.Device
	err = s.store.View(ctx, func(rd store.Reader) (err error) {
		list, err = rd.Devices(user, s.now())
		return err
	})
	if err != nil {
		return nil, err
	}
	out := result("Devices of " + user)
	for _, name := range []string{"device", "key-packages", "last-resort", "seen"} {
		out.Reported = append(out.Reported, stanza.Field{Var: name, Label: name})
	}
	for _, d := range list {
		out.Items = append(out.Items, []stanza.Field{
			{Var: "device", Values: []string{d.Device}}, {Var: "key-packages", Values: []string{strconv.Itoa(d.Available)}},
			{Var: "last-resort", Values: []string{strconv.FormatBool(d.LastResort)}}, {Var: "seen", Values: []string{d.Seen.UTC().Format(time.RFC3339)}},
		})
	}
	return out, nil
}

func cmdPurgeUser(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	user, err := userField(in, "user")
	if err != nil {
		return nil, err
	}
	n, err := s.purge(ctx, user)
	if err != nil {
		return nil, err
	}
	out := result("Purged " + user)
	add(out, "removals", "Removals proposed", strconv.Itoa(n))
	return out, nil
}

func cmdDeleteReport(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	var ids []int64
	for _, f := range strings.FieldsFunc(in.Get("ids"), func(r rune) bool { return r == ' ' || r == ',' }) {
		id, err := strconv.ParseInt(f, 10, 64)
		if err != nil || id < 1 || len(ids) >= listMax {
			return nil, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("The field \"ids\" is not a list of at most %d numbers.", listMax))
		}
		ids = append(ids, id)
	}
	return nil, s.store.Update(ctx, func(tx store.Tx) error {
		for _, id := range ids {
			if err := tx.DeleteReport(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// PurgeUser removes all that is kept of an account and asks its groups to remove
// its devices. It returns for how many devices. The service need not run.
func (s *Service) PurgeUser(ctx context.Context, user string) (int, error) {
	a, err := parseAddr(user)
	if err != nil || a.local == "" || a.resource != "" {
		return 0, fmt.Errorf("component: %q is not the bare JID of an account", user)
	}
	if !s.ran.Load() {
		if err := s.keys.load(ctx); err != nil {
			return 0, err
		}
	}
	return s.purge(ctx, a.bare)
}

// Close ends a service that was never run.
func (s *Service) Close() {
	if s.ran.Swap(true) {
		return
	}
	s.workers.close()
	s.groups.close()
	s.stop()
	s.tasks.Wait()
}

// purge removes all that is kept of an account and asks its groups to remove
// its devices.
func (s *Service) purge(ctx context.Context, user string) (removals int, err error) {
	var list []store.IdleMember
	err = s.store.Update(ctx, func(tx store.Tx) (err error) {
		list, err = tx.PurgeUser(user)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, sess := range s.sessions.of(ctx, user) {
		s.sessions.drop(sess.jid)
	}
	s.nudger.synced(user)
	for _, m := range list {
		err := s.onGroup(ctx, m.JID, func(ctx context.Context, g *group) error {
			g.st = nil // affiliations have changed
			_, err := g.proposeRemoval(ctx, m.User, m.Device, "purged")
			return err
		})
		if err != nil {
			s.log.Warn("cannot propose the removal of a purged device", "group", m.JID, "error", err)
			continue
		}
		removals++
	}
	return removals, nil
}

func cmdStats(ctx context.Context, s *Service, _ *stanza.Form) (*stanza.Form, error) {
	st, err := s.store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	me := s.Stats()
	out := result("Statistics")
	add(out, "uptime", "Up for", s.now().Sub(me.Started).Round(time.Second).String())
	add(out, "version", "Version", s.conf.Version)
	add(out, "engine", "Store", st.Engine)
	for _, n := range []struct {
		name, label string
		n           int64
	}{
		{"groups", "Groups", st.Groups}, {"members", "Devices in groups", st.Members}, {"entries", "Log entries", st.Entries},
		{"devices", "Devices", st.Devices}, {"key-packages", "Key packages", st.KeyPackages}, {"welcomes", "Welcomes waiting", st.Welcomes},
		{"sessions", "Live sessions", st.Sessions}, {"nudges", "Nudges outstanding", st.Nudges}, {"reports", "Reports", st.Reports},
		{"bytes", "Bytes on disk", st.Bytes}, {"loaded", "Groups in memory", int64(me.GroupsLoaded)}, {"waiting", "Stanzas waiting for the server", int64(me.Waiting)},
	} {
		add(out, n.name, n.label, strconv.FormatInt(n.n, 10))
	}
	return out, nil
}

func cmdMaintenance(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	n, err := strconv.Atoi(strings.TrimSpace(in.Get("minutes")))
	if err != nil || n < 0 || n > 7*24*60 {
		return nil, stanza.NewError(stanza.NotAcceptable, "The field \"minutes\" is not a number of minutes up to a week.")
	}
	if n == 0 {
		s.maint.Store(0)
		return nil, nil
	}
	until := s.now().Add(time.Duration(n) * time.Minute)
	s.maint.Store(until.Unix())
	out := result("Maintenance")
	add(out, "until", "Until", until.UTC().Format(time.RFC3339))
	return out, nil
}

func cmdRotate(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	suite := uint64(senderSuite)
	if v := strings.TrimSpace(in.Get("cipher-suite")); v != "" {
		var err error
		if suite, err = strconv.ParseUint(v, 0, 16); err != nil || !s.suites[mls.CipherSuite(suite)] {
			return nil, stanza.NewError(stanza.NotAcceptable, "This service does not have that cipher suite.")
		}
	}
	key, err := s.keys.rotate(ctx, mls.CipherSuite(suite))
	if err != nil {
		return nil, err
	}
	out := result("New signing key")
	add(out, "public-key", "Public key", fmt.Sprintf("%x", key.Public()))
	return out, nil
}

func cmdAnnounce(ctx context.Context, s *Service, in *stanza.Form) (*stanza.Form, error) {
	text := strings.Join(in.Values("announcement"), "\n")
	if text == "" || len(text) > reportText {
		return nil, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("An announcement has 1 to %d bytes.", reportText))
	}
	n, after := 0, ""
	for {
		var page []store.Session
		err := s.store.View(ctx, func(rd store.Reader) (err error) {
			page, err = rd.AllSessions(after, listMax)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		head := []byte("<message type='headline' id='" + s.entryID() + "' from='" + escapeAttr(s.domain.bare) + "' to='")
		tail := append([]byte("'>"), (&stanza.Body{Text: text, Inherit: true}).Append(nil)...)
		tail = append(tail, "</message>"...)
		var to []string
		for _, p := range page {
			to = append(to, escapeAttr(p.JID))
		}
		s.link.fanout(head, tail, to, "")
		n += len(page)
		after = page[len(page)-1].JID
	}
	out := result("Announcement")
	add(out, "sessions", "Sent to sessions", strconv.Itoa(n))
	return out, nil
}

func cmdShutdown(ctx context.Context, s *Service, _ *stanza.Form) (*stanza.Form, error) {
	if s.conf.Shutdown == nil {
		return nil, stanza.NewError(stanza.FeatureNotImplemented, "This service is part of a program that does not stop for it.")
	}
	time.AfterFunc(500*time.Millisecond, s.conf.Shutdown) // the answer goes out first
	return nil, nil
}
