// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file holds the lines of a conversation, and how later ones change earlier
// ones: all are kept as they came, and put together when they are shown.

// States of an own line.
const (
	stateWaits   = "…" // in the outbox
	stateRefused = "✗"
)

// line is one line of a conversation.
type line struct {
	ID     string    `json:"id,omitempty"`
	Origin string    `json:"origin,omitempty"`
	Time   time.Time `json:"time"`
	From   string    `json:"from,omitempty"` // empty: a notice of the program
	Text   string    `json:"text"`
	Own    bool      `json:"own,omitempty"`
	Alarm  bool      `json:"alarm,omitempty"`
	Trust  string    `json:"trust,omitempty"`
	Files  [][]byte  `json:"files,omitempty"` // with their keys
	State  string    `json:"state,omitempty"` // of an own line

	// What it does to another line: that of the same sender with this Origin is
	// corrected or taken back; the one with this Origin or ID gets all of the
	// sender's reactions.
	Corrects  string   `json:"corrects,omitempty"`
	Retracts  string   `json:"retracts,omitempty"`
	ReactsTo  string   `json:"reacts-to,omitempty"`
	Reactions []string `json:"reactions,omitempty"`
	// Moderator: the sender was an admin or owner, who may take back any line.
	Moderator bool `json:"moderator,omitempty"`

	row       string
	edited    bool
	taken     bool
	reactions []reaction
}

// reaction is all that one account has to say by symbols.
type reaction struct {
	from    string
	symbols []string
}

// theirs reports whether somebody else wrote the line: no notice, and nothing of ours.
func (l *line) theirs() bool { return l.From != "" && !l.Own }

// ref is the name by which others refer to a line.
func (l *line) ref() string {
	if l.Origin != "" {
		return l.Origin
	}
	return l.ID
}

// messageLine is a message as a line, nil for what is not shown.
func messageLine(msg *client.Message) *line {
	if msg.Ephemeral {
		return nil
	}
	l := &line{
		ID: msg.ID, Origin: msg.OriginID, Time: msg.Time, From: msg.Sender.JID, Text: msg.Body, Own: msg.Own, Trust: msg.Sender.Trust.String(),
		Corrects: msg.Corrects, Retracts: msg.Retracts, ReactsTo: msg.ReactsTo, Reactions: msg.Reactions,
	}
	if l.Retracts != "" && msg.Group != nil {
		role, err := msg.Group.Role(msg.Sender.JID)
		l.Moderator = err == nil && (role == groupdata.Owner || role == groupdata.Admin)
	}
	for i := range msg.Files {
		if b, err := msg.Files[i].Marshal(); err == nil {
			l.Files = append(l.Files, b)
			l.Text = strings.TrimSpace(l.Text + " [file " + msg.Files[i].String() + ", /save]")
		}
	}
	if l.Text == "" && l.Retracts == "" && l.ReactsTo == "" {
		return nil
	}
	return l
}

// take adds a line, or has it change the one that it is about. It reports whether
// there is a new line to read.
func (r *room) take(l *line) bool {
	target := func(name string, fits func(o *line) bool) *line {
		for _, o := range slices.Backward(r.lines) {
			if name != "" && (o.Origin == name || o.ID == name) && o.From != "" && fits(o) {
				return o
			}
		}
		return nil
	}
	own := func(o *line) bool { return o.From == l.From && o.Origin != "" }
	switch {
	case l.Retracts != "":
		if o := target(l.Retracts, func(o *line) bool { return own(o) || l.Moderator }); o != nil {
			o.Text, o.Files, o.taken, o.reactions = "(taken back)", nil, true, nil
			return false
		}
		l.Text = "(took a message back)"
	case l.Corrects != "":
		if o := target(l.Corrects, own); o != nil && !o.taken {
			o.Text, o.Files, o.edited = l.Text, l.Files, true
			return false
		}
	case l.ReactsTo != "":
		if o := target(l.ReactsTo, func(*line) bool { return true }); o != nil {
			o.reactions = slices.DeleteFunc(o.reactions, func(x reaction) bool { return x.from == l.From })
			if len(l.Reactions) > 0 && !o.taken {
				o.reactions = append(o.reactions, reaction{l.From, l.Reactions})
			}
			return false
		}
		l.Text = "(reacts " + strings.Join(l.Reactions, " ") + ")"
	}
	r.lines = append(r.lines, l)
	return true
}

// seenBy lists who has seen the last own line.
func (r *room) seenBy() []string {
	at := make(map[string]int) // line -> position
	last := -1
	for i, l := range r.lines {
		if l.ref() != "" {
			at[l.ref()] = i
		}
		if l.Own && l.State == "" {
			last = i
		}
	}
	var out []string
	for who, name := range r.seen {
		if i, ok := at[name]; ok && last >= 0 && i >= last {
			local, _, _ := strings.Cut(who, "@")
			out = append(out, local)
		}
	}
	slices.Sort(out)
	return out
}
