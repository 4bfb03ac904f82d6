// SPDX-License-Identifier: Apache-2.0

package stanza

// This file holds the conditions about MLS objects: what is in them, and whom
// they are of.

// InvalidMessage refuses an MLS object that is malformed or that members would
// refuse: bad-request, modify. Resubmitting it cannot help; a client drops
// its pending change and reports a bug.
//
//	<invalid-message xmlns='urn:xmpp:mls:errors:0' part='welcome' reason='it is for 2 key packages, the commit adds 3'/>
//
// Source: xep/mls-delivery.xml#errors.
type InvalidMessage struct {
	// Reason says in a few English words what is wrong, for humans: a program
	// looks at Part, Index and Rule.
	Reason string
	// Part names the element that held the object: message, welcome,
	// group-info, key-package. Empty means the only one.
	Part string
	// Index is which key package of a batch it is, from 0, if Part is
	// key-package. Elsewhere it is neither written nor read, and -1 after Parse.
	Index int
	// Rule is the rule that was broken, such as "RFC 9420 §7.3", empty if none
	// is named.
	Rule string
}

// partKeyPackage is the part of which there are several.
const partKeyPackage = "key-package"

func (e *InvalidMessage) Error() string {
	s := "The MLS message is not valid: " + e.Reason
	if e.Part != "" {
		s = "The " + e.Part + " is not valid: " + e.Reason
	}
	if e.Rule != "" {
		s += " (" + e.Rule + ")"
	}
	return s
}

func (*InvalidMessage) defined() (ErrorType, Condition) { return ErrorModify, BadRequest }

// Append appends the element.
func (e *InvalidMessage) Append(dst []byte) []byte {
	dst = open(dst, NSErrors, "invalid-message")
	dst = attr(dst, "reason", e.Reason)
	dst = attrOpt(dst, "part", e.Part)
	if e.Index >= 0 && e.Part == partKeyPackage {
		dst = attrUint(dst, "index", uint64(e.Index))
	}
	dst = attrOpt(dst, "rule", e.Rule)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *InvalidMessage) Parse(el Element) error {
	d := expect(el, NSErrors, "invalid-message")
	d.noText()
	e.Reason = d.str("reason", MaxID, e.Reason)
	e.Part = d.strOpt("part", MaxID, e.Part)
	e.Rule = d.strOpt("rule", MaxID, e.Rule)
	e.Index = -1
	if _, ok := el.Attr("index"); ok && e.Part == partKeyPackage {
		e.Index = int(d.uint("index", MaxItems))
	}
	return d.err
}

// GroupInfoMismatch refuses a commit whose GroupInfo does not describe the
// group that the commit makes: bad-request, modify. The client builds it again.
//
//	<group-info-mismatch xmlns='urn:xmpp:mls:errors:0'/>
//
// Source: xep/mls-delivery.xml#errors.
type GroupInfoMismatch struct{}

func (*GroupInfoMismatch) Error() string {
	return "The GroupInfo does not match the group after the commit"
}

func (*GroupInfoMismatch) defined() (ErrorType, Condition) { return ErrorModify, BadRequest }

// Append appends the element.
func (*GroupInfoMismatch) Append(dst []byte) []byte {
	return appendEmpty(dst, NSErrors, "group-info-mismatch")
}

// Parse reads the element.
func (*GroupInfoMismatch) Parse(el Element) error {
	return parseEmpty(el, NSErrors, "group-info-mismatch")
}

// CredentialMismatch refuses an object whose credential names another user than
// the stanza's from: not-authorized, auth. It is a fault of configuration.
//
//	<credential-mismatch xmlns='urn:xmpp:mls:errors:0'/>
//
// Source: xep/mls-delivery.xml#errors.
type CredentialMismatch struct{}

func (*CredentialMismatch) Error() string {
	return "The credential does not name the sender's address"
}

func (*CredentialMismatch) defined() (ErrorType, Condition) { return ErrorAuth, NotAuthorized }

// Append appends the element.
func (*CredentialMismatch) Append(dst []byte) []byte {
	return appendEmpty(dst, NSErrors, "credential-mismatch")
}

// Parse reads the element.
func (*CredentialMismatch) Parse(el Element) error {
	return parseEmpty(el, NSErrors, "credential-mismatch")
}

// Unsupported refuses a cipher suite, extension, credential or feature that the
// DS or the group does not have: not-acceptable, modify.
//
//	<unsupported xmlns='urn:xmpp:mls:errors:0' what='cipher-suite' value='0x0005'/>
//
// Source: xep/mls-delivery.xml#errors.
type Unsupported struct {
	// What is the kind: cipher-suite, extension, credential, proposal,
	// wire-format, version.
	What string
	// Value is which one, usually a number of the form 0x0001. It may be empty.
	Value string
}

func (e *Unsupported) Error() string {
	return "The " + e.What + " " + e.Value + " is not supported here, see the limits in the service's disco#info"
}

func (*Unsupported) defined() (ErrorType, Condition) { return ErrorModify, NotAcceptable }

// Append appends the element.
func (e *Unsupported) Append(dst []byte) []byte {
	dst = open(dst, NSErrors, "unsupported")
	dst = attr(dst, "what", e.What)
	dst = attrOpt(dst, "value", e.Value)
	return append(dst, "/>"...)
}

// Parse reads the element.
func (e *Unsupported) Parse(el Element) error {
	d := expect(el, NSErrors, "unsupported")
	d.noText()
	e.What = d.str("what", MaxID, e.What)
	e.Value = d.strOpt("value", MaxID, e.Value)
	return d.err
}
