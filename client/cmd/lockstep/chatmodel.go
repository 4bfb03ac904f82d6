// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/textinput"
	"github.com/charmbracelet/bubbles/viewport"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/lockstep-im/lockstep/client"
)

// room is one group, or an invitation to one, in the window.
type room struct {
	jid     string
	name    string
	invited string // by whom; empty for a group of ours
	lines   []*line
	unread  int
	read    time.Time // up to when, as the history knows
	alarm   bool
	typing  map[string]time.Time
	seen    map[string]string // by whom, up to which line
	draft   string
}

func newRoom(jid string) *room {
	return &room{jid: jid, typing: make(map[string]time.Time), seen: make(map[string]string)}
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
	out  chan outgoing

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

// outgoing is a line on its way out.
type outgoing struct {
	g *client.Group
	l *line
}

// maxOutgoing is how many lines may wait for a group that is not caught up.
const maxOutgoing = 256

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
	// A line is in the outbox, under a name.
	postedMsg struct {
		jid    string
		l      *line
		origin string
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
	m := &chat{ctx: ctx, c: c, h: h, opts: opts, send: func(tea.Msg) {}, out: make(chan outgoing, maxOutgoing), status: "connecting…", width: 80, height: 24}
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
	go m.bringOut()
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
			r = newRoom(g.JID())
			kept, err := m.h.load(r.jid)
			if err == nil {
				r.read, err = m.h.readUntil(r.jid)
			}
			if err != nil {
				m.status = strip(err)
			}
			for _, l := range kept {
				if r.take(l) && l.theirs() && l.Time.After(r.read) {
					r.unread++
				}
			}
		}
		r.name = g.Name()
		rooms = append(rooms, r)
	}
	for _, inv := range m.c.Invitations() {
		r := m.find(inv.Group)
		if r == nil {
			r = newRoom(inv.Group)
			r.unread = 1
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
	if r := m.room(); r != nil {
		r.unread = 0
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
	case postedMsg:
		m.posted(v)
	case sentMsg:
		m.sent(v)
	case noticeMsg:
		m.notice(string(v))
	case lineMsg:
		if err := m.h.add(v.jid, v.l); err != nil {
			m.status = strip(err)
		}
		if r := m.find(v.jid); r != nil {
			r.take(v.l)
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
		m.say(strings.TrimPrefix(text, "/"))
		return m, nil
	}
	var cmd tea.Cmd
	m.input, cmd = m.input.Update(k)
	return m, tea.Batch(cmd, m.tellTyping())
}

// noteRead keeps up to when the open room has been read, for the next start. That is
// done when a room is left and not for each line: a crash makes more seem unread
// than is.
func (m *chat) noteRead() {
	r := m.room()
	if r == nil || r.invited != "" {
		return
	}
	at := r.read
	for _, l := range r.lines {
		if l.theirs() && l.Time.After(at) {
			at = l.Time
		}
	}
	if at.Equal(r.read) {
		return
	}
	if err := m.h.setRead(r.jid, at); err != nil {
		m.status = strip(err)
		return
	}
	r.read = at
}

// goTo opens a room and keeps what was being written in the other.
func (m *chat) goTo(i int) {
	m.noteRead()
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
func (m *chat) say(text string) {
	g, err := m.group()
	if err != nil {
		m.status = strip(err)
		return
	}
	l := &line{Time: time.Now(), From: m.c.Account(), Text: text, Own: true, State: stateWaits}
	select {
	case m.out <- outgoing{g, l}:
	default:
		m.status = "too many lines wait to be sent: try again later"
		m.input.SetValue(text)
		return
	}
	m.room().take(l)
	m.show()
	m.view.GotoBottom()
}

// bringOut posts what was said, one line after the other, beside the window.
func (m *chat) bringOut() {
	for {
		var o outgoing
		select {
		case o = <-m.out:
		case <-m.ctx.Done():
			return
		}
		jid := o.g.JID()
		p, err := o.g.Post(m.ctx, o.l.Text)
		if err != nil {
			m.send(sentMsg{jid, o.l, nil, err})
			continue
		}
		m.send(postedMsg{jid, o.l, p.OriginID()})
		go func() {
			sent, err := p.Wait(m.ctx)
			m.send(sentMsg{jid, o.l, sent, err})
		}()
	}
}

// posted keeps a line that will be sent, whatever happens to this program.
func (m *chat) posted(v postedMsg) {
	v.l.Origin = v.origin
	if err := m.h.add(v.jid, v.l); err != nil {
		m.status = strip(err)
	}
}

func (m *chat) sent(v sentMsg) {
	var queued *client.QueuedError
	switch {
	case v.err == nil:
		v.l.State, v.l.ID, v.l.Origin, v.l.Time = "", v.sent.ID, v.sent.OriginID, v.sent.Time
	case errors.As(v.err, &queued):
		return
	default:
		v.l.State = stateRefused
		m.status = clean(strip(v.err))
	}
	if err := m.h.add(v.jid, v.l); err != nil {
		m.status = strip(err)
	}
	m.show()
}

// settled tells what became of a line that an earlier run of the program left.
func (m *chat) settled(jid, origin, state string) {
	r := m.find(jid)
	if r == nil {
		return
	}
	for _, l := range r.lines {
		if l.Own && l.Origin == origin && origin != "" && l.State == stateWaits {
			l.State = state
			if err := m.h.add(jid, l); err != nil {
				m.status = strip(err)
			}
		}
	}
	m.show()
}

func (m *chat) tellTyping() tea.Cmd {
	if !m.opts.Typing || time.Since(m.typedAt) < 8*time.Second || m.input.Value() == "" || strings.HasPrefix(m.input.Value(), "/") {
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
	if msg.Displayed != "" && !msg.Own {
		r.seen[msg.Sender.JID] = msg.Displayed
		return nil
	}
	l := messageLine(msg)
	if l == nil || slices.ContainsFunc(r.lines, func(o *line) bool { return o.ID == l.ID && l.ID != "" }) {
		return nil
	}
	bottom := m.view.AtBottom()
	shown := r.take(l)
	if r != m.room() {
		if shown {
			r.unread++
		}
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
	case *client.Invited:
		m.refresh() // its room says so
		return nil
	case *client.Progress:
		m.status = eventLine(e)
		return nil
	case *client.SentLater:
		m.settled(v.Group, v.OriginID, "")
		return nil
	case *client.SendFailed:
		m.settled(v.Group, v.OriginID, stateRefused)
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

type noticeMsg string

type lineMsg struct {
	jid string
	l   *line
}

// notice shows something that is not kept.
func (m *chat) notice(text string) {
	if m.room() == nil {
		r := newRoom("")
		r.name = "lockstep"
		m.rooms, m.cur = []*room{r}, 0
	}
	r := m.room()
	for part := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		r.lines = append(r.lines, &line{Time: time.Now(), Text: part})
	}
	m.show()
	m.view.GotoBottom()
}
