// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// This file reports to the operator of a delivery service: people who misbehave,
// and a log that is broken (XEP-0377 and its extension in MLS Delivery Service).
// What was said stays encrypted unless the caller hands it over.

// Reasons for an [AbuseReport] (XEP-0377 §3).
const (
	ReasonSpam  = stanza.ReasonSpam
	ReasonAbuse = stanza.ReasonAbuse
)

// reportText is the longest text in bytes that every service takes.
const reportText = 4 << 10

// AbuseReport says who misbehaves in a group.
type AbuseReport struct {
	// User is the account that is reported, a bare JID. Empty: the sender of
	// Message.
	User string
	// Reason is ReasonSpam or ReasonAbuse. Empty: ReasonAbuse.
	Reason string
	// Text is for the operator.
	Text string
	// Message is what was said, nil if the report is of no single message. The
	// operator learns its place in the log, whose bytes the service has and
	// cannot read.
	Message *Message
	// Seq is that place, where there is no Message at hand.
	Seq uint64
	// ShowPlaintext sends what Message says, too. Ask the user: an operator who
	// is to judge needs it, and nobody else should get it. It proves nothing to
	// others, since anybody can type an envelope.
	ShowPlaintext bool
	// Plaintext is sent as it is, where there is no Message at hand.
	Plaintext []byte
}

// ReportAbuse tells the operator of the group's delivery service that somebody
// misbehaves.
func (g *Group) ReportAbuse(ctx context.Context, a AbuseReport) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	req := &stanza.Report{Kind: stanza.ReportAbuse, User: a.User, Reason: a.Reason, Text: a.Text, Seq: a.Seq}
	if req.Reason == "" {
		req.Reason = ReasonAbuse
	}
	if m := a.Message; m != nil {
		if m.Group != g {
			return errors.New("client: the message is of another group")
		}
		req.Seq, req.Epoch = m.Seq, m.Epoch
		if req.User == "" {
			req.User = m.Sender.JID
		}
	}
	plain := a.Plaintext
	if a.ShowPlaintext {
		if a.Message == nil {
			return errors.New("client: there is no message whose text could be shown")
		}
		plain = a.Message.plain
	}
	if len(plain) > 0 {
		req.Evidence = append(req.Evidence, stanza.Evidence{Type: "plaintext", Bytes: plain})
	}
	var err error
	if req.User, err = bareJID(req.User); err != nil {
		return err
	}
	return g.report(ctx, req)
}

// ReportEvidence tells the operator of an alarm: a [*ForkDetected] or
// [*RollbackDetected] of two histories, a [*Misbehaved] of a commit or an entry
// that should have been refused. It sends the event's evidence, which is what the
// service has seen already, and no plaintext. text may be empty.
func (g *Group) ReportEvidence(ctx context.Context, e Event, text string) error {
	if err := g.c.alive(); err != nil {
		return err
	}
	if e.Meta().Group != g.jid {
		return errors.New("client: the event is about another group")
	}
	req := &stanza.Report{Kind: stanza.ReportFork}
	var ev Evidence
	var reason string
	switch v := e.(type) {
	case *ForkDetected:
		ev, reason = v.Evidence, v.Reason
	case *RollbackDetected:
		ev, reason = v.Evidence, v.Reason
	case *Misbehaved:
		ev, reason = v.Evidence, v.Reason
		if isCommit(ev.Message) {
			req.Kind = stanza.ReportInvalidCommit
			if ev.Member != nil {
				req.User = ev.Member.JID // who made it: the service cannot have
			}
		}
	default:
		return fmt.Errorf("client: a %s event has nothing to report", EventName(e))
	}
	req.Seq, req.Epoch, req.Text = ev.Seq, ev.Epoch, reason
	if text != "" {
		req.Text = text + " (" + reason + ")"
	}
	// The statement of a member is shown together with the value that
	// contradicts it.
	for _, value := range []string{ev.Theirs, ev.Ours} {
		if chain, err := groupdata.ParseChain(value); err == nil {
			req.Evidence = append(req.Evidence, stanza.Evidence{Type: "chain", Bytes: groupdata.Position{Seq: ev.Seq, Chain: chain}.AAD()})
		}
	}
	if len(ev.Message) > 0 {
		req.Ref = stanza.MessageRef(ev.Message)
		req.Evidence = append(req.Evidence, stanza.Evidence{Type: "message", Bytes: ev.Message})
	}
	return g.report(ctx, req)
}

// isCommit reports whether an MLSMessage is a commit.
func isCommit(b []byte) bool {
	m, err := mls.ParseMessage(b)
	return err == nil && m.ContentType() == mls.ContentCommit
}

// report sends a report, with as much evidence as fits a stanza. The service has
// the entry itself.
func (g *Group) report(ctx context.Context, req *stanza.Report) error {
	room := int(g.c.limitsOf(ctx, g.host).MaxBytes)*3/4 - 2048
	if len(req.Text) > reportText {
		req.Text = strings.ToValidUTF8(req.Text[:reportText], "")
	}
	kept := req.Evidence[:0]
	for _, e := range req.Evidence {
		if room -= len(e.Bytes); room < 0 {
			break
		}
		kept = append(kept, e)
	}
	req.Evidence = kept
	if err := g.c.ask(ctx, "set", g.jid, req, nil); err != nil {
		return fmt.Errorf("client: reporting to %s: %w", g.host, err)
	}
	return nil
}
