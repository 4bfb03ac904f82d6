// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"errors"
	"fmt"

	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// ErrorType says what the sender of a refused stanza may do next (RFC 6120
// §8.3.2).
type ErrorType string

// Error types (RFC 6120 §8.3.2).
const (
	ErrorAuth     ErrorType = "auth"     // retry after providing credentials
	ErrorCancel   ErrorType = "cancel"   // do not retry
	ErrorContinue ErrorType = "continue" // proceed, it was only a warning
	ErrorModify   ErrorType = "modify"   // retry after changing the data
	ErrorWait     ErrorType = "wait"     // retry after waiting
)

// Condition is a defined condition of RFC 6120 §8.3.3, by its XML name.
type Condition string

// Defined conditions (RFC 6120 §8.3.3).
const (
	BadRequest            Condition = "bad-request"
	Conflict              Condition = "conflict"
	FeatureNotImplemented Condition = "feature-not-implemented"
	Forbidden             Condition = "forbidden"
	Gone                  Condition = "gone"
	InternalServerError   Condition = "internal-server-error"
	ItemNotFound          Condition = "item-not-found"
	JIDMalformed          Condition = "jid-malformed"
	NotAcceptable         Condition = "not-acceptable"
	NotAllowed            Condition = "not-allowed"
	NotAuthorized         Condition = "not-authorized"
	PolicyViolation       Condition = "policy-violation"
	RecipientUnavailable  Condition = "recipient-unavailable"
	Redirect              Condition = "redirect"
	RegistrationRequired  Condition = "registration-required"
	RemoteServerNotFound  Condition = "remote-server-not-found"
	RemoteServerTimeout   Condition = "remote-server-timeout"
	ResourceConstraint    Condition = "resource-constraint"
	ServiceUnavailable    Condition = "service-unavailable"
	SubscriptionRequired  Condition = "subscription-required"
	UndefinedCondition    Condition = "undefined-condition"
	UnexpectedRequest     Condition = "unexpected-request"
)

// conditionType is the error type that RFC 6120 §8.3.3 recommends for each
// condition; it is also the list of conditions that exist.
var conditionType = map[Condition]ErrorType{
	BadRequest:            ErrorModify,
	Conflict:              ErrorCancel,
	FeatureNotImplemented: ErrorCancel,
	Forbidden:             ErrorAuth,
	Gone:                  ErrorCancel,
	InternalServerError:   ErrorCancel,
	ItemNotFound:          ErrorCancel,
	JIDMalformed:          ErrorModify,
	NotAcceptable:         ErrorModify,
	NotAllowed:            ErrorCancel,
	NotAuthorized:         ErrorAuth,
	PolicyViolation:       ErrorModify,
	RecipientUnavailable:  ErrorWait,
	Redirect:              ErrorModify,
	RegistrationRequired:  ErrorAuth,
	RemoteServerNotFound:  ErrorCancel,
	RemoteServerTimeout:   ErrorWait,
	ResourceConstraint:    ErrorWait,
	ServiceUnavailable:    ErrorCancel,
	SubscriptionRequired:  ErrorAuth,
	UndefinedCondition:    ErrorCancel,
	UnexpectedRequest:     ErrorWait,
}

// Error is a stanza error (RFC 6120 §8.3.2), sent and received:
//
//	<error type='cancel' by='ops@mls.example.org'>
//	  <conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>
//	  <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Another commit was accepted for epoch 42</text>
//	  <stale-epoch xmlns='urn:xmpp:mls:errors:0' submitted='42' current='44' head='1211'/>
//	</error>
//
// Its application condition is found by errors.As, with a pointer to the
// pointer type: for the error above
//
//	var stale *stanza.StaleEpoch
//	if errors.As(err, &stale) { … }
type Error struct {
	Type      ErrorType
	Condition Condition
	// Address is the text of gone and redirect: a URI such as
	// "xmpp:new@mls.example.org" (RFC 6120 §8.3.3.5, §8.3.3.14).
	Address string
	// By is the JID of the entity that made the error, empty if not told.
	By string
	// Text tells a human what happened and what to do, empty if nobody said.
	Text string
	// Lang is the language of Text. Empty means "en" when sent.
	Lang string
	// App is the application condition, nil if there is none that this
	// package knows.
	App AppCondition
}

// AppCondition is an application condition of urn:xmpp:mls:errors:0
// (xep/mls-delivery.xml#errors). All of them are in this package; they are errors
// themselves, whose text is the default text of the stanza error.
type AppCondition interface {
	error
	Payload
	// defined returns the defined condition that goes with it.
	defined() (ErrorType, Condition)
}

// NewError returns the error with condition c, the type that RFC 6120
// recommends for it, and a text in English.
func NewError(c Condition, text string) *Error {
	t, ok := conditionType[c]
	if !ok {
		t, c = ErrorCancel, UndefinedCondition
	}
	return &Error{Type: t, Condition: c, Text: text}
}

// NewAppError returns the error with an application condition, and the defined
// condition, type and text that belong to it.
func NewAppError(app AppCondition) *Error {
	t, c := app.defined()
	return &Error{Type: t, Condition: c, Text: app.Error(), App: app}
}

// AsError returns what to answer for err: the [*Error] or [AppCondition] in its
// chain; bad-request for a [*SyntaxError] or an [*xmlpull.SyntaxError], and
// too-large for an [*xmlpull.OversizeError]. For any other error it returns
// internal-server-error without a text, and false: the caller logs err, and
// the peer learns nothing of it.
func AsError(err error) (e *Error, ok bool) {
	if errors.As(err, &e) {
		return e, true
	}
	var app AppCondition
	if errors.As(err, &app) {
		return NewAppError(app), true
	}
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		return NewError(BadRequest, fmt.Sprintf("Malformed <%s/>: %s", syntax.Element, syntax.Reason)), true
	}
	var xml *xmlpull.SyntaxError
	if errors.As(err, &xml) {
		if xml.Class == xmlpull.OverLimit {
			return NewError(PolicyViolation, "The stanza exceeds a limit: "+xml.Reason), true
		}
		return NewError(BadRequest, "The stanza is malformed: "+xml.Reason), true
	}
	var big *xmlpull.OversizeError
	if errors.As(err, &big) {
		return NewAppError(&TooLarge{MaxBytes: uint64(max(big.Max, 0))}), true
	}
	return NewError(InternalServerError, ""), false
}

// Error returns the condition and the text, which is quoted: it may be a
// stranger's.
func (e *Error) Error() string {
	s := "stanza: " + string(e.Type) + ": " + string(e.Condition)
	if e.By != "" {
		s += fmt.Sprintf(" by %q", e.By)
	}
	if e.Text != "" {
		s += fmt.Sprintf(": %q", e.Text)
	} else if e.App != nil {
		s += ": " + e.App.Error()
	}
	return s
}

// Unwrap returns the application condition.
func (e *Error) Unwrap() error {
	if e.App == nil {
		return nil
	}
	return e.App
}

// Is reports whether target is an [*Error] with the same condition and no more
// than that: errors.Is(err, &Error{Condition: Conflict}).
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Condition == e.Condition && t.Type == "" && t.App == nil
}

// Append appends the <error/> element, in the namespace of the stanza around
// it.
func (e *Error) Append(dst []byte) []byte {
	typ, cond := e.Type, e.Condition
	if _, ok := conditionType[cond]; !ok {
		cond = UndefinedCondition
	}
	if !validErrorType(string(typ)) {
		typ = conditionType[cond]
	}
	dst = start(dst, "error")
	dst = attr(dst, "type", string(typ))
	dst = attrOpt(dst, "by", e.By)
	dst = append(dst, '>')
	dst = open(dst, NSStanzas, string(cond))
	if e.Address != "" && (cond == Gone || cond == Redirect) {
		dst = append(dst, '>')
		dst = xmlpull.AppendText(dst, e.Address)
		dst = end(dst, string(cond))
	} else {
		dst = append(dst, "/>"...)
	}
	if e.Text != "" {
		lang := e.Lang
		if lang == "" {
			lang = "en"
		}
		dst = open(dst, NSStanzas, "text")
		dst = attr(dst, "xml:lang", lang)
		dst = append(dst, '>')
		dst = xmlpull.AppendText(dst, e.Text)
		dst = end(dst, "text")
	}
	if e.App != nil {
		dst = e.App.Append(dst)
	}
	return end(dst, "error")
}

func validErrorType(t string) bool {
	switch ErrorType(t) {
	case ErrorAuth, ErrorCancel, ErrorContinue, ErrorModify, ErrorWait:
		return true
	}
	return false
}

// Parse reads an <error/> element of any stanza namespace. It is lenient where
// servers are known to be careless: an unknown type becomes cancel, an unknown
// condition undefined-condition, and a malformed application condition is
// dropped.
func (e *Error) Parse(el Element) error {
	*e = Error{Type: ErrorCancel, Condition: UndefinedCondition}
	d := dec{el: el}
	if string(el.Local()) != "error" || !isStanzaNS(el.Space()) {
		d.fail("not a stanza error")
		return d.err
	}
	if t, _ := el.Attr("type"); validErrorType(string(t)) {
		e.Type = ErrorType(t)
	}
	e.By = d.jidOpt("by", "")
	texts := 0
	for c := el.First(); c.Valid(); c = c.Next() {
		switch {
		case string(c.Space()) == NSStanzas && string(c.Local()) == "text":
			// Several texts differ in language: the first one, or the English one.
			lang, _ := c.AttrNS(xmlpull.NSXML, "lang")
			if texts++; texts == 1 || string(lang) == "en" && e.Lang != "en" {
				e.Text, e.Lang = d.textOf(c, MaxText, ""), string(lang)
			}
		case string(c.Space()) == NSStanzas:
			if _, ok := conditionType[Condition(c.Local())]; ok && e.Condition == UndefinedCondition {
				e.Condition = Condition(c.Local())
				if e.Condition == Gone || e.Condition == Redirect {
					e.Address = d.textOf(c, MaxJID+16, "")
				}
			}
		case string(c.Space()) == NSErrors && e.App == nil:
			if app := newAppCondition(string(c.Local())); app != nil && app.Parse(c) == nil {
				e.App = app
			}
		}
	}
	return d.err
}

// newAppCondition returns an empty condition by its XML name, or nil. The types
// are in the files condition_*.go.
func newAppCondition(local string) AppCondition {
	for _, p := range registry[NSErrors+" "+local] {
		if c, ok := p.New().(AppCondition); ok {
			return c
		}
	}
	return nil
}
