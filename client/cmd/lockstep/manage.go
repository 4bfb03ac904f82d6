// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

type groupCmd struct {
	List    groupListCmd    `cmd:"" help:"List the groups and invitations."`
	Create  groupCreateCmd  `cmd:"" help:"Make a group."`
	Members groupMembersCmd `cmd:"" help:"List a group's devices, with keys and roles."`
	Invite  groupInviteCmd  `cmd:"" help:"Add accounts."`
	Remove  groupRemoveCmd  `cmd:"" help:"Remove accounts."`
	Role    groupRoleCmd    `cmd:"" help:"Change what an account may do: owner, admin, member, visitor, outcast, none."`
	Rename  groupRenameCmd  `cmd:"" help:"Change a group's name."`
	Accept  groupAcceptCmd  `cmd:"" help:"Answer an invitation with yes."`
	Decline groupDeclineCmd `cmd:"" help:"Answer an invitation with no."`
	Join    groupJoinCmd    `cmd:"" help:"Join an open group, or one that another device of this account is in."`
	Leave   groupLeaveCmd   `cmd:"" help:"Leave a group."`
	Rekey   groupRekeyCmd   `cmd:"" help:"Change this device's keys in a group now."`
	Rejoin  groupRejoinCmd  `cmd:"" help:"Give the state of a group up and come back with new keys."`
	ReInit  groupReInitCmd  `cmd:"" name:"reinit" help:"Let a group go on with another cipher suite."`
	Report  groupReportCmd  `cmd:"" help:"Report a member to the operator of the group's service."`
	Destroy groupDestroyCmd `cmd:"" help:"End a group for everybody."`
}

// with runs fn on a group of the account.
func (a *app) with(name string, fn func(ctx context.Context, s *session, g *client.Group) error) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	g, err := s.findGroup(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, 2*time.Minute)
	defer cancel()
	return fn(ctx, s, g)
}

func (a *app) table(fn func(w *tabwriter.Writer)) {
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fn(w)
	w.Flush()
}

type groupListCmd struct {
	JSON bool `help:"Write JSON."`
}

// Run lists.
func (c *groupListCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if c.JSON {
		enc := json.NewEncoder(a.out)
		for _, g := range s.Groups() {
			role, _ := g.Role("")
			if err := enc.Encode(map[string]any{"jid": g.JID(), "name": g.Name(), "epoch": g.Epoch(), "seq": g.Seq(), "role": role.String(), "joined": g.Joined()}); err != nil {
				return err
			}
		}
		return nil
	}
	a.table(func(w *tabwriter.Writer) {
		for _, g := range s.Groups() {
			role, _ := g.Role("")
			members, _ := g.Members()
			devices := "1 device"
			if n := len(members); n != 1 {
				devices = fmt.Sprint(n, " devices")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\tepoch %d\n", g.JID(), shown(g.Name()), role, devices, g.Epoch())
		}
		for _, inv := range s.Invitations() {
			fmt.Fprintf(w, "%s\tinvitation by %s: lockstep group accept, or decline\n", inv.Group, inv.By)
		}
	})
	return nil
}

type groupCreateCmd struct {
	Name    string   `arg:"" optional:"" help:"What people call it."`
	Local   string   `placeholder:"PART" help:"The part of the address before the @. Default: the service chooses."`
	On      string   `placeholder:"JID" help:"The delivery service to make it on. Default: the own."`
	Open    bool     `help:"Anybody may join."`
	Private bool     `help:"Hide from the delivery service who changes what; it then cannot check it."`
	Invite  []string `placeholder:"JID" help:"Add these accounts. Can be repeated."`
}

// Run creates.
func (c *groupCreateCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(a.ctx, 2*time.Minute)
	defer cancel()
	p := groupdata.DefaultPolicy()
	if c.Open {
		p.ExternalJoin = groupdata.AnyoneJoins
	}
	g, err := s.CreateGroup(ctx, c.Name, &client.GroupOptions{Service: c.On, Local: c.Local, Policy: &p, PrivateHandshakes: c.Private})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, g.JID())
	if len(c.Invite) == 0 {
		return nil
	}
	return a.invite(ctx, g, c.Invite)
}

type groupInviteCmd struct {
	Group    string   `arg:"" help:"The group."`
	Accounts []string `arg:"" help:"Addresses of the accounts."`
}

// Run invites.
func (c *groupInviteCmd) Run(a *app) error {
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return a.invite(ctx, g, c.Accounts) })
}

// invite tells for each account how it went, and fails if one was not added.
func (a *app) invite(ctx context.Context, g *client.Group, accounts []string) error {
	res, err := g.Invite(ctx, accounts...)
	if err != nil && !errors.Is(err, client.ErrNobodyAdded) {
		return err
	}
	for _, u := range res.Users {
		fmt.Fprintf(a.out, "%s: %s", u.JID, u.Status)
		if u.Reason != "" {
			fmt.Fprintf(a.out, " (%s)", clean(strip(errors.New(u.Reason))))
		}
		fmt.Fprintln(a.out)
		for _, d := range u.Devices {
			if d.Status != client.InviteAdded {
				fmt.Fprintf(a.out, "  device %s: %s %s\n", d.Device, d.Status, clean(d.Reason))
			}
		}
	}
	if len(res.Failed()) > 0 {
		return errQuiet
	}
	return nil
}

type groupMembersCmd struct {
	Group string `arg:"" help:"The group."`
	JSON  bool   `help:"Write JSON."`
}

// Run lists members.
func (c *groupMembersCmd) Run(a *app) error {
	return a.with(c.Group, func(_ context.Context, _ *session, g *client.Group) error {
		members, err := g.Members()
		if err != nil {
			return err
		}
		if c.JSON {
			enc := json.NewEncoder(a.out)
			for _, m := range members {
				if err := enc.Encode(map[string]any{"jid": m.JID, "device": m.Device.String(), "role": m.Role.String(), "trust": m.Trust, "fingerprint": m.Fingerprint, "own": m.Own, "self": m.Self}); err != nil {
					return err
				}
			}
			return nil
		}
		a.table(func(w *tabwriter.Writer) {
			for _, m := range members {
				self := ""
				if m.Self {
					self = "this device"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.JID, m.Role, m.Trust, client.FormatFingerprint(m.Fingerprint), self)
			}
		})
		code, err := g.EpochCode()
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "epoch %d, code %s: the same on every member's device\n", g.Epoch(), code)
		return nil
	})
}

type groupRemoveCmd struct {
	Group    string   `arg:"" help:"The group."`
	Accounts []string `arg:"" help:"Addresses of the accounts."`
}

// Run removes.
func (c *groupRemoveCmd) Run(a *app) error {
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.Remove(ctx, c.Accounts...) })
}

type groupRoleCmd struct {
	Group   string `arg:"" help:"The group."`
	Account string `arg:"" help:"Address of the account."`
	Role    string `arg:"" enum:"owner,admin,member,visitor,outcast,none" help:"The new role."`
}

// Run sets a role.
func (c *groupRoleCmd) Run(a *app) error {
	role, err := groupdata.ParseRole(c.Role)
	if err != nil {
		return err
	}
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.SetRole(ctx, c.Account, role) })
}

type groupRenameCmd struct {
	Group string `arg:"" help:"The group."`
	Name  string `arg:"" help:"The new name."`
}

// Run renames.
func (c *groupRenameCmd) Run(a *app) error {
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.Rename(ctx, c.Name) })
}

type groupAcceptCmd struct {
	Group string `arg:"" help:"Address of the group."`
}

// Run accepts.
func (c *groupAcceptCmd) Run(a *app) error {
	return a.answer(func(ctx context.Context, s *session) error {
		_, err := s.Accept(ctx, c.Group)
		return err
	})
}

type groupDeclineCmd struct {
	Group string `arg:"" help:"Address of the group."`
}

// Run declines.
func (c *groupDeclineCmd) Run(a *app) error {
	return a.answer(func(ctx context.Context, s *session) error { return s.Decline(ctx, c.Group) })
}

func (a *app) answer(fn func(ctx context.Context, s *session) error) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(a.ctx, time.Minute)
	defer cancel()
	return fn(ctx, s)
}

type groupJoinCmd struct {
	Group string `arg:"" help:"Address of the group."`
}

// Run joins.
func (c *groupJoinCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(a.ctx, 2*time.Minute)
	defer cancel()
	_, err = s.Join(ctx, c.Group)
	return err
}

type groupLeaveCmd struct {
	Group      string `arg:"" help:"The group."`
	Everywhere bool   `help:"With all devices of the account."`
}

// Run leaves.
func (c *groupLeaveCmd) Run(a *app) error {
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.Leave(ctx, c.Everywhere) })
}

type groupRekeyCmd struct {
	Group string `arg:"" help:"The group."`
}

// Run changes keys.
func (c *groupRekeyCmd) Run(a *app) error {
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.UpdateKeys(ctx) })
}

type groupRejoinCmd struct {
	Group string `arg:"" help:"The group."`
}

// Run rejoins.
func (c *groupRejoinCmd) Run(a *app) error {
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.Rejoin(ctx) })
}

type groupReInitCmd struct {
	Group string `arg:"" help:"The group."`
	Suite string `required:"" placeholder:"SUITE" help:"Number of the cipher suite, such as 0x0003."`
}

// Run reinitialises.
func (c *groupReInitCmd) Run(a *app) error {
	n, err := strconv.ParseUint(c.Suite, 0, 16)
	if err != nil {
		return fmt.Errorf("%q is no number of a cipher suite", c.Suite)
	}
	suite := mls.CipherSuite(n)
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error {
		if err := g.ReInit(ctx, suite); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "%s goes on with %v\n", g.JID(), g.CipherSuite())
		return nil
	})
}

type groupReportCmd struct {
	Group     string `arg:"" help:"The group."`
	User      string `required:"" placeholder:"JID" help:"Who is reported."`
	Reason    string `enum:"abuse,spam" default:"abuse" help:"abuse or spam."`
	Seq       uint64 `placeholder:"N" help:"Place of the message in the group's log, as lockstep listen --json tells it."`
	Text      string `help:"Words for the operator."`
	Plaintext string `name:"show" type:"existingfile" placeholder:"FILE" help:"Show the operator what was said: the contents of FILE. Nothing is shown without."`
}

// Run reports.
func (c *groupReportCmd) Run(a *app) error {
	r := client.AbuseReport{User: c.User, Reason: client.ReasonAbuse, Seq: c.Seq, Text: c.Text}
	if c.Reason == "spam" {
		r.Reason = client.ReasonSpam
	}
	if c.Plaintext != "" {
		b, err := os.ReadFile(c.Plaintext)
		if err != nil {
			return err
		}
		r.Plaintext = b
	}
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.ReportAbuse(ctx, r) })
}

type groupDestroyCmd struct {
	Group  string `arg:"" help:"The group."`
	Reason string `help:"Told to the members."`
	Next   string `placeholder:"JID" help:"A group to use instead."`
	Yes    bool   `required:"" help:"Yes, end it for everybody."`
}

// Run destroys.
func (c *groupDestroyCmd) Run(a *app) error {
	return a.with(c.Group, func(ctx context.Context, _ *session, g *client.Group) error { return g.Destroy(ctx, c.Reason, c.Next) })
}

type deviceCmd struct {
	List   deviceListCmd   `cmd:"" help:"List this account's devices."`
	Remove deviceRemoveCmd `cmd:"" help:"Remove a device of this account from all groups."`
	Rotate deviceRotateCmd `cmd:"" help:"Give this device new signature keys, in all groups."`
	Logout deviceLogoutCmd `cmd:"" help:"Take this device's key packages back, so that nobody adds it any more."`
}

type deviceListCmd struct {
	JSON bool `help:"Write JSON."`
}

// Run lists devices.
func (c *deviceListCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	devices, err := s.Devices(a.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(a.out)
		for _, d := range devices {
			if err := enc.Encode(map[string]any{"id": d.ID.String(), "self": d.Self, "key-packages": d.KeyPackages, "last-resort": d.LastResort, "seen": d.Seen, "groups": d.Groups, "fingerprint": d.Fingerprint, "trust": d.Trust}); err != nil {
				return err
			}
		}
		return nil
	}
	a.table(func(w *tabwriter.Writer) {
		for _, d := range devices {
			seen := "never seen"
			if !d.Seen.IsZero() {
				seen = "seen " + d.Seen.Local().Format("2006-01-02 15:04")
			}
			if d.Self {
				seen = "this device"
			}
			fmt.Fprintf(w, "%s\t%s\t%d key packages\t%d groups\t%s\n", d.ID, seen, d.KeyPackages, len(d.Groups), d.Trust)
		}
	})
	return nil
}

type deviceRemoveCmd struct {
	Device string `arg:"" help:"Id of the device: 32 hexadecimal digits."`
}

// Run removes a device.
func (c *deviceRemoveCmd) Run(a *app) error {
	id, err := stanza.ParseDeviceID(c.Device)
	if err != nil {
		return err
	}
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if id == s.Device() {
		return errors.New("this is the device itself: use lockstep group leave and lockstep device logout")
	}
	return s.RemoveOwnDevice(a.ctx, id)
}

type deviceRotateCmd struct{}

// Run rotates keys.
func (deviceRotateCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.RotateSignatureKey(a.ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "this device's key is now %s\n", client.FormatFingerprint(s.Fingerprint()))
	return nil
}

type deviceLogoutCmd struct{}

// Run logs out.
func (deviceLogoutCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	return s.Logout(a.ctx)
}

type verifyCmd struct {
	Account  string `arg:"" optional:"" help:"Whose keys. Default: this device's own code."`
	Trust    string `placeholder:"FINGERPRINT" help:"Record that this key was compared and is right."`
	Distrust string `placeholder:"FINGERPRINT" help:"Record that this key is wrong."`
	URI      string `name:"uri" placeholder:"URI" help:"Take over what a scanned code says."`
}

// Run shows keys or records a decision.
func (c *verifyCmd) Run(a *app) error {
	s, err := a.online(nil, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if c.URI != "" {
		account, err := s.ApplyURI(a.ctx, c.URI)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "the code of %s is taken over\n", account)
		return nil
	}
	if c.Account == "" {
		fmt.Fprintf(a.out, "this device's key: %s\n", client.FormatFingerprint(s.Fingerprint()))
		fmt.Fprintf(a.out, "as a code to scan: %s\n", s.URI())
		return nil
	}
	for _, d := range []struct {
		fp string
		t  client.Trust
	}{{c.Trust, client.Verified}, {c.Distrust, client.Distrusted}} {
		if d.fp != "" {
			if err := s.SetTrust(a.ctx, c.Account, d.fp, d.t); err != nil {
				return err
			}
		}
	}
	if n, err := s.SafetyNumber(c.Account); err == nil {
		fmt.Fprintf(a.out, "safety number, the same on both sides: %s\n", n)
	}
	keys := s.Keys(c.Account)
	if len(keys) == 0 {
		return fmt.Errorf("no key of %s has been seen yet: be in a group together first", c.Account)
	}
	a.table(func(w *tabwriter.Writer) {
		for _, k := range keys {
			fmt.Fprintf(w, "%s\t%s\tdevice %s\tfirst seen %s\n", client.FormatFingerprint(k.Fingerprint), k.Trust, k.Device, k.FirstSeen.Local().Format("2006-01-02"))
		}
	})
	return nil
}

type doctorCmd struct {
	JSON bool `help:"Write JSON."`
}

// Run looks.
func (c *doctorCmd) Run(a *app) error {
	cfg, err := a.clientConfig()
	if err != nil {
		return err
	}
	s, err := a.connect(cfg, nil)
	if err != nil {
		return err
	}
	defer s.close()
	// Give it a fair chance, and then say what it is stuck at.
	ctx, cancel := context.WithTimeout(a.ctx, 20*time.Second)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- s.Ready(ctx) }()
	var runErr error
	select {
	case <-ready:
	case runErr = <-s.done:
		s.done <- runErr
	}
	bad := false
	for _, f := range s.Doctor(a.ctx) {
		if f.Name == "connection" && !f.OK && runErr != nil {
			f.Text += ": " + strip(runErr)
		}
		bad = bad || !f.OK
		if c.JSON {
			if err := json.NewEncoder(a.out).Encode(f); err != nil {
				return err
			}
			continue
		}
		mark := "✓"
		if !f.OK {
			mark = "✗"
		}
		fmt.Fprintf(a.out, "%s %s: %s\n", mark, f.Name, clean(f.Text))
		if f.Hint != "" {
			fmt.Fprintf(a.out, "  %s\n", f.Hint)
		}
	}
	if bad {
		return errQuiet
	}
	return nil
}
