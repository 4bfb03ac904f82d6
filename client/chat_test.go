// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"testing"

	"github.com/lockstep-im/lockstep/client"
)

// TestChat is the path that everything else hangs on: create, invite, talk.
func TestChat(t *testing.T) {
	w := newWorld(t)
	juliet, romeo := w.join("juliet"), w.join("romeo")
	ctx := ctxShort(t)
	g := must(juliet.CreateGroup(ctx, "Balcony", &client.GroupOptions{Local: "balcony"}))(t)
	if g.JID() != "balcony@"+dsDomain || g.Name() != "Balcony" {
		t.Fatalf("created %s %q", g.JID(), g.Name())
	}
	res := must(g.Invite(ctx, "romeo@"+domain))(t)
	if !res.Added("romeo@" + domain) {
		t.Fatalf("invited: %+v", res)
	}
	rg := romeo.group(g.JID())
	if j := sees[*client.Joined](romeo); j.By.JID != "juliet@"+domain {
		t.Errorf("joined by %+v", j.By)
	}
	sent := must(g.Send(ctx, "wherefore art thou romeo"))(t)
	m := romeo.hears("wherefore art thou romeo")
	if m.ID != sent.ID || m.Seq != sent.Seq || m.Sender.JID != "juliet@"+domain || m.OriginID != sent.OriginID || m.Own {
		t.Errorf("heard %+v, sent %+v", m, sent)
	}
	must(m.Reply(ctx, "call me but love"))(t)
	if r := juliet.hears("call me but love"); r.ReplyTo == nil || r.ReplyTo.ID != sent.OriginID {
		t.Errorf("reply %+v", r.ReplyTo)
	}
	sameEpoch(t, g, rg)
	ok(t, g.Rename(ctx, "Orchard"))
	if e := sees[*client.Renamed](romeo); e.New != "Orchard" {
		t.Errorf("renamed %+v", e)
	}
	sameEpoch(t, g, rg)
	members := must(rg.Members())(t)
	if len(members) != 2 || members[0].Role.String() != "owner" || members[1].JID != "romeo@"+domain || !members[1].Self {
		t.Errorf("members %+v", members)
	}
	ok(t, g.Remove(ctx, "romeo@"+domain))
	if e := sees[*client.Removed](romeo); e.By.JID != "juliet@"+domain {
		t.Errorf("removed by %+v", e.By)
	}
	if _, err := rg.Send(ctx, "still there?"); err == nil {
		t.Error("romeo still sends")
	}
}
