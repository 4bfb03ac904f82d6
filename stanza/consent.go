// SPDX-License-Identifier: Apache-2.0

package stanza

// ConsentQuery asks the home DS who may claim the user's key packages: the
// payload of an IQ get, answered with [ConsentConfig].
//
//	<config xmlns='urn:xmpp:mls:kp:0'/>
//
// Source: xep/mls-key-packages.xml#consent.
type ConsentQuery struct{}

// Append appends the element.
func (*ConsentQuery) Append(dst []byte) []byte { return appendEmpty(dst, NSKeyPackages, "config") }

// Parse reads the element.
func (*ConsentQuery) Parse(el Element) error { return parseEmpty(el, NSKeyPackages, "config") }

// ConsentConfig carries the form of who may claim the user's key packages, and
// so add the user to a group: the payload of an IQ set, answered with an empty
// result, and the answer to [ConsentQuery].
//
//	<config xmlns='urn:xmpp:mls:kp:0'>
//	  <x xmlns='jabber:x:data' type='submit'>
//	    <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mls:kp:0#consent</value></field>
//	    <field var='consent'><value>allowlist</value></field>
//	    <field var='allow'><value>juliet@capulet.lit</value><value>montague.lit</value></field>
//	  </x>
//	</config>
//
// Source: xep/mls-key-packages.xml#consent.
type ConsentConfig struct {
	Form Form
}

// Append appends the element.
func (c *ConsentConfig) Append(dst []byte) []byte {
	return c.Form.appendIn(dst, NSKeyPackages, "config")
}

// Parse reads the element.
func (c *ConsentConfig) Parse(el Element) error { return c.Form.parseIn(el, NSKeyPackages, "config") }

// ConsentPolicy says who may claim a user's key packages.
type ConsentPolicy string

// Consent policies.
const (
	ConsentAnyone     ConsentPolicy = "anyone"
	ConsentSameDomain ConsentPolicy = "same-domain"
	// ConsentRoster is contacts who may see the user's presence; the DS needs
	// access to rosters for it (XEP-0356).
	ConsentRoster    ConsentPolicy = "roster"
	ConsentAllowlist ConsentPolicy = "allowlist"
)

// Consent is the content of the form urn:xmpp:mls:kp:0#consent.
type Consent struct {
	Policy ConsentPolicy
	// Allow are the bare JIDs and domains that may claim besides, or under
	// [ConsentAllowlist] alone.
	Allow []string
}

// Form returns the consent as a form, with labels and options if t is
// [FormForm].
func (c *Consent) Form(t FormType) *Form {
	f := NewForm(t, FormConsent)
	policy := Field{Var: "consent", Values: []string{string(c.Policy)}}
	allow := Field{Var: "allow", Values: c.Allow}
	if t == FormForm {
		f.Title = "Who may add you to groups"
		policy.Type, policy.Label = FieldListSingle, "Who may add you"
		policy.Options = []Option{
			{"Anybody", string(ConsentAnyone)}, {"Users of the same server", string(ConsentSameDomain)},
			{"Contacts", string(ConsentRoster)}, {"Only those listed", string(ConsentAllowlist)},
		}
		allow.Type, allow.Label = FieldJIDMulti, "Users and servers that may always add you"
	}
	f.Fields = append(f.Fields, policy, allow)
	return f
}

// Set takes over the fields that are in the form, as [GroupConfig.Set] does.
func (c *Consent) Set(f *Form) error {
	if t := f.FormType(); t != FormConsent {
		return &SyntaxError{Element: "x", Reason: "FORM_TYPE is not " + FormConsent}
	}
	r := formReader{form: f}
	policy := string(c.Policy)
	r.word("consent", &policy, "anyone", "same-domain", "roster", "allowlist")
	allow := c.Allow
	if p := f.Field("allow"); p != nil {
		allow = append([]string(nil), p.Values...)
		for _, jid := range allow {
			if len(jid) == 0 || len(jid) > MaxJID {
				r.fail("allow", "not a JID")
			}
		}
	}
	if r.err != nil {
		return r.err
	}
	c.Policy, c.Allow = ConsentPolicy(policy), allow
	return nil
}
