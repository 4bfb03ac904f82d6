// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file holds the commands of the window: lines that begin with a slash.

const chatHelp = `/create NAME        make a group
/invite JID…        add people
/remove JID…        remove people
/accept, /decline   answer an invitation
/join ADDRESS       join an open group
/leave              leave the group
/members, F2        who is here
/role JID ROLE      owner, admin, member, visitor or outcast
/rename NAME        give the group another name
/file PATH          send a file
/save [FOLDER]      save the last file
/correct TEXT       correct your last line
/retract            take your last line back
/react EMOJI        react to the last line of another
/verify [JID]       your own key, or those of somebody to compare
/trust JID KEY      you have compared it
/code               the epoch's code, the same for all
/rekey              new keys now
/doctor             what is wrong
/clear              forget what was said here
Tab next group   PgUp PgDn scroll   F2 members   Ctrl-C quit`

// command runs a line that begins with a slash. What takes time runs beside
// the window.
func (m *chat) command(text string) tea.Cmd {
	name, arg, _ := strings.Cut(text, " ")
	arg = strings.TrimSpace(arg)
	words := strings.Fields(arg)
	do := func(what string, fn func(ctx context.Context) (string, error)) tea.Cmd {
		m.status = what
		return func() tea.Msg {
			ctx, cancel := context.WithTimeout(m.ctx, 2*time.Minute)
			defer cancel()
			done, err := fn(ctx)
			if err != nil {
				return statusMsg(strip(err))
			}
			m.send(refreshMsg{})
			return statusMsg(done)
		}
	}
	switch name {
	case "help", "h", "?":
		m.notice(chatHelp)
		return nil
	case "quit", "q", "exit":
		return tea.Quit
	case "members":
		m.members = !m.members
		m.show()
		return m.loadMembers()
	case "create":
		return do("creating…", func(ctx context.Context) (string, error) {
			g, err := m.c.CreateGroup(ctx, arg, nil)
			if err != nil {
				return "", err
			}
			m.send(openMsg(g.JID()))
			return "created " + g.JID(), nil
		})
	case "join":
		return do("joining…", func(ctx context.Context) (string, error) {
			g, err := m.c.Join(ctx, arg)
			if err != nil {
				return "", err
			}
			m.send(openMsg(g.JID()))
			return "joined", nil
		})
	case "accept", "decline":
		r := m.room()
		if r == nil || r.invited == "" {
			m.status = "this is no invitation"
			return nil
		}
		jid := r.jid
		return do(name+"…", func(ctx context.Context) (string, error) {
			if name == "decline" {
				return "declined", m.c.Decline(ctx, jid)
			}
			_, err := m.c.Accept(ctx, jid)
			m.send(openMsg(jid))
			return "joined", err
		})
	case "verify":
		return m.verify(arg)
	case "trust":
		if len(words) < 2 {
			m.status = "/trust JID KEY"
			return nil
		}
		return do("…", func(ctx context.Context) (string, error) {
			return words[0] + " is verified", m.c.SetTrust(ctx, words[0], strings.Join(words[1:], ""), client.Verified)
		})
	case "doctor":
		return func() tea.Msg {
			var b strings.Builder
			for _, f := range m.c.Doctor(m.ctx) {
				mark := "✓"
				if !f.OK {
					mark = "✗"
				}
				fmt.Fprintf(&b, "%s %s: %s %s\n", mark, f.Name, f.Text, f.Hint)
			}
			m.send(noticeMsg(b.String()))
			return nil
		}
	}
	g, err := m.group()
	if err != nil {
		m.status = strip(err)
		return nil
	}
	return m.groupCommand(g, name, arg, words, do)
}

// groupCommand runs a command that is about the open group.
func (m *chat) groupCommand(g *client.Group, name, arg string, words []string, do func(string, func(context.Context) (string, error)) tea.Cmd) tea.Cmd {
	switch name {
	case "invite", "add":
		return do("inviting…", func(ctx context.Context) (string, error) {
			res, err := g.Invite(ctx, words...)
			var parts []string
			for _, u := range res.Users {
				parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s: %s %s", u.JID, u.Status, u.Reason)))
			}
			if len(parts) > 0 {
				return strings.Join(parts, "; "), nil
			}
			return "", err
		})
	case "remove", "kick":
		return do("removing…", func(ctx context.Context) (string, error) { return "removed", g.Remove(ctx, words...) })
	case "role":
		if len(words) != 2 {
			m.status = "/role JID ROLE"
			return nil
		}
		return do("…", func(ctx context.Context) (string, error) {
			role, err := groupdata.ParseRole(words[1])
			if err != nil {
				return "", err
			}
			return words[0] + " is " + words[1], g.SetRole(ctx, words[0], role)
		})
	case "rename":
		return do("…", func(ctx context.Context) (string, error) { return "renamed", g.Rename(ctx, arg) })
	case "rekey":
		return do("new keys…", func(ctx context.Context) (string, error) { return "new keys", g.UpdateKeys(ctx) })
	case "leave":
		return do("leaving…", func(ctx context.Context) (string, error) { return "left " + g.JID(), g.Leave(ctx, true) })
	case "code":
		code, err := g.EpochCode()
		if err != nil {
			m.status = strip(err)
			return nil
		}
		m.notice(fmt.Sprintf("epoch %d, code %s: the same on every member's device", g.Epoch(), code))
	case "file":
		return do("encrypting…", func(ctx context.Context) (string, error) { return m.sendFile(ctx, g, arg) })
	case "save":
		return m.save(arg)
	case "react", "correct", "retract":
		return m.aboutLast(g, name, arg, do)
	case "clear":
		m.room().lines = nil
		if err := m.h.clear(g.JID()); err != nil {
			m.status = strip(err)
		}
		m.show()
	default:
		m.status = "there is no /" + clean(name) + ": /help"
	}
	return nil
}

func (m *chat) sendFile(ctx context.Context, g *client.Group, path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	up, err := m.c.Upload(ctx, filepath.Base(path), "", f, m.progress("uploading"))
	if err != nil {
		return "", err
	}
	sent, err := g.SendFile(ctx, up, "")
	if err != nil {
		return "", err
	}
	l := &line{ID: sent.ID, Origin: sent.OriginID, Time: sent.Time, From: m.c.Account(), Own: true, Text: "[file " + up.String() + "]"}
	if b, err := up.Marshal(); err == nil {
		l.Files = [][]byte{b}
	}
	m.send(lineMsg{g.JID(), l})
	return "sent " + up.Name, nil
}

// progress tells how far a transfer is, some times a second.
func (m *chat) progress(what string) func(done, total int64) {
	var told time.Time
	return func(done, total int64) {
		if time.Since(told) > 200*time.Millisecond && total > 0 {
			told = time.Now()
			m.send(statusMsg(fmt.Sprintf("%s %d %%", what, 100*done/total)))
		}
	}
}

// save downloads the newest file of the open room.
func (m *chat) save(dir string) tea.Cmd {
	r := m.room()
	for i := len(r.lines) - 1; i >= 0; i-- {
		if len(r.lines[i].Files) == 0 {
			continue
		}
		f, err := client.UnmarshalFile(r.lines[i].Files[0])
		if err != nil {
			m.status = strip(err)
			return nil
		}
		if dir == "" {
			dir = m.opts.Saves
		}
		if dir == "" {
			dir = "."
			if home, err := os.UserHomeDir(); err == nil {
				if fi, err := os.Stat(filepath.Join(home, "Downloads")); err == nil && fi.IsDir() {
					dir = filepath.Join(home, "Downloads")
				}
			}
		}
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			m.status = fmt.Sprintf("there is no folder %s: make it, or name another: /save FOLDER", shown(dir))
			return nil
		}
		return func() tea.Msg {
			path, err := saveFile(m.ctx, m.c, f, dir, m.progress("downloading"))
			if err != nil {
				return statusMsg(strip(err))
			}
			return statusMsg("saved " + path)
		}
	}
	m.status = "there is no file here"
	return nil
}

// aboutLast is about the newest line of oneself or of another.
func (m *chat) aboutLast(g *client.Group, name, arg string, do func(string, func(context.Context) (string, error)) tea.Cmd) tea.Cmd {
	own := name != "react"
	r := m.room()
	for i := len(r.lines) - 1; i >= 0; i-- {
		l := r.lines[i]
		if l.ID == "" || l.Own != own || l.From == "" || l.taken {
			continue
		}
		switch name {
		case "react":
			return do("…", func(ctx context.Context) (string, error) {
				emoji := strings.Fields(arg)
				sent, err := g.React(ctx, &client.Message{ID: l.ID, OriginID: l.Origin}, emoji...)
				if err != nil {
					return "", err
				}
				m.send(lineMsg{g.JID(), &line{ID: sent.ID, Time: sent.Time, From: m.c.Account(), Own: true, ReactsTo: l.ref(), Reactions: emoji}})
				return "reacted to " + clean(l.Text), nil
			})
		case "correct":
			return do("…", func(ctx context.Context) (string, error) {
				sent, err := g.Correct(ctx, l.Origin, arg)
				if err == nil {
					m.send(lineMsg{g.JID(), &line{ID: sent.ID, Origin: sent.OriginID, Time: sent.Time, From: m.c.Account(), Own: true, Corrects: l.Origin, Text: arg}})
				}
				return "corrected", err
			})
		case "retract":
			return do("…", func(ctx context.Context) (string, error) {
				sent, err := g.Retract(ctx, l.Origin)
				if err != nil {
					return "", err
				}
				m.send(lineMsg{g.JID(), &line{ID: sent.ID, Time: sent.Time, From: m.c.Account(), Own: true, Retracts: l.Origin}})
				return "taken back; others may have read it", nil
			})
		}
	}
	m.status = "there is no such line yet"
	return nil
}

func (m *chat) verify(arg string) tea.Cmd {
	if arg == "" {
		m.notice(fmt.Sprintf("this device's key: %s\nas a code to scan: %s", client.FormatFingerprint(m.c.Fingerprint()), m.c.URI()))
		return nil
	}
	var b strings.Builder
	if n, err := m.c.SafetyNumber(arg); err == nil {
		fmt.Fprintf(&b, "safety number, the same on both sides: %s\n", n)
	}
	for _, k := range m.c.Keys(arg) {
		fmt.Fprintf(&b, "%s  %s\n", client.FormatFingerprint(k.Fingerprint), k.Trust)
	}
	if b.Len() == 0 {
		m.status = "no key of " + clean(arg) + " has been seen yet"
		return nil
	}
	m.notice(b.String() + "compare, then /trust " + clean(arg) + " KEY")
	return nil
}
