// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/lockstep-im/lockstep/client"
)

// This file draws the window:
//
//	┌ rooms ─┬ conversation ─────────────┬ members ┐
//	│ Ops  3 │ 09:15 romeo  call me love │ romeo ✓ │
//	├────────┴───────────────────────────┴─────────┤
//	│ > what is written                            │
//	│ status                                       │
//
// Where there is no room for all of it beside each other, the open room has the
// window, or, if they are asked for, the members.

var (
	styleRoom    = lipgloss.NewStyle()
	styleOpen    = lipgloss.NewStyle().Reverse(true)
	styleUnread  = lipgloss.NewStyle().Bold(true)
	styleAlarm   = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Color("9"))
	styleFaint   = lipgloss.NewStyle().Faint(true)
	styleOwn     = lipgloss.NewStyle().Foreground(lipgloss.Color("6"))
	styleOther   = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	styleOnline  = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	styleOffline = lipgloss.NewStyle().Foreground(lipgloss.Color("3"))
)

const (
	roomsWidth   = 20
	membersWidth = 30
	footer       = 3
	// leastBody is how narrow the conversation may become before the rooms go, or
	// the members take its place.
	leastBody = 30
)

// columns says whether there is room for the list of rooms, and for how wide a
// conversation.
func (m *chat) columns() (rooms bool, body int) {
	body = m.width
	if m.members {
		body -= membersWidth + 2
	}
	switch {
	case body-roomsWidth-1 >= leastBody:
		return true, body - roomsWidth - 1
	case body < leastBody && m.members:
		return false, 0
	}
	return false, body
}

func (m *chat) bodyWidth() int {
	_, w := m.columns()
	return w
}

// show renders the open room into the scrolled part.
func (m *chat) show() {
	bottom := m.view.AtBottom()
	m.view.Width, m.view.Height = m.bodyWidth(), max(m.height-footer, 3)
	m.input.Width = max(m.width-4, 10)
	var b strings.Builder
	if r := m.room(); r != nil {
		day := ""
		for _, l := range r.lines {
			if d := l.Time.Local().Format("Monday, 2 January 2006"); d != day {
				day = d
				b.WriteString(styleFaint.Render("── "+d+" ──") + "\n")
			}
			b.WriteString(m.line(l) + "\n")
		}
	}
	m.view.SetContent(b.String())
	if bottom {
		m.view.GotoBottom()
	}
}

func (m *chat) line(l *line) string {
	at := styleFaint.Render(l.Time.Local().Format("15:04"))
	wrap := lipgloss.NewStyle().Width(max(m.bodyWidth()-1, 10))
	if l.From == "" {
		text := "* " + shown(l.Text)
		if l.Alarm {
			return wrap.Render(at + " " + styleAlarm.Render("! "+shown(l.Text)))
		}
		return wrap.Render(at + " " + styleFaint.Render(text))
	}
	name, _, _ := strings.Cut(l.From, "@")
	style := styleOther
	if l.Own {
		style = styleOwn
	}
	mark := ""
	switch l.Trust {
	case "verified":
		mark = "✓"
	case "undecided", "distrusted":
		mark = styleAlarm.Render("?")
	}
	state := ""
	switch {
	case l.taken:
	case l.edited:
		state = " (edited)"
	case l.Corrects != "":
		state = " (a correction)"
	}
	for _, r := range l.reactions {
		who, _, _ := strings.Cut(r.from, "@")
		state += "  " + shown(strings.Join(r.symbols, " ")) + " " + shown(who)
	}
	if l.State != "" {
		state += " " + l.State
	}
	return wrap.Render(fmt.Sprintf("%s %s%s %s%s", at, style.Render(shown(name)), mark, shown(l.Text), styleFaint.Render(state)))
}

// View draws everything.
func (m *chat) View() string {
	height := max(m.height-footer, 3)
	rooms, width := m.columns()
	var columns []string
	if rooms {
		columns = append(columns, m.viewRooms(height))
	}
	if width > 0 {
		columns = append(columns, m.view.View())
	}
	if m.members {
		columns = append(columns, m.viewMembers(height))
	}
	body := lipgloss.JoinHorizontal(lipgloss.Top, columns...)
	state := styleOffline.Render("○")
	if m.online {
		state = styleOnline.Render("●")
	}
	status := state + " " + m.status
	if r := m.room(); r != nil {
		if !rooms {
			status = state + " " + m.place() + styleFaint.Render("   "+m.status)
		}
		var typing []string
		for who, at := range r.typing {
			if time.Since(at) < 20*time.Second {
				name, _, _ := strings.Cut(who, "@")
				typing = append(typing, name)
			}
		}
		if slices.Sort(typing); typing != nil {
			status += styleFaint.Render("   " + clean(strings.Join(typing, ", ")) + " typing…")
		}
		if seen := r.seenBy(); seen != nil {
			status += styleFaint.Render("   seen by " + clean(strings.Join(seen, ", ")))
		}
	}
	return body + "\n" + styleFaint.Render(strings.Repeat("─", max(m.width, 1))) + "\n" + m.input.View() + "\n" + lipgloss.NewStyle().MaxWidth(max(m.width, 10)).Render(status)
}

// place is the open room in one line, and what waits in the others.
func (m *chat) place() string {
	unread := 0
	for i, r := range m.rooms {
		if i != m.cur {
			unread += r.unread
		}
	}
	text := styleUnread.Render(shown(m.room().title())) + fmt.Sprintf(" %d/%d", m.cur+1, len(m.rooms))
	if unread > 0 {
		text += fmt.Sprintf(", %d unread elsewhere", unread)
	}
	return text
}

func (m *chat) viewRooms(height int) string {
	var lines []string
	for i, r := range m.rooms {
		text := shown(r.title())
		if r.invited != "" {
			text = "✉ " + text
		}
		count := ""
		if r.unread > 0 {
			count = fmt.Sprintf(" %d", r.unread)
		}
		text = lipgloss.NewStyle().MaxWidth(roomsWidth-2-len(count)).Render(text) + count
		style := styleRoom
		switch {
		case i == m.cur:
			style = styleOpen
		case r.alarm:
			style = styleAlarm
		case r.unread > 0:
			style = styleUnread
		}
		lines = append(lines, style.Width(roomsWidth-1).Render(text))
	}
	if len(lines) == 0 {
		lines = append(lines, styleFaint.Render("no groups"), styleFaint.Render("/create NAME"))
	}
	// The open one stays in sight.
	if len(lines) > height {
		from := min(max(m.cur-height/2, 0), len(lines)-height)
		lines = lines[from : from+height]
	}
	return lipgloss.NewStyle().Width(roomsWidth).Height(height).BorderRight(true).BorderStyle(lipgloss.NormalBorder()).Render(strings.Join(lines, "\n"))
}

func (m *chat) viewMembers(height int) string {
	var lines []string
	// One line for each account; the worst device decides its mark.
	type account struct {
		jid, role string
		devices   int
		worst     client.Trust
	}
	var list []*account
	for _, w := range m.list {
		i := slices.IndexFunc(list, func(a *account) bool { return a.jid == w.JID })
		if i < 0 {
			list = append(list, &account{jid: w.JID, role: w.Role.String(), worst: client.Verified})
			i = len(list) - 1
		}
		list[i].devices++
		list[i].worst = min(list[i].worst, w.Trust)
	}
	slices.SortFunc(list, func(a, b *account) int { return strings.Compare(a.jid, b.jid) })
	lines = append(lines, styleUnread.Render(fmt.Sprintf("%d members", len(list))))
	for _, a := range list {
		mark := " "
		switch a.worst {
		case client.Verified:
			mark = styleOnline.Render("✓")
		case client.Undecided, client.Distrusted:
			mark = styleAlarm.Render("✗")
		}
		more := ""
		if a.devices > 1 {
			more = fmt.Sprintf(" ×%d", a.devices)
		}
		if a.role != "member" {
			more += " " + a.role
		}
		lines = append(lines, mark+" "+lipgloss.NewStyle().MaxWidth(membersWidth-4).Render(shown(a.jid)+styleFaint.Render(more)))
	}
	lines = append(lines, "", styleFaint.Render("✓ verified   ✗ not trusted"))
	if len(lines) > height {
		lines = lines[:height]
	}
	return lipgloss.NewStyle().Width(membersWidth).Height(height).BorderLeft(true).BorderStyle(lipgloss.NormalBorder()).PaddingLeft(1).Render(strings.Join(lines, "\n"))
}
