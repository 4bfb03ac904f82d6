// SPDX-License-Identifier: Apache-2.0

// Which components members support and a group requires
// (draft-ietf-mls-extensions, Negotiating Extensions and Components).

package mls

import "slices"

// ownComponents are the components of the draft that this package handles itself.
var ownComponents = []ComponentID{ComponentAppComponents, ComponentSafeAAD, ComponentLastResortKeyPackage}

// componentLists are the lists in an app_data_dictionary: in a leaf node what the
// member supports, in a GroupContext what the group requires.
type componentLists struct {
	app     []ComponentID // app_components
	safeAAD []ComponentID // safe_aad
}

// components returns the lists of the app_data_dictionary extension.
func (x Extensions) components() (c componentLists, err error) {
	if _, ok := x.Find(ExtensionAppDataDictionary); !ok {
		return c, nil
	}
	d, err := x.AppData()
	if err != nil {
		return c, err
	}
	if b, ok := d.Find(ComponentAppComponents); ok {
		if c.app, err = ParseComponentsList(b); err != nil {
			return c, err
		}
	}
	if b, ok := d.Find(ComponentSafeAAD); ok {
		c.safeAAD, err = ParseComponentsList(b)
	}
	return c, err
}

// demands are what a GroupContext requires of every member.
type demands struct {
	extensions Extensions            // every extension of the GroupContext
	caps       *RequiredCapabilities // nil when there are none
	components componentLists
}

// demands returns what a GroupContext with these extensions requires.
func (x Extensions) demands() (d demands, err error) {
	d.extensions = x
	if d.caps, err = x.RequiredCapabilities(); err != nil {
		return d, broken(RuleExtensionContext, err, "GroupContext")
	}
	if d.components, err = x.components(); err != nil {
		return d, broken(RuleAppDataFormat, err, "GroupContext")
	}
	return d, nil
}

// withComponents adds to the extensions of a leaf node the list of components that
// this client supports, which whoever understands app_data_dictionary must
// advertise. A list that the application made itself stays.
func (c *config) withComponents(x Extensions) (Extensions, error) {
	if c.rfcOnly {
		return x, nil
	}
	d, err := x.AppData()
	if err != nil {
		return nil, broken(RuleAppDataFormat, err, "leaf node")
	}
	lists := []struct {
		id   ComponentID
		list []ComponentID
	}{
		{ComponentAppComponents, slices.Concat(ownComponents, c.components)},
		{ComponentSafeAAD, slices.Clone(c.safeAADs)},
	}
	for _, l := range lists {
		if _, ok := d.Find(l.id); ok || len(l.list) == 0 {
			continue
		}
		var b [1]byte
		if c.grease && readRandom(c.rand, b[:]) == nil {
			l.list = append(l.list, ComponentID(greaseValue(b[0]%8))) // those below 0x8000
		}
		slices.Sort(l.list)
		d = d.With(l.id, ComponentsList(slices.Compact(l.list)...))
	}
	return x.With(ExtensionAppDataDictionary, d.Extension().Data), nil
}

// withoutComponents takes the lists away that withComponents adds.
func (x Extensions) withoutComponents() (Extensions, error) {
	d, err := x.AppData()
	if err != nil || d == nil {
		return x, err
	}
	return x.With(ExtensionAppDataDictionary, d.Without(ComponentAppComponents).Without(ComponentSafeAAD).Extension().Data), nil
}

// checkComponents checks that all members of a tree list the components that a
// group requires. It looks at counters alone.
func (t *ratchetTree) checkComponents(c *componentLists) error {
	for _, id := range c.app {
		if !t.allSupport(componentCapability(id)) {
			return invalid(RuleAppComponents, "component %d is required, and some member does not list it", id)
		}
	}
	for _, id := range c.safeAAD {
		if !t.allSupport(safeAADCapability(id)) {
			return invalid(RuleAppComponents, "component %d of safe AAD is required, and some member does not list it", id)
		}
	}
	return nil
}
