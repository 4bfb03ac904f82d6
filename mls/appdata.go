// SPDX-License-Identifier: Apache-2.0

// Application data (draft-ietf-mls-extensions): the app_data_dictionary
// extension, the components that negotiate it, and safe AAD.

package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// A ComponentID names an application component (draft-ietf-mls-extensions,
// Component IDs). 0x8000 to 0xffff are for private use.
type ComponentID uint16

// The components that the draft defines.
const (
	ComponentAppComponents        ComponentID = 0x0001
	ComponentSafeAAD              ComponentID = 0x0002
	ComponentContentMediaTypes    ComponentID = 0x0003
	ComponentLastResortKeyPackage ComponentID = 0x0004
	ComponentAppAck               ComponentID = 0x0005
)

// ComponentData is one entry of a dictionary.
type ComponentData struct {
	ID   ComponentID
	Data []byte
}

// AppData is the content of an app_data_dictionary extension: at most one entry
// per component, sorted by component.
type AppData []ComponentData

var errUnsorted = errors.New("mls: component list is not strictly ascending")

// Find returns the data of a component.
func (d AppData) Find(id ComponentID) ([]byte, bool) {
	i, ok := slices.BinarySearchFunc(d, id, compareComponent)
	if !ok {
		return nil, false
	}
	return d[i].Data, true
}

// With returns a copy in which the component has the given data.
func (d AppData) With(id ComponentID, data []byte) AppData {
	i, ok := slices.BinarySearchFunc(d, id, compareComponent)
	out := slices.Clone(d)
	entry := ComponentData{id, bytes.Clone(data)}
	if ok {
		out[i] = entry
		return out
	}
	return slices.Insert(out, i, entry)
}

// Without returns a copy that has no entry for the component.
func (d AppData) Without(id ComponentID) AppData {
	return slices.DeleteFunc(slices.Clone(d), func(c ComponentData) bool { return c.ID == id })
}

func compareComponent(c ComponentData, id ComponentID) int { return int(c.ID) - int(id) }

// Extension returns the dictionary as an extension.
func (d AppData) Extension() Extension {
	return Extension{ExtensionAppDataDictionary, d.appendTo(nil)}
}

func (d AppData) appendTo(b []byte) []byte {
	return appendVector(b, d, func(b []byte, c ComponentData) []byte {
		return appendOpaque(appendU16(b, uint16(c.ID)), c.Data)
	})
}

func readAppData(r *reader) AppData {
	list := readVector(r, func(r *reader) ComponentData {
		return ComponentData{ComponentID(r.u16()), r.opaque()}
	})
	for i := 1; i < len(list); i++ {
		if list[i-1].ID >= list[i].ID {
			r.fail(errUnsorted)
			return nil
		}
	}
	return list
}

// AppData returns the content of the app_data_dictionary extension, or nil when
// there is none. Entries that are not sorted or not unique are an error.
func (x Extensions) AppData() (AppData, error) {
	b, ok := x.Find(ExtensionAppDataDictionary)
	if !ok {
		return nil, nil
	}
	return decode(b, "app_data_dictionary", readAppData)
}

// ComponentsList encodes the content of the app_components and safe_aad
// components: a list of component IDs.
func ComponentsList(ids ...ComponentID) []byte { return appendU16s(nil, ids) }

// ParseComponentsList decodes the content of the app_components and safe_aad
// components.
func ParseComponentsList(b []byte) ([]ComponentID, error) {
	return decode(b, "component list", readU16s[ComponentID])
}

// SafeAAD frames authenticated data of several components
// (draft-ietf-mls-extensions, Safe Additional Authenticated Data). Its encoding is
// that of a dictionary.
func SafeAAD(items AppData) []byte { return items.appendTo(nil) }

// ParseSafeAAD decodes the authenticated_data of a group whose GroupContext has
// the safe_aad component.
func ParseSafeAAD(b []byte) (AppData, error) { return decode(b, "safe AAD", readAppData) }

// AppDataOperation says what an [AppDataUpdate] does.
type AppDataOperation uint8

// The operations of an AppDataUpdate.
const (
	AppDataUpdateOp AppDataOperation = 1
	AppDataRemoveOp AppDataOperation = 2
)

// AppDataUpdate is a proposal that changes one component's entry in the
// app_data_dictionary of the GroupContext (draft-ietf-mls-extensions, Updating
// Application Data in the GroupContext).
type AppDataUpdate struct {
	Component ComponentID
	Op        AppDataOperation
	// Update is handed to the application, which answers with the new data. nil
	// when Op is AppDataRemoveOp.
	Update []byte
}

// ProposalType implements [Proposal].
func (*AppDataUpdate) ProposalType() ProposalType { return ProposalAppDataUpdate }

func (p *AppDataUpdate) appendBody(b []byte) []byte {
	b = appendU8(appendU16(b, uint16(p.Component)), uint8(p.Op))
	if p.Op == AppDataUpdateOp {
		b = appendOpaque(b, p.Update)
	}
	return b
}

func readAppDataUpdate(r *reader) *AppDataUpdate {
	p := &AppDataUpdate{Component: ComponentID(r.u16()), Op: AppDataOperation(r.u8())}
	switch p.Op {
	case AppDataUpdateOp:
		p.Update = r.opaque()
	case AppDataRemoveOp:
	default:
		r.fail(fmt.Errorf("mls: app_data_update operation %d is unknown", p.Op))
	}
	return p
}

// AppEphemeral is a proposal that ties data of a component to a commit without
// changing the group (draft-ietf-mls-extensions, Attaching Application Data to a
// Commit).
type AppEphemeral struct {
	Component ComponentID
	Data      []byte
}

// ProposalType implements [Proposal].
func (*AppEphemeral) ProposalType() ProposalType { return ProposalAppEphemeral }

func (p *AppEphemeral) appendBody(b []byte) []byte {
	return appendOpaque(appendU16(b, uint16(p.Component)), p.Data)
}

func readAppEphemeral(r *reader) *AppEphemeral {
	return &AppEphemeral{Component: ComponentID(r.u16()), Data: r.opaque()}
}
