// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
)

func TestGroupConfigForm(t *testing.T) {
	want := GroupConfig{
		Access: AccessOpen, AddPolicy: RoleMember, RemovePolicy: RoleOwner, ExternalJoin: ExternalAnyone, MaxDevices: 3,
		MessageWindow: 2, Retention: 86400, AnnounceOnly: true, Hidden: true, PublicName: "Ops", WireFormat: PrivateHandshake,
	}
	for _, typ := range []FormType{FormForm, FormSubmit} {
		got := DefaultGroupConfig()
		var f Form
		if err := parseXML(&f, want.Form(typ).Append(nil)); err != nil {
			t.Fatal(err)
		}
		if err := got.Set(&f); err != nil || got != want {
			t.Errorf("%s: %+v, %v", typ, got, err)
		}
	}
	// Every role that a policy may name, as the options of the form have it.
	for r := groupdata.Visitor; r <= groupdata.Owner; r++ {
		in, out := want, want
		in.AddPolicy, in.RemovePolicy, out.AddPolicy = Role(r.String()), Role(r.String()), ""
		f := in.Form(FormForm)
		if err := out.Set(f); err != nil || out != in {
			t.Errorf("%s: %+v, %v", r, out, err)
		}
		if o := f.Field("add-policy").Options; !slices.ContainsFunc(o, func(o Option) bool { return o.Value == r.String() }) {
			t.Errorf("%s is no option: %v", r, o)
		}
	}
	// A form with one field changes one field.
	got := want
	if err := got.Set(NewForm(FormSubmit, FormConfig).Add("hidden", "false").Add("unknown", "x")); err != nil {
		t.Error(err)
	}
	want.Hidden = false
	if got != want {
		t.Errorf("got %+v", got)
	}
	for _, f := range []*Form{
		NewForm(FormSubmit, "urn:example"),
		{Type: FormSubmit},
		NewForm(FormSubmit, FormConfig).Add("access", "nobody"),
		NewForm(FormSubmit, FormConfig).Add("access"),
		NewForm(FormSubmit, FormConfig).Add("access", "open", "invite"),
		NewForm(FormSubmit, FormConfig).Add("add-policy", "outcast"),
		NewForm(FormSubmit, FormConfig).Add("max-devices", "-1"),
		NewForm(FormSubmit, FormConfig).Add("hidden", "maybe"),
		NewForm(FormSubmit, FormConfig).Add("hidden", "1").Add("wire-format", "secret"),
	} {
		got := want
		if err := got.Set(f); err == nil || got != want {
			t.Errorf("%s: %+v, %v", f.Append(nil), got, err)
		}
	}
}

func TestServiceLimitsForm(t *testing.T) {
	want := ServiceLimits{
		MaxBytes: 49152, MaxArtifactBytes: 8 << 20, CipherSuites: []uint16{1, 3}, Create: CreateLocalUsers, ChosenNames: false,
		LogRetention: 2592000, WireFormats: []string{PublicHandshake, PrivateHandshake}, ExternalSender: blob, MaxDevices: 10, KeyPackages: 50,
	}
	got, err := ParseServiceLimits(want.Form())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err := ParseServiceLimits(NewForm(FormResult, FormLimits)); err != nil || !got.ChosenNames {
		t.Errorf("%+v, %v", got, err)
	}
	for _, f := range []*Form{
		NewForm(FormResult, FormConfig),
		NewForm(FormResult, FormLimits).Add("cipher-suites", "1"),
		NewForm(FormResult, FormLimits).Add("max-bytes", "many"),
		NewForm(FormResult, FormLimits).Add("external-sender", "*"),
	} {
		if l, err := ParseServiceLimits(f); err == nil {
			t.Errorf("%s is %+v", f.Append(nil), l)
		}
	}
}

func TestConsentForm(t *testing.T) {
	want := Consent{Policy: ConsentAllowlist, Allow: []string{"juliet@capulet.lit", "montague.lit"}}
	for _, typ := range []FormType{FormForm, FormSubmit} {
		var got Consent
		if err := got.Set(want.Form(typ)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	for _, f := range []*Form{
		NewForm(FormSubmit, FormConfig),
		NewForm(FormSubmit, FormConsent).Add("consent", "never"),
		NewForm(FormSubmit, FormConsent).Add("allow", ""),
	} {
		got := want
		if err := got.Set(f); err == nil {
			t.Errorf("%s is %+v", f.Append(nil), got)
		}
	}
}

// TestCapsVerification has the examples of XEP-0115 §5.2 and §5.3.
func TestCapsVerification(t *testing.T) {
	simple := &DiscoInfo{
		Identities: []Identity{{Category: "client", Type: "pc", Name: "Exodus 0.9.1"}},
		Features: []string{"http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
			"http://jabber.org/protocol/muc", "http://jabber.org/protocol/caps"},
	}
	if c := NewCaps("http://code.google.com/p/exodus", simple); c.Ver != "QgayPKawpkPSDYmwT/WM94uAlu0=" || c.Hash != "sha-1" {
		t.Errorf("simple: %+v", c)
	}
	complex := &DiscoInfo{
		Identities: []Identity{{"client", "pc", "Psi 0.11", "en"}, {"client", "pc", "Ψ 0.11", "el"}},
		Features: []string{"http://jabber.org/protocol/caps", "http://jabber.org/protocol/disco#info",
			"http://jabber.org/protocol/disco#items", "http://jabber.org/protocol/muc"},
		Forms: []Form{*NewForm(FormResult, "urn:xmpp:dataforms:softwareinfo").Add("ip_version", "ipv4", "ipv6").
			Add("os", "Mac").Add("os_version", "10.5.1").Add("software", "Psi").Add("software_version", "0.11")},
	}
	if got := complex.Verification(); got != "q07IKJEyjvHSyhy//CH0CxmKi8w=" {
		t.Errorf("complex: %s", got)
	}
}

func TestContactForm(t *testing.T) {
	f := ContactForm(map[string][]string{"abuse-addresses": {"mailto:abuse@example.org", "xmpp:abuse@example.org"}, "made-up": {"x"}})
	if f.FormType() != NSServerInfo || len(f.Values("abuse-addresses")) != 2 || f.Field("made-up") != nil {
		t.Errorf("%+v", f)
	}
}
