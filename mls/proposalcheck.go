// SPDX-License-Identifier: Apache-2.0

// Proposals one by one (RFC 9420 §12.1).

package mls

import (
	"bytes"
	"maps"
	"slices"
)

// validateProposal checks a proposal by itself (RFC 9420 §12.1).
func (st *publicState) validateProposal(p Proposal, sender Sender, f WireFormat, use pskUse) error {
	switch v := p.(type) {
	case *Add:
		return st.cfg.validateKeyPackage(st.s, v.KeyPackage, received)
	case *Update:
		return st.validateUpdate(v, sender)
	case *Remove:
		if st.tree.leaf(v.Removed) == nil {
			return invalid(RuleRemoveBlank, "Remove names leaf %d, which is no member", v.Removed)
		}
	case *PreSharedKey:
		return st.validatePSKID(&v.ID, use)
	case *ReInit:
		if v.Version < st.ctx.Version {
			return invalid(RuleReInitVersion, "ReInit lowers the version to %d", v.Version)
		}
		return st.cfg.checkExtensions(v.Extensions, "ReInit")
	case *GroupContextExtensions:
		return st.validateContextChange(v.Extensions)
	case *SelfRemove:
		// Only a member can have sent it: see senderKey.
		if f != WireFormatPublicMessage {
			return invalid(RuleSelfRemovePrivate, "a SelfRemove was sent as a %v", f)
		}
	case *AppEphemeral:
		if err := st.cfg.appData.CheckEphemeral(v.Component, v.Data); err != nil {
			return broken(RuleAppDataRefused, err, "AppEphemeral of component %d", v.Component)
		}
	}
	return nil
}

func (st *publicState) validateUpdate(u *Update, sender Sender) error {
	at, ok := sender.Leaf()
	if !ok {
		return invalid(RuleUpdateSender, "an Update was sent by %v", sender)
	}
	old := st.tree.leaf(at)
	switch {
	case old == nil:
		return invalid(RuleSenderBlank, "an Update was sent by leaf %d, which is no member", at)
	case u.LeafNode.Source != LeafNodeUpdate:
		return invalid(RuleLeafSourceUpdate, "the leaf node of an Update has leaf_node_source %v", u.LeafNode.Source)
	case bytes.Equal(old.EncryptionKey, u.LeafNode.EncryptionKey):
		return invalid(RuleLeafSourceUpdate, "the leaf node of an Update has the old encryption_key")
	}
	if err := st.cfg.validateLeaf(st.s, u.LeafNode, leafPlace{st.ctx.GroupID, at, received}); err != nil {
		return err
	}
	if err := st.cfg.auth.ValidateSuccessor(old, u.LeafNode); err != nil {
		return broken(RuleLeafSuccessor, err, "Update of member %d", at)
	}
	return nil
}

func (st *publicState) validatePSKID(id *PreSharedKeyID, use pskUse) error {
	if len(id.Nonce) != st.s.nh {
		return invalid(RulePSKNonce, "psk_nonce has %d octets, want %d", len(id.Nonce), st.s.nh)
	}
	if id.Type != PSKResumption {
		return nil
	}
	switch {
	case id.Usage == ResumptionReInit && use != pskUseReInit:
		return invalid(RulePSKReInit, "a PreSharedKey proposal has usage reinit")
	case id.Usage == ResumptionBranch && use != pskUseBranch:
		return invalid(RulePSKBranch, "a PreSharedKey proposal has usage branch")
	}
	return nil
}

// validateContextChange checks a GroupContextExtensions by itself.
func (st *publicState) validateContextChange(x Extensions) error {
	if err := st.cfg.validateContextExtensions(st.s, x); err != nil {
		return err
	}
	if st.required != nil && slices.Contains(st.required.Proposals, ProposalAppDataUpdate) {
		old, hadOld := st.ctx.Extensions.Find(ExtensionAppDataDictionary)
		new, hasNew := x.Find(ExtensionAppDataDictionary)
		if hadOld != hasNew || !bytes.Equal(old, new) {
			return invalid(RuleAppDataContext, "GroupContextExtensions changes the app_data_dictionary, which AppDataUpdate alone may")
		}
	}
	return nil
}

// updateAppData applies AppEphemeral and AppDataUpdate proposals to the
// extensions (draft-ietf-mls-extensions, Updating Application Data in the
// GroupContext).
func (c *config) updateAppData(x Extensions, list []*AppDataUpdate) (Extensions, error) {
	if len(list) == 0 {
		return x, nil
	}
	d, err := x.AppData()
	if err != nil {
		return nil, broken(RuleAppDataFormat, err, "GroupContext")
	}
	updates := make(map[ComponentID][][]byte)
	removed := make(map[ComponentID]bool)
	for _, p := range list {
		_, updating := updates[p.Component]
		if removed[p.Component] || updating && p.Op == AppDataRemoveOp {
			return nil, invalid(RuleAppDataMixed, "component %d is removed and removed or updated again in one commit", p.Component)
		}
		if p.Op == AppDataRemoveOp {
			removed[p.Component] = true
			if _, ok := d.Find(p.Component); !ok {
				return nil, invalid(RuleAppDataMissing, "component %d is removed and has no data", p.Component)
			}
			continue
		}
		updates[p.Component] = append(updates[p.Component], p.Update)
	}
	// In one piece: a list may update thousands of components.
	next := make(AppData, 0, len(d)+len(updates))
	for _, c := range d {
		if _, updating := updates[c.ID]; !updating && !removed[c.ID] {
			next = append(next, c)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(updates)) {
		old, _ := d.Find(id)
		data, err := c.appData.UpdateAppData(id, old, updates[id])
		if err != nil {
			return nil, broken(RuleAppDataRefused, err, "AppDataUpdate of component %d", id)
		}
		next = append(next, ComponentData{id, bytes.Clone(data)})
	}
	slices.SortFunc(next, func(a, b ComponentData) int { return compareComponent(a, b.ID) })
	return x.With(ExtensionAppDataDictionary, next.Extension().Data), nil
}
