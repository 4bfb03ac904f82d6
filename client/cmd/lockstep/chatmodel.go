// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/textinput"
	"github.com/charmbracelet/bubbles/viewport"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// room is one group, or an invitation to one, in the window.
type room struct {
	jid     string
	name    string
	invited string // by whom; empty for a group of ours
	lines   []*line
	unread  int
	alarm   bool
	typing  map[string]time.Time
	draft   string
}

func (r *room) title() string {
	if r.name != "" {
		return r.name
	}
	local, _, _ := strings.Cut(r.jid, "@")
	return local
}

// chat is the window's state.
type chat struct {
	ctx  context.Context
	c    *client.Client
	h    *history
	opts *chatCmd
	send func(tea.Msg)

	rooms   []*room
	cur     int
	online  bool
	status  string
	members bool // the list of members is shown
	list    []client.MemberInfo
	width   int
	height  int
	input   textinput.Model
	view    viewport.Model
	fatal   error
	typedAt time.Time
}

// Messages to the window.
type (
	messageMsg struct{ m *client.Message }
	eventMsg   struct{ e client.Event }
	fatalMsg   struct{ err error }
	statusMsg  string
	refreshMsg struct{}
	membersMsg struct {
		jid  string
		list []client.MemberInfo
	}
	sentMsg struct {
		jid  string
		l    *line
		sent *client.Sent
		err  error
	}
	openMsg string // a room to go to
)

func newChat(ctx context.Context, c *client.Client, h *history, opts *chatCmd) *chat {
	m := &chat{ctx: ctx, c: c, h: h, opts: opts, send: func(tea.Msg) {}, status: "connecting…", width: 80, height: 24}
	m.input = textinput.New()
	m.input.Placeholder = "say something, or /help"
	m.input.CharLimit = 8000
	m.input.Focus()
	m.view = viewport.New(80, 20)
	m.refresh()
	return m
}

// attach connects the client's handlers with the window. Handlers keep what
// came before they return, so that it is not lost with the window.
func (m *chat) attach(send func(tea.Msg)) {
	m.send = send
	m.c.OnMessage(func(_ context.Context, msg *client.Message) {
		if l := messageLine(msg); l != nil {
			if err := m.h.add(msg.Group.JID(), l); err != nil {
				send(statusMsg(strip(err)))
			}
		}
		send(messageMsg{msg})
	})
	m.c.OnEvent(func(_ context.Context, e client.Event) { send(eventMsg{e}) })
}

// messageLine is a message as a line, nil for what is not shown.
func messageLine(msg *client.Message) *line {
	l := &line{ID: msg.ID, Origin: msg.OriginID, Time: msg.Time, From: msg.Sender.JID, Text: msg.Body, Own: msg.Own, Trust: msg.Sender.Trust.String()}
	switch {
	case msg.Ephemeral:
		return nil
	case msg.Retracts != "":
		l.Text = "(took a message back)"
	case msg.ReactsTo != "":
		l.Text = "(reacts " + strings.Join(msg.Reactions, " ") + ")"
	case msg.Corrects != "":
		l.Text = "(corrects) " + msg.Body
	}
	for i := range msg.Files {
		if b, err := msg.Files[i].Marshal(); err == nil {
			l.Files = append(l.Files, b)
			l.Text = strings.TrimSpace(l.Text + " [file " + msg.Files[i].String() + ", /save]")
		}
	}
	if l.Text == "" {
		return nil
	}
	return l
}

// Init starts the cursor.
func (m *chat) Init() tea.Cmd { return textinput.Blink }

func (m *chat) room() *room {
	if m.cur < 0 || m.cur >= len(m.rooms) {
		return nil
	}
	return m.rooms[m.cur]
}

func (m *chat) find(jid string) *room {
	for _, r := range m.rooms {
		if r.jid == jid {
			return r
		}
	}
	return nil
}

// refresh brings the list of rooms up to date and keeps the place in it.
func (m *chat) refresh() {
	at := ""
	if r := m.room(); r != nil {
		at = r.jid
	}
	var rooms []*room
	for _, g := range m.c.Groups() {
		r := m.find(g.JID())
		if r == nil || r.invited != "" {
			r = &room{jid: g.JID(), typing: map[string]time.Time{}}
			var err error
			if r.lines, err = m.h.load(r.jid); err != nil {
				m.status = strip(err)
			}
		}
		r.name = g.Name()
		rooms = append(rooms, r)
	}
	for _, inv := range m.c.Invitations() {
		r := m.find(inv.Group)
		if r == nil {
			r = &room{jid: inv.Group, unread: 1, typing: map[string]time.Time{}}
			r.lines = []*line{{Time: time.Now(), Text: fmt.Sprintf("%s invites you. /accept or /decline", inv.By)}}
		}
		r.invited = inv.By
		rooms = append(rooms, r)
	}
	slices.SortFunc(rooms, func(a, b *room) int {
		return strings.Compare(strings.ToLower(a.title()+a.jid), strings.ToLower(b.title()+b.jid))
	})
	m.rooms, m.cur = rooms, 0
	for i, r := range rooms {
		if r.jid == at {
			m.cur = i
		}
	}
	m.show()
}

// Update takes one thing that happened.
func (m *chat) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch v := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = v.Width, v.Height
		m.show()
	case tea.KeyMsg:
		return m.key(v)
	case messageMsg:
		return m, m.message(v.m)
	case eventMsg:
		return m, m.event(v.e)
	case sentMsg:
		m.sent(v)
	case noticeMsg:
		m.notice(string(v))
	case lineMsg:
		if r := m.find(v.jid); r != nil {
			r.lines = append(r.lines, v.l)
		}
		if err := m.h.add(v.jid, v.l); err != nil {
			m.status = strip(err)
		}
		m.show()
	case statusMsg:
		m.status = clean(string(v))
	case membersMsg:
		if r := m.room(); r != nil && r.jid == v.jid {
			m.list = v.list
		}
	case openMsg:
		m.refresh()
		for i, r := range m.rooms {
			if r.jid == string(v) {
				m.goTo(i)
			}
		}
		return m, m.loadMembers()
	case refreshMsg:
		m.refresh()
		return m, m.loadMembers()
	case fatalMsg:
		m.fatal = v.err
		return m, tea.Quit
	default:
		var cmd tea.Cmd
		m.input, cmd = m.input.Update(msg)
		return m, cmd
	}
	return m, nil
}

func (m *chat) key(k tea.KeyMsg) (tea.Model, tea.Cmd) {
	switch k.Type {
	case tea.KeyCtrlC, tea.KeyCtrlQ:
		return m, tea.Quit
	case tea.KeyTab, tea.KeyCtrlN, tea.KeyShiftRight:
		if len(m.rooms) > 0 {
			m.goTo((m.cur + 1) % len(m.rooms))
		}
		return m, m.loadMembers()
	case tea.KeyShiftTab, tea.KeyCtrlP, tea.KeyShiftLeft:
		if len(m.rooms) > 0 {
			m.goTo((m.cur + len(m.rooms) - 1) % len(m.rooms))
		}
		return m, m.loadMembers()
	case tea.KeyPgUp:
		m.view.HalfPageUp()
		return m, nil
	case tea.KeyPgDown:
		m.view.HalfPageDown()
		return m, nil
	case tea.KeyF2, tea.KeyCtrlT:
		m.members = !m.members
		m.show()
		return m, m.loadMembers()
	case tea.KeyEnter:
		text := strings.TrimSpace(m.input.Value())
		m.input.SetValue("")
		if text == "" {
			return m, nil
		}
		if strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//") {
			return m, m.command(text[1:])
		}
		return m, m.say(strings.TrimPrefix(text, "/"))
	}
	var cmd tea.Cmd
	m.input, cmd = m.input.Update(k)
	return m, tea.Batch(cmd, m.tellTyping())
}

// goTo opens a room and keeps what was being written in the other.
func (m *chat) goTo(i int) {
	if r := m.room(); r != nil {
		r.draft = m.input.Value()
	}
	m.cur = i
	if r := m.room(); r != nil {
		r.unread, r.alarm = 0, false
		m.input.SetValue(r.draft)
		m.input.CursorEnd()
	}
	m.list = nil
	m.show()
}

func (m *chat) group() (*client.Group, error) {
	r := m.room()
	if r == nil {
		return nil, errors.New("no group yet: /create NAME makes one")
	}
	g, ok := m.c.Group(r.jid)
	if !ok {
		if r.invited != "" {
			return nil, errors.New("this is an invitation: /accept or /decline")
		}
		return nil, client.ErrNotMember
	}
	return g, nil
}

// say sends text; the line stands there at once, and says when it is accepted.
func (m *chat) say(text string) tea.Cmd {
	g, err := m.group()
	if err != nil {
		m.status = strip(err)
		return nil
	}
	l := &line{Time: time.Now(), From: m.c.Account(), Text: text, Own: true, state: "…"}
	r := m.room()
	r.lines = append(r.lines, l)
	m.show()
	m.view.GotoBottom()
	return func() tea.Msg {
		sent, err := g.Send(m.ctx, text)
		return sentMsg{g.JID(), l, sent, err}
	}
}

func (m *chat) sent(v sentMsg) {
	switch {
	case v.err == nil:
		v.l.state, v.l.ID, v.l.Origin, v.l.Time = "", v.sent.ID, v.sent.OriginID, v.sent.Time
		if err := m.h.add(v.jid, v.l); err != nil {
			m.status = strip(err)
		}
	default:
		v.l.state = "✗"
		m.status = clean(strip(v.err))
	}
	m.show()
}

func (m *chat) tellTyping() tea.Cmd {
	if !m.opts.Typing || time.Since(m.typedAt) < 8*time.Second || m.input.Value() == "" {
		return nil
	}
	g, err := m.group()
	if err != nil {
		return nil
	}
	m.typedAt = time.Now()
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(m.ctx, 5*time.Second)
		defer cancel()
		g.SetChatState(ctx, "composing")
		return nil
	}
}

func (m *chat) message(msg *client.Message) tea.Cmd {
	r := m.find(msg.Group.JID())
	if r == nil {
		m.refresh()
		if r = m.find(msg.Group.JID()); r == nil {
			return nil
		}
	}
	if msg.Ephemeral {
		switch msg.ChatState {
		case "composing":
			r.typing[msg.Sender.JID] = time.Now()
		case "active", "paused", "inactive", "gone":
			delete(r.typing, msg.Sender.JID)
		}
		return nil
	}
	delete(r.typing, msg.Sender.JID)
	l := messageLine(msg)
	if l == nil || slices.ContainsFunc(r.lines, func(o *line) bool { return o.ID == l.ID && l.ID != "" }) {
		return nil
	}
	bottom := m.view.AtBottom()
	r.lines = append(r.lines, l)
	if r != m.room() {
		r.unread++
	} else if m.opts.Receipts && msg.Body != "" && !msg.Own {
		g := msg.Group
		defer func() {
			go func() {
				ctx, cancel := context.WithTimeout(m.ctx, 20*time.Second)
				defer cancel()
				g.MarkDisplayed(ctx, msg)
			}()
		}()
	}
	m.show()
	if bottom {
		m.view.GotoBottom()
	}
	return nil
}

func (m *chat) event(e client.Event) tea.Cmd {
	switch v := e.(type) {
	case *client.Online:
		m.online, m.status = true, "online"
	case *client.Offline:
		m.online = false
		m.status = clean(fmt.Sprintf("offline, trying again in %v: %v", v.Retry.Round(time.Second), v.Err))
	case *client.Progress:
		m.status = eventLine(e)
		return nil
	}
	jid := e.Meta().Group
	m.refresh()
	if r := m.find(jid); r != nil && jid != "" {
		l := &line{Time: e.Meta().Time, Text: eventLine(e), Alarm: alarm(e)}
		r.lines = append(r.lines, l)
		if err := m.h.add(jid, l); err != nil {
			m.status = strip(err)
		}
		if r != m.room() {
			r.alarm = r.alarm || l.Alarm
		}
	} else if jid != "" {
		m.status = jid + ": " + eventLine(e)
	}
	m.show()
	return m.loadMembers()
}

func (m *chat) loadMembers() tea.Cmd {
	g, err := m.group()
	if err != nil || !m.members {
		return nil
	}
	return func() tea.Msg {
		list, err := g.Members()
		if err != nil {
			return statusMsg(strip(err))
		}
		return membersMsg{g.JID(), list}
	}
}

const chatHelp = `/create NAME          make a group            /invite JID…        add people
/accept, /decline     answer an invitation    /remove JID…        remove people
/members (F2)         who is here             /role JID ROLE      owner, admin, member, visitor, outcast
/verify               your own code           /verify JID         compare keys
/trust JID KEY        you have compared it    /code               the epoch's code
/file PATH            send a file             /save [FOLDER]      save the last file
/correct TEXT         correct your last line  /retract            take it back
/react EMOJI          to the last line        /rename NAME        the group
/rekey                new keys now            /leave              the group
/doctor               what is wrong           /clear              forget what was said here
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
		if l.ID == "" || l.Own != own || l.From == "" {
			continue
		}
		switch name {
		case "react":
			return do("…", func(ctx context.Context) (string, error) {
				_, err := g.React(ctx, &client.Message{ID: l.ID, OriginID: l.Origin}, strings.Fields(arg)...)
				return "reacted to " + clean(l.Text), err
			})
		case "correct":
			return do("…", func(ctx context.Context) (string, error) {
				sent, err := g.Correct(ctx, l.Origin, arg)
				if err == nil {
					m.send(lineMsg{g.JID(), &line{ID: sent.ID, Origin: sent.OriginID, Time: sent.Time, From: m.c.Account(), Own: true, Text: "(corrects) " + arg}})
				}
				return "corrected", err
			})
		case "retract":
			return do("…", func(ctx context.Context) (string, error) {
				_, err := g.Retract(ctx, l.Origin)
				return "taken back; others may have read it", err
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

type noticeMsg string

type lineMsg struct {
	jid string
	l   *line
}

// notice shows something that is not kept.
func (m *chat) notice(text string) {
	if m.room() == nil {
		m.rooms = []*room{{jid: "", name: "lockstep", typing: map[string]time.Time{}}}
		m.cur = 0
	}
	r := m.room()
	for part := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		r.lines = append(r.lines, &line{Time: time.Now(), Text: part})
	}
	m.show()
	m.view.GotoBottom()
}
