// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// TestErrorTable is the table of errors in mls-delivery.xml.
func TestErrorTable(t *testing.T) {
	for _, tc := range []struct {
		app  AppCondition
		typ  ErrorType
		cond Condition
		xml  string
	}{
		{&StaleEpoch{Submitted: 42, Current: 44, Head: 1211}, "cancel", "conflict", `<stale-epoch xmlns='urn:xmpp:mls:errors:0' submitted='42' current='44' head='1211'/>`},
		{&FutureEpoch{Submitted: 45, Current: 44, Head: 1211}, "wait", "unexpected-request", `<future-epoch xmlns='urn:xmpp:mls:errors:0' submitted='45' current='44' head='1211'/>`},
		{&InvalidMessage{Reason: "signature", Index: -1}, "modify", "bad-request", `<invalid-message xmlns='urn:xmpp:mls:errors:0' reason='signature'/>`},
		{&GroupInfoMismatch{}, "modify", "bad-request", `<group-info-mismatch xmlns='urn:xmpp:mls:errors:0'/>`},
		{&MustCommit{Proposals: []PastEntry{{Epoch: 1, Seq: 2, Ref: refA}}}, "modify", "policy-violation", `<must-commit xmlns='urn:xmpp:mls:errors:0'><proposal epoch='1' seq='2' ref='` + refA.String() + `'/></must-commit>`},
		{&UnknownProposal{ProposalRefs: [][]byte{blob}}, "cancel", "item-not-found", `<unknown-proposal xmlns='urn:xmpp:mls:errors:0'><proposal ref='AAEAAf/+eA=='/></unknown-proposal>`},
		{&CredentialMismatch{}, "auth", "not-authorized", `<credential-mismatch xmlns='urn:xmpp:mls:errors:0'/>`},
		{&NotAMember{}, "auth", "forbidden", `<not-a-member xmlns='urn:xmpp:mls:errors:0'/>`},
		{&NotAMember{RemovedSeq: 3}, "auth", "forbidden", `<not-a-member xmlns='urn:xmpp:mls:errors:0' removed-seq='3'/>`},
		{&InsufficientAffiliation{Need: RoleAdmin}, "auth", "forbidden", `<insufficient-affiliation xmlns='urn:xmpp:mls:errors:0' need='admin'/>`},
		{&Unsupported{What: "cipher-suite", Value: "0x0005"}, "modify", "not-acceptable", `<unsupported xmlns='urn:xmpp:mls:errors:0' what='cipher-suite' value='0x0005'/>`},
		{&KeyPackagesExhausted{}, "wait", "resource-constraint", `<key-packages-exhausted xmlns='urn:xmpp:mls:errors:0'/>`},
		{&TooLarge{MaxBytes: 49152}, "modify", "not-acceptable", `<too-large xmlns='urn:xmpp:mls:errors:0' max-bytes='49152'/>`},
		{&RetryAfter{After: 30 * time.Second}, "wait", "resource-constraint", `<retry xmlns='urn:xmpp:mls:errors:0' after='30'/>`},
		{&Maintenance{After: 600 * time.Second}, "wait", "resource-constraint", `<maintenance xmlns='urn:xmpp:mls:errors:0' after='600'/>`},
		{&Maintenance{}, "wait", "resource-constraint", `<maintenance xmlns='urn:xmpp:mls:errors:0'/>`},
		{&HistoryGone{First: 1300}, "cancel", "item-not-found", `<history-gone xmlns='urn:xmpp:mls:errors:0' first='1300'/>`},
	} {
		if got := string(tc.app.Append(nil)); got != tc.xml {
			t.Errorf("%T\n got %s\nwant %s", tc.app, got, tc.xml)
		}
		e, ok := AsError(fmt.Errorf("component: committing: %w", tc.app))
		if !ok || e.Type != tc.typ || e.Condition != tc.cond || e.App != tc.app || e.Text == "" {
			t.Errorf("%T becomes %+v, %v", tc.app, e, ok)
		}
		var got Error
		if err := parseXML(&got, e.Append(nil)); err != nil {
			t.Errorf("%T: %v", tc.app, err)
			continue
		}
		want := *e
		want.Lang = "en"
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%T: %s", tc.app, d)
		}
		// A caller finds the condition in the chain.
		target := reflect.New(reflect.TypeOf(tc.app))
		if !errors.As(fmt.Errorf("client: sending: %w", &got), target.Interface()) {
			t.Errorf("errors.As does not find %T", tc.app)
		}
		if !errors.Is(&got, &Error{Condition: tc.cond}) || errors.Is(&got, &Error{Condition: RemoteServerTimeout}) {
			t.Errorf("errors.Is is wrong for %T", tc.app)
		}
	}
}

// TestEveryConditionIsRegistered checks that the names of the error namespace
// and the parser of errors know the same conditions.
func TestEveryConditionIsRegistered(t *testing.T) {
	n := 0
	for _, info := range Payloads() {
		if info.Space != NSErrors {
			continue
		}
		n++
		app := newAppCondition(info.Local)
		if app == nil || reflect.TypeOf(app) != reflect.TypeOf(info.New()) {
			t.Errorf("<%s/> is %T", info.Local, app)
		}
	}
	if n != 15 {
		t.Errorf("%d conditions", n)
	}
}

func TestErrorParseIsLenient(t *testing.T) {
	for _, tc := range []struct {
		xml  string
		want Error
	}{
		{`<error/>`, Error{Type: ErrorCancel, Condition: UndefinedCondition}},
		{`<error type='cancel'>junk</error>`, Error{Type: ErrorCancel, Condition: UndefinedCondition}},
		{`<error type='nonsense'><new-condition xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>`, Error{Type: ErrorCancel, Condition: UndefinedCondition}},
		// What Prosody says for a component that is not connected.
		{`<error type='wait'><remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><not-connected xmlns='xmpp:prosody.im/protocol/component'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Component unavailable</text></error>`,
			Error{Type: ErrorWait, Condition: RemoteServerTimeout, Text: "Component unavailable"}},
		{`<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:a@b</gone></error>`, Error{Type: ErrorCancel, Condition: Gone, Address: "xmpp:a@b"}},
		{`<error xmlns='jabber:component:accept' type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>`, Error{Type: ErrorAuth, Condition: Forbidden}},
		// A malformed or second application condition is dropped.
		{`<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><stale-epoch xmlns='urn:xmpp:mls:errors:0' current='x'/></error>`, Error{Type: ErrorCancel, Condition: Conflict}},
		{`<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><novel xmlns='urn:xmpp:mls:errors:0'/><too-large xmlns='urn:xmpp:mls:errors:0' max-bytes='1'/><too-large xmlns='urn:xmpp:mls:errors:0' max-bytes='2'/></error>`,
			Error{Type: ErrorCancel, Condition: Conflict, App: &TooLarge{MaxBytes: 1}}},
		// Of several texts the English one, else the first.
		{`<error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='de'>eins</text><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>one</text><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='fr'>un</text></error>`,
			Error{Type: ErrorCancel, Condition: Conflict, Text: "one", Lang: "en"}},
	} {
		var got Error
		if err := parseXML(&got, []byte(tc.xml)); err != nil {
			t.Errorf("%s: %v", tc.xml, err)
		} else if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", tc.xml, d)
		}
	}
	if err := parseXML(new(Error), []byte(`<error xmlns='urn:example:other'/>`)); err == nil {
		t.Error("an error of another namespace is accepted")
	}
}

func TestAsError(t *testing.T) {
	for _, tc := range []struct {
		err  error
		cond Condition
		text string
		ok   bool
	}{
		{&SyntaxError{Element: "commit", Reason: "missing attribute \"epoch\""}, BadRequest, "Malformed <commit/>: missing", true},
		{&xmlpull.SyntaxError{Class: xmlpull.NotWellFormed, Reason: "duplicate attribute"}, BadRequest, "duplicate attribute", true},
		{&xmlpull.SyntaxError{Class: xmlpull.OverLimit, Reason: "elements nested too deeply"}, PolicyViolation, "nested", true},
		{&xmlpull.OversizeError{Size: 9, Max: 8}, NotAcceptable, "larger than 8", true},
		{NewError(ItemNotFound, "No such group"), ItemNotFound, "No such group", true},
		{io.ErrUnexpectedEOF, InternalServerError, "", false},
		{errors.New("store: password is swordfish"), InternalServerError, "", false},
	} {
		e, ok := AsError(fmt.Errorf("wrapped: %w", tc.err))
		if ok != tc.ok || e.Condition != tc.cond || !strings.Contains(e.Text, tc.text) || e.Type != conditionType[tc.cond] {
			t.Errorf("%v becomes %+v, %v", tc.err, e, ok)
		}
		if !ok && e.Text != "" {
			t.Errorf("%v tells %q", tc.err, e.Text)
		}
	}
}

func TestErrorAppendRepairs(t *testing.T) {
	got := string((&Error{Type: "odd", Condition: "no-such-condition", Text: "<&>"}).Append(nil))
	want := `<error type='cancel'><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>&lt;&amp;&gt;</text></error>`
	if got != want {
		t.Errorf("got %s", got)
	}
	if e := NewError("no-such-condition", ""); e.Condition != UndefinedCondition {
		t.Errorf("got %v", e)
	}
	if s := (&Error{Type: ErrorCancel, Condition: Conflict, By: "a\nb", Text: "x\x1b[2J"}).Error(); strings.ContainsAny(s, "\n\x1b") {
		t.Errorf("control characters in %q", s)
	}
	if s := NewError(Conflict, "").Error(); s != "stanza: cancel: conflict" {
		t.Errorf("got %q", s)
	}
}

func TestRetryAfterRounds(t *testing.T) {
	for _, tc := range []struct {
		after time.Duration
		want  uint64
	}{{-time.Second, 0}, {0, 0}, {1, 1}, {time.Second, 1}, {time.Second + 1, 2}, {1 << 62, maxAfter}} {
		if got := seconds(tc.after); got != tc.want {
			t.Errorf("%v is %d seconds", tc.after, got)
		}
	}
}
