// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

// destroyGroup ends a group: its log is wiped, its name stays taken for a while
// (xep/mls-delivery.xml#destroy).
func (g *group) destroyGroup(r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Destroy](r.payload)
	if err != nil {
		return nil, err
	}
	if in.JID != "" {
		a, err := parseAddr(in.JID)
		if err != nil || a.resource != "" {
			return nil, stanza.NewError(stanza.JIDMalformed, "The address where the group goes on is malformed.")
		}
		in.JID = a.bare
	}
	st, err := g.load(r.ctx)
	if err != nil {
		return nil, err
	}
	if err := needRole(st, r.from.bare, groupdata.Owner); err != nil {
		return nil, err
	}
	return nil, g.destroy(r.ctx, st, in.JID, in.Reason, r)
}

// destroy removes the group and tells everybody. r, if not nil, is answered
// before the others are told.
func (g *group) destroy(ctx context.Context, st *groupState, newJID, reason string, r *request) error {
	reason = bound(reason, destroyReason)
	to := g.recipients(ctx, st)
	err := g.s.store.Update(ctx, func(tx store.Tx) error {
		return tx.DestroyGroup(st.row.Key, store.Tombstone{JID: g.jid, NewJID: newJID, Reason: reason, Until: g.s.now().Add(g.s.limits.TombstoneAge)})
	})
	if err != nil {
		return err
	}
	g.st = nil
	skip := ""
	if r != nil {
		r.respond(nil)
		skip = r.from.full
	}
	head := []byte("<message type='headline' id='" + g.s.entryID() + "' from='" + escapeAttr(g.jid) + "' to='")
	tail := append([]byte("'>"), (&stanza.Destroyed{JID: newJID, Reason: reason}).Append(nil)...)
	tail = append(tail, "</message>"...)
	g.s.deliver(ctx, head, tail, to, escapeAttr(skip), nil)
	g.s.log.Info("group destroyed", "group", g.jid)
	return nil
}
