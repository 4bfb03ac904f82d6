// SPDX-License-Identifier: Apache-2.0

package component_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component"
	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// TestAdHoc runs the operator's commands.
func TestAdHoc(t *testing.T) {
	var stopped atomic.Bool
	s := start(t, func(c *component.Config) {
		c.Admins = []string{"escalus@verona.lit"}
		c.Shutdown = func() { stopped.Store(true) }
	})
	j, r := pair(t, s)
	op := newActor(t, s, "escalus@verona.lit", "palace")
	do := func(node string, fields ...string) *stanza.Command {
		t.Helper()
		out := &stanza.Command{}
		op.must(op.set(domain, &stanza.Command{Node: node}, out))
		if out.Status == stanza.StatusExecuting {
			form := &stanza.Form{Type: stanza.FormSubmit}
			for i := 0; i < len(fields); i += 2 {
				form.Add(fields[i], fields[i+1])
			}
			id := out.SessionID
			op.must(op.set(domain, &stanza.Command{Node: node, SessionID: id, Action: stanza.ActionComplete, Form: form}, out))
			if out.SessionID != id {
				t.Errorf("%s: the session id changes", node)
			}
		}
		if out.Status != stanza.StatusCompleted {
			t.Errorf("%s: status %q", node, out.Status)
		}
		return out
	}
	var items stanza.DiscoItems
	op.must(op.get(domain, &stanza.DiscoItemsQuery{Node: stanza.NSCommands}, &items))
	if len(items.Items) != 13 {
		t.Errorf("%d commands are listed", len(items.Items))
	}
	var none stanza.DiscoItems
	j.must(j.get(domain, &stanza.DiscoItemsQuery{Node: stanza.NSCommands}, &none))
	if len(none.Items) != 0 {
		t.Error("juliet sees the operator's commands")
	}
	if l := do(stanza.NodeListGroups, "after", ""); len(l.Form.Items) != 1 {
		t.Errorf("groups: %+v", l.Form)
	}
	if g := do(stanza.NodeGroupInfo, "group", balcony); g.Form.Get("devices") != "2" || g.Form.Get("owners") != juliet {
		t.Errorf("the group: %+v", g.Form)
	}
	if d := do(stanza.NodeListDevices, "user", romeo); len(d.Form.Items) != 1 {
		t.Errorf("romeo's devices: %+v", d.Form)
	}
	if st := do(stanza.NodeStats); st.Form.Get("groups") != "1" || st.Form.Get("sessions") != "2" {
		t.Errorf("statistics: %+v", st.Form)
	}
	do(stanza.NodeSetQuota, "user", juliet, "groups", "1")
	if err := j.createAs("second@"+domain, j.newGroup("second@"+domain, 1, policyDefault())); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("beyond the quota: %v", err)
	}
	do(stanza.NodeBanDomain, "domain", "mantua.example", "reason", "spam", "lift", "0")
	m := newActor(t, s, mallory, "x")
	if err := m.get(domain, &stanza.DiscoInfoQuery{}, nil); refusal(err).Condition != stanza.ServiceUnavailable {
		t.Errorf("a banned domain asks: %v", err)
	}
	if err := s.request("x@sub.mantua.example/y", domain, stanza.TypeGet, &stanza.DiscoInfoQuery{}, nil); refusal(err).Condition != stanza.ServiceUnavailable {
		t.Errorf("a subdomain of it asks: %v", err)
	}
	do(stanza.NodeBanDomain, "domain", "mantua.example", "lift", "1")
	m.must(m.get(domain, &stanza.DiscoInfoQuery{}, nil))
	do(stanza.NodeMaintenance, "minutes", "5")
	if _, err := j.sendText(balcony, "x"); refusal(err).Condition != stanza.ResourceConstraint {
		t.Errorf("during maintenance: %v", err)
	}
	do(stanza.NodeMaintenance, "minutes", "0")
	_, err := j.sendText(balcony, "x")
	j.must(err)
	before := j.senderOf()
	do(stanza.NodeRotateExternalSender, "cipher-suite", "1")
	if after := j.senderOf(); bytes.Equal(before.Data, after.Data) {
		t.Error("the key has not changed")
	}
	do(stanza.NodeAnnounce, "announcement", "the watch is here")
	r.box().take(t, "the watch is here", "type='headline'")

	// Purging romeo: the old key still works in the old group.
	do(stanza.NodePurgeUser, "user", romeo)
	j.seq = 1
	j.catchUp(balcony)
	_, err = j.commit(balcony, mls.CommitOptions{})
	j.must(err)
	if j.g.MemberCount() != 1 {
		t.Errorf("%d members after the purge", j.g.MemberCount())
	}
	do(stanza.NodeDestroyGroup, "group", balcony, "reason", "by order")
	j.box().take(t, "<destroyed", "by order")
	do(stanza.NodeShutdown)
	if err := op.set(domain, &stanza.Command{Node: stanza.NodeSetQuota, Form: &stanza.Form{Type: stanza.FormSubmit}}, nil); refusal(err).Condition != stanza.BadRequest {
		t.Errorf("a form without its fields: %v", err)
	}
}

// TestReports keep the bytes that the chain commits the service to.
func TestReports(t *testing.T) {
	s := start(t, func(c *component.Config) { c.KeepSenders, c.Admins = true, []string{nurse} })
	j, r := pair(t, s)
	sent, err := r.sendText(balcony, "buy pills")
	r.must(err)
	rep := &stanza.Report{Kind: stanza.ReportAbuse, Seq: sent.Seq, User: romeo, Reason: stanza.ReasonSpam, Text: "pills",
		Evidence: []stanza.Evidence{{Type: "plaintext", Bytes: []byte("<envelope/>")}}}
	j.must(j.set(balcony, rep, nil))
	var list []store.Report
	if err := s.store.View(context.Background(), func(rd store.Reader) (err error) {
		list, err = rd.Reports(0, 10)
		return err
	}); err != nil || len(list) != 1 {
		t.Fatalf("%d reports, %v", len(list), err)
	}
	ev, err := component.ParseReport(&list[0])
	if err != nil {
		t.Fatal(err)
	}
	if stanza.MessageRef(ev.Entry) != sent.Ref || ev.Chain != sent.Chain.String() || ev.Sender != romeo || list[0].Reporter != juliet {
		t.Errorf("the evidence: %+v of %+v", ev, list[0])
	}
	// The operator has dealt with it.
	op := newActor(t, s, nurse, "x")
	del := func(ids string) error {
		f := &stanza.Form{Type: stanza.FormSubmit, Fields: []stanza.Field{{Var: "ids", Values: []string{ids}}}}
		return op.set(domain, &stanza.Command{Node: "lockstep#delete-report", Action: stanza.ActionComplete, Form: f}, nil)
	}
	if err := del("1 two"); refusal(err).Condition != stanza.NotAcceptable {
		t.Errorf("deleting report two: %v", err)
	}
	op.must(del(fmt.Sprint(list[0].ID, ", 999")))
	if err := s.store.View(context.Background(), func(rd store.Reader) (err error) {
		list, err = rd.Reports(0, 10)
		return err
	}); err != nil || len(list) != 0 {
		t.Errorf("%d reports are left, %v", len(list), err)
	}
}

// TestLogsAreQuiet: no log line holds content, keys or the secret.
func TestLogsAreQuiet(t *testing.T) {
	var buf syncBuffer
	s := start(t, func(c *component.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	j, r := pair(t, s)
	_, err := j.sendText(balcony, "a most private word")
	j.must(err)
	r.event(balcony, "application")
	s.cut()
	_, err = j.sendText(balcony, "another private word")
	j.must(err)
	out := buf.String()
	if !strings.Contains(out, "link to the server is up") {
		t.Errorf("nothing is logged: %s", out)
	}
	for _, secret := range []string{"private word", "s3cret", string(j.g.EpochAuthenticator())} {
		if strings.Contains(out, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// TestMaintenanceEnds by itself when its time is over.
func TestMaintenanceEnds(t *testing.T) {
	var ahead atomic.Int64
	s := start(t, func(c *component.Config) {
		c.Admins = []string{nurse}
		c.Time = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	n, j := newActor(t, s, nurse, "kitchen"), newActor(t, s, juliet, "balcony")
	form := &stanza.Form{Type: stanza.FormSubmit}
	form.Add("minutes", "5")
	n.must(n.set(domain, &stanza.Command{Node: stanza.NodeMaintenance, Form: form}, nil))
	var m *stanza.Maintenance
	if err := j.get(domain, &stanza.CountQuery{}, nil); !errors.As(err, &m) || m.After < 4*time.Minute || m.After > 5*time.Minute {
		t.Errorf("during maintenance: %v", err)
	}
	ahead.Store(int64(6 * time.Minute))
	j.must(j.get(domain, &stanza.CountQuery{}, nil))
}

// TestReportsAreBounded: an account's reports wait for the operator, and there is
// an end of them.
func TestReportsAreBounded(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Limits.Reports = component.Rate{PerSecond: -1} })
	j, r := pair(t, s)
	n := 0
	for ; n < 200; n++ {
		err := j.set(balcony, &stanza.Report{Kind: stanza.ReportAbuse, Seq: 1, Text: "again"}, nil)
		if refusal(err).Condition == stanza.ResourceConstraint {
			break
		}
		j.must(err)
	}
	if n != 100 {
		t.Errorf("%d reports were taken", n)
	}
	r.must(r.set(balcony, &stanza.Report{Kind: stanza.ReportAbuse, Seq: 1, Text: "she spams"}, nil))
}

// TestBannedDomainHearsNothing: a domain that is shut out gets no more events,
// also at the sessions that it has.
func TestBannedDomainHearsNothing(t *testing.T) {
	s := start(t, func(c *component.Config) { c.Admins = []string{nurse} })
	j, r := pair(t, s)
	m := newActor(t, s, "benvolio@sub.montague.lit", "x")
	m.announce()
	op := newActor(t, s, nurse, "kitchen")
	ban := func(lift string) {
		form := &stanza.Form{Type: stanza.FormSubmit}
		form.Add("domain", "montague.lit")
		form.Add("lift", lift)
		op.must(op.set(domain, &stanza.Command{Node: stanza.NodeBanDomain, Form: form}, nil))
	}
	ban("0")
	if n := s.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions, want juliet's alone", n)
	}
	_, err := j.sendText(balcony, "x")
	j.must(err)
	if raw, ok := r.box().tryTake(200*time.Millisecond, "<message", "kind='application'"); ok {
		t.Errorf("an event for a banned domain: %s", raw)
	}
	ban("1")
	r.announce()
	r.seq = 1
	if got := r.catchUp(balcony); len(got) != 1 {
		t.Errorf("romeo has %q", got)
	}
}
