// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/client"
	"github.com/lockstep-im/lockstep/client/store"
)

// backedUp is juliet and romeo in a group, and a copy of juliet's store from before
// she last spoke. Nobody says that it is one: the log does.
func backedUp(t *testing.T) (w *world, juliet, romeo *actor, rg *client.Group, backup *store.Memory) {
	w = newWorld(t)
	st := store.NewMemory("juliet@" + domain)
	juliet, romeo = w.start("juliet", w.config("juliet", st)), w.join("romeo")
	g := must(juliet.CreateGroup(ctxShort(t), "", nil))(t)
	must(g.Invite(ctxShort(t), "romeo@"+domain))(t)
	rg = romeo.group(g.JID())
	must(g.Send(ctxShort(t), "one"))(t)
	backup = st.Snapshot(false)
	must(g.Send(ctxShort(t), "two"))(t)
	return w, juliet, romeo, rg, backup
}

// TestTwoCopiesOfOneDevice has a copy of a device's store come to life while the
// device itself is online.
func TestTwoCopiesOfOneDevice(t *testing.T) {
	w, juliet, romeo, rg, backup := backedUp(t)
	began := rg.Epoch()
	other := w.start("juliet", w.config("juliet", backup))
	sees[*client.RollbackDetected](other)
	sees[*client.Rejoined](other)
	og := other.group(rg.JID())
	sees[*client.Removed](juliet)
	must(og.Send(ctxShort(t), "the copy speaks"))(t)
	romeo.hears("the copy speaks")
	time.Sleep(2 * time.Second)
	if now := rg.Epoch(); now > began+2 {
		t.Errorf("the two take turns in the group: epoch %d became %d", began, now)
	}
}
