// SPDX-License-Identifier: Apache-2.0

package stanza

// ConfigQuery asks for the configuration of a group: the payload of an IQ get,
// answered with [Config] of a form of type form.
//
//	<config xmlns='urn:xmpp:mls:ds:0'/>
//
// Source: xep/mls-delivery.xml#config.
type ConfigQuery struct{}

// Append appends the element.
func (*ConfigQuery) Append(dst []byte) []byte { return appendEmpty(dst, NSDelivery, "config") }

// Parse reads the element.
func (*ConfigQuery) Parse(el Element) error { return parseEmpty(el, NSDelivery, "config") }

// Config carries the configuration form of a group: the payload of an IQ set of
// an owner, answered with an empty result, and the answer to [ConfigQuery].
//
//	<config xmlns='urn:xmpp:mls:ds:0'>
//	  <x xmlns='jabber:x:data' type='submit'>
//	    <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mls:ds:0#config</value></field>
//	    <field var='announce-only'><value>1</value></field>
//	  </x>
//	</config>
//
// Fields that are missing from a set keep their values. What the GroupContext
// agrees (the roles component) changes by commit only; the DS refuses such
// fields with feature-not-implemented.
//
// Source: xep/mls-delivery.xml#config.
type Config struct {
	Form Form
}

// Append appends the element.
func (c *Config) Append(dst []byte) []byte { return c.Form.appendIn(dst, NSDelivery, "config") }

// Parse reads the element.
func (c *Config) Parse(el Element) error { return c.Form.parseIn(el, NSDelivery, "config") }

// GroupConfig is the content of the form urn:xmpp:mls:ds:0#config. In a form
// each field is optional.
//
// Source: xep/mls-delivery.xml#config.
type GroupConfig struct {
	// Access says who may join: "invite" (who is added) or "open" (anybody, by
	// an external commit). Field access.
	Access string
	// AddPolicy and RemovePolicy are the least roles that may add and remove
	// others: owner, admin, member or visitor. Fields add-policy and remove-policy.
	AddPolicy, RemovePolicy Role
	// ExternalJoin says who may join by an external commit: "none", "members"
	// (users with a role, for their own new devices) or "anyone". Field
	// external-join.
	ExternalJoin string
	// MaxDevices is the number of leaves that one user may have, 0 for the
	// DS's limit. Field max-devices.
	MaxDevices uint64
	// MessageWindow is how many past epochs application messages may be of.
	// Field message-window.
	MessageWindow uint64
	// Retention is how long the log is kept for devices that do not
	// acknowledge it, in seconds, 0 for the DS's limit. Field retention.
	Retention uint64
	// AnnounceOnly lets only admins and owners send. Field announce-only.
	AnnounceOnly bool
	// Hidden makes the group answer outsiders as if it did not exist. Field
	// hidden.
	Hidden bool
	// PublicName is the name that the DS tells in service discovery. Empty
	// tells none. Field public-name.
	PublicName string
	// WireFormat is "public-handshake" or "private-handshake". It is chosen at
	// creation. Field wire-format.
	WireFormat string
}

// Values of [GroupConfig] fields.
const (
	AccessInvite      = "invite"
	AccessOpen        = "open"
	ExternalNone      = "none"
	ExternalMembers   = "members"
	ExternalAnyone    = "anyone"
	PublicHandshake   = "public-handshake"
	PrivateHandshake  = "private-handshake"
	fieldMessageWin   = "message-window"
	fieldWireFormat   = "wire-format"
	fieldExternalJoin = "external-join"
)

// DefaultGroupConfig returns what a group has where the form says nothing.
func DefaultGroupConfig() GroupConfig {
	return GroupConfig{
		Access: AccessInvite, AddPolicy: RoleAdmin, RemovePolicy: RoleAdmin, ExternalJoin: ExternalMembers,
		MessageWindow: 1, WireFormat: PublicHandshake,
	}
}

// Form returns the configuration as a form: with labels, types and options for
// a person if t is [FormForm], else the values alone.
func (c *GroupConfig) Form(t FormType) *Form {
	f := NewForm(t, FormConfig)
	if t == FormForm {
		f.Title = "Configuration of the group"
	}
	roles := []Option{{"Owners", "owner"}, {"Admins", "admin"}, {"Members", "member"}, {"Visitors", "visitor"}}
	add := func(name, typ, label, value string, options ...Option) {
		field := Field{Var: name, Values: []string{value}}
		if t == FormForm {
			field.Type, field.Label, field.Options = typ, label, options
		}
		f.Fields = append(f.Fields, field)
	}
	add("access", FieldListSingle, "Who may join", c.Access,
		Option{"Who is invited", AccessInvite}, Option{"Anybody", AccessOpen})
	add("add-policy", FieldListSingle, "Who may add others", string(c.AddPolicy), roles...)
	add("remove-policy", FieldListSingle, "Who may remove others", string(c.RemovePolicy), roles...)
	add(fieldExternalJoin, FieldListSingle, "Who may join without being added", c.ExternalJoin,
		Option{"Nobody", ExternalNone}, Option{"New devices of members", ExternalMembers}, Option{"Anybody", ExternalAnyone})
	add("max-devices", FieldTextSingle, "Devices per user", uintValue(c.MaxDevices))
	add(fieldMessageWin, FieldTextSingle, "Past epochs that messages may be of", uintValue(c.MessageWindow))
	add("retention", FieldTextSingle, "Seconds that the log is kept", uintValue(c.Retention))
	add("announce-only", FieldBoolean, "Only admins may send", boolValue(c.AnnounceOnly))
	add("hidden", FieldBoolean, "Deny the group's existence to outsiders", boolValue(c.Hidden))
	add("public-name", FieldTextSingle, "Name in service discovery", c.PublicName)
	add(fieldWireFormat, FieldListSingle, "Handshake messages", c.WireFormat,
		Option{"Public: the service checks them", PublicHandshake}, Option{"Private: the service only orders them", PrivateHandshake})
	return f
}

// Set takes over the fields that are in the form. Unknown fields are ignored;
// a value out of range is a [*SyntaxError], and c is then unchanged.
func (c *GroupConfig) Set(f *Form) error {
	if t := f.FormType(); t != FormConfig {
		return &SyntaxError{Element: "x", Reason: "FORM_TYPE is not " + FormConfig}
	}
	n := *c
	r := formReader{form: f}
	add, remove := string(n.AddPolicy), string(n.RemovePolicy)
	r.word("access", &n.Access, AccessInvite, AccessOpen)
	r.word("add-policy", &add, "owner", "admin", "member", "visitor")
	r.word("remove-policy", &remove, "owner", "admin", "member", "visitor")
	r.word(fieldExternalJoin, &n.ExternalJoin, ExternalNone, ExternalMembers, ExternalAnyone)
	r.number("max-devices", &n.MaxDevices)
	r.number(fieldMessageWin, &n.MessageWindow)
	r.number("retention", &n.Retention)
	r.boolean("announce-only", &n.AnnounceOnly)
	r.boolean("hidden", &n.Hidden)
	r.word("public-name", &n.PublicName)
	r.word(fieldWireFormat, &n.WireFormat, PublicHandshake, PrivateHandshake)
	if r.err != nil {
		return r.err
	}
	n.AddPolicy, n.RemovePolicy = Role(add), Role(remove)
	*c = n
	return nil
}
