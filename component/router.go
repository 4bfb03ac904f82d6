// SPDX-License-Identifier: Apache-2.0

package component

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
	"github.com/lockstep-im/lockstep/stanza/groupdata"
	"github.com/lockstep-im/lockstep/stanza/xmlpull"
)

// This file decides what happens to a stanza: which handler gets it, in which
// order, and that each request has exactly one answer.
//
//	link reader ──► receive ──► group's own goroutine   requests that change a group
//	                       └──► worker of the sender    everything else
//
// The reader never blocks: what finds no room is answered "retry".

// parseLimits bound what a stanza costs before a handler has agreed to it.
var parseLimits = xmlpull.Limits{MaxDepth: 32, MaxAttrs: 32, MaxNodes: 4096}

var parsers = sync.Pool{New: func() any { return stanza.NewParser(componentContext, parseLimits) }}

// componentContext holds the namespaces that a component stream's stanzas
// inherit: the server's header declares the same.
var componentContext = xmlpull.NewContext(stanza.NSComponent)

// A request is an IQ get or set on its way to its one answer.
type request struct {
	svc     *Service
	ctx     context.Context
	parser  *stanza.Parser
	st      stanza.Stanza
	from    addr
	to      addr
	payload stanza.Element
	verb    *verb
	size    int64
	arrived time.Time
	replied bool
	counted bool // a message has taken its token: it may be tried more than once
}

// respond sends the result. It may be called by a handler before it returns, to
// answer before the fan-out; the second answer to a request is a fault.
func (r *request) respond(p stanza.Payload) {
	if r.replied {
		panic("component: internal error: second answer to a request")
	}
	b := stanza.AppendResult(nil, &r.st, p)
	if len(b) > r.svc.limits.MaxStanza {
		r.svc.log.Error("component: internal error: an answer is too large", "verb", r.verbName(), "bytes", len(b))
		r.fail(&stanza.TooLarge{MaxBytes: uint64(r.svc.limits.MaxStanza)})
		return
	}
	r.replied = true
	r.svc.link.send(prioAnswer, b)
	r.count("ok")
}

// fail sends the error that err stands for.
func (r *request) fail(err error) {
	if r.replied {
		r.svc.log.Error("request failed after its answer", "verb", r.verbName(), "error", err)
		return
	}
	r.replied = true
	e := r.svc.refusal(err, r)
	b := stanza.AppendError(nil, &r.st, e)
	if len(b) > r.svc.limits.MaxStanza { // it tells too much; silence would be worse
		r.svc.log.Error("component: internal error: a refusal is too large", "verb", r.verbName(), "condition", e.Condition, "bytes", len(b))
		b = stanza.AppendError(nil, &r.st, &stanza.Error{Type: e.Type, Condition: e.Condition, Text: bound(e.Text, 1<<10)})
	}
	r.svc.link.send(prioAnswer, b)
	r.count(string(e.Condition))
}

func (r *request) verbName() string {
	if r.verb == nil {
		return "unknown"
	}
	return r.verb.name
}

func (r *request) count(result string) {
	r.svc.metrics.requests.WithLabelValues(r.verbName(), result).Inc()
	r.svc.metrics.seconds.WithLabelValues(r.verbName()).Observe(time.Since(r.arrived).Seconds())
}

// refusal turns an error into what may be told. What may not be told is logged.
func (s *Service) refusal(err error, r *request) *stanza.Error {
	var re *groupdata.RuleError
	var ce *store.ConflictError
	switch {
	case errors.As(err, &re):
		if re.Need != groupdata.None {
			e := stanza.NewAppError(&stanza.InsufficientAffiliation{Need: stanza.Role(re.Need.String())})
			e.Text = re.Reason
			return e
		}
		return &stanza.Error{Type: stanza.ErrorAuth, Condition: stanza.Forbidden, Text: re.Reason}
	case errors.Is(err, store.ErrUnknownOutcome), ranOut(err):
		// Where time ran out, nobody looked whether the change had been made.
		s.metrics.storeErrs.WithLabelValues("unknown-outcome").Inc()
		s.trouble("the store lost an answer", r, err)
		e := stanza.NewAppError(&stanza.RetryAfter{After: 2 * time.Second})
		e.Text = "The outcome is unknown. Submit the same bytes again, or look for their ref in the log."
		return e
	case inTrouble(err):
		s.metrics.storeErrs.WithLabelValues("unavailable").Inc()
		s.trouble("the store is unavailable", r, err)
		e := stanza.NewAppError(&stanza.RetryAfter{After: 5 * time.Second})
		e.Text = "The service cannot write to its database now. Nothing was changed; try again."
		return e
	case errors.As(err, &ce):
		s.metrics.storeErrs.WithLabelValues("conflict").Inc()
		return stanza.NewAppError(&stanza.RetryAfter{After: time.Second})
	}
	e, ok := stanza.AsError(err)
	if !ok {
		s.metrics.storeErrs.WithLabelValues("other").Inc()
		s.trouble("request failed", r, err)
		e.Text = "The service failed. Its operator can find the reason in the log."
	}
	return e
}

// trouble logs why a request was refused that is not at fault. A store that is in
// trouble refuses all of them, and a log that tells each would fill the disk that is
// full: one a second stands for the others.
func (s *Service) trouble(what string, r *request, err error) {
	now, last := time.Now().UnixNano(), s.troubled.Load()
	if now-last < int64(time.Second) || !s.troubled.CompareAndSwap(last, now) {
		s.untold.Add(1)
		return
	}
	s.log.Error(what, "verb", r.verbName(), "error", err, "untold", s.untold.Swap(0))
}

// inTrouble reports whether the store, not the request, is what failed.
func inTrouble(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrReadOnly) || errors.Is(err, store.ErrClosed) || ranOut(err)
}

func ranOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// receive takes a stanza from the link. The bytes are its own.
func (s *Service) receive(raw []byte, ctx *xmlpull.Context) {
	defer s.caught("receiving a stanza") // a fault of ours must not end the link
	parser := parsers.Get().(*stanza.Parser)
	st, err := parser.Parse(raw)
	if err != nil {
		parsers.Put(parser)
		s.metrics.dropped.WithLabelValues("malformed").Inc()
		if head, herr := stanza.ParseHead(raw, ctx); herr == nil {
			s.refuseEarly(&head, err)
		}
		return
	}
	// What a stanza holds is its bytes, and what they were parsed into: of tags
	// that is twenty times as much.
	if !s.dispatch(parser, st, int64(len(raw)+parser.MemSize())) {
		parsers.Put(parser)
	}
}

// receiveOversize answers a stanza that was too large to keep.
func (s *Service) receiveOversize(head []byte, size int64, ctx *xmlpull.Context) {
	if st, err := stanza.ParseHead(head, ctx); err == nil {
		s.refuseEarly(&st, &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxStanza)})
	}
}

// refuseEarly answers a request that no handler will see.
func (s *Service) refuseEarly(st *stanza.Stanza, err error) {
	if !st.IsRequest() || len(st.From) == 0 || len(st.From) > maxAddr || len(st.ID) > iqIDMax {
		return
	}
	if len(st.To) == 0 || len(st.To) > maxAddr {
		return // our own address is not known: the server would refuse the answer
	}
	e, ok := stanza.AsError(err)
	if !ok {
		e = stanza.NewError(stanza.InternalServerError, "")
	}
	s.link.send(prioAnswer, stanza.AppendError(nil, st, e))
	s.metrics.requests.WithLabelValues("unknown", string(e.Condition)).Inc()
}

var errBadFrom = &stanza.Error{Type: stanza.ErrorModify, Condition: stanza.JIDMalformed, Text: "Your address does not follow RFC 7622; this service cannot tell you apart from others."}

var errBadTo = &stanza.Error{Type: stanza.ErrorModify, Condition: stanza.JIDMalformed, Text: "The address that this was sent to does not follow RFC 7622; nothing has it here."}

// ours reports whether an address that RFC 7622 rejects is one of this
// service's domain all the same: its server let it through, and whoever wrote
// it waits for an answer.
func (s *Service) ours(to string) bool {
	to, _, _ = strings.Cut(to, "/")
	_, domain, ok := strings.Cut(to, "@")
	return ok && strings.EqualFold(domain, s.domain.domain)
}

// dispatch decides what a stanza is. It reports whether the parser is in use
// beyond the call.
func (s *Service) dispatch(parser *stanza.Parser, st stanza.Stanza, size int64) bool {
	s.metrics.stanzasIn.WithLabelValues(kindLabel(st.Kind)).Inc()
	if st.Kind == stanza.Other {
		return false
	}
	to, err := parseAddr(string(st.To))
	if err != nil && s.ours(string(st.To)) {
		s.metrics.dropped.WithLabelValues("bad-address").Inc()
		s.refuseEarly(&st, errBadTo)
		return false
	}
	if err != nil || to.domain != s.domain.domain {
		s.metrics.dropped.WithLabelValues("bad-address").Inc()
		return false // not for us: a server that routes it here is at fault
	}
	from, err := parseAddr(string(st.From))
	if err != nil {
		s.metrics.dropped.WithLabelValues("bad-address").Inc()
		s.refuseEarly(&st, errBadFrom)
		return false
	}
	switch st.Kind {
	case stanza.Presence:
		return s.dispatchPresence(parser, st, from, to, size)
	case stanza.Message:
		s.receiveMessage(&st, from, to, size)
		return false
	}
	if !st.IsRequest() {
		s.iq.answer(from, &st)
		return false
	}
	r := &request{svc: s, ctx: s.base, parser: parser, st: st, from: from, to: to, size: size, arrived: time.Now()}
	if r.payload, err = st.Payload(); err != nil {
		s.refuseEarly(&st, err)
		return false
	}
	if len(st.ID) > iqIDMax {
		s.refuseEarly(&st, &stanza.SyntaxError{Element: "iq", Reason: "the id is too long"})
		return false
	}
	r.verb = findVerb(r)
	if err := s.admit(r); err != nil {
		r.fail(err)
		return false
	}
	if r.verb == nil {
		r.fail(stanza.NewError(stanza.ServiceUnavailable, "This service does not know this request."))
		return false
	}
	s.requests.Add(1)
	s.metrics.inFlight.Set(float64(s.inFlight.add(s.sender(from), size)))
	ok := false
	if r.verb.group != nil {
		ok = s.groups.submit(to.bare, r)
	} else {
		ok = s.workers.submit(from.bare, func() { s.serve(r, func() (stanza.Payload, error) { return r.verb.handle(s, r) }) })
	}
	if !ok {
		s.metrics.dropped.WithLabelValues("inbox-full").Inc()
		r.fail(&stanza.RetryAfter{After: time.Second})
		s.finish(r)
	}
	return true
}

// finish lets go of what a request holds.
func (s *Service) finish(r *request) {
	s.inFlight.add(s.sender(r.from), -r.size)
	parsers.Put(r.parser)
	r.parser = nil
	s.requests.Add(-1)
}

// serve runs a handler and answers. It is the one place that recovers: a fault
// of ours costs one request, is counted, and wakes the operator.
func (s *Service) serve(r *request, handle func() (stanza.Payload, error)) {
	defer s.finish(r)
	ctx, cancel := context.WithTimeout(s.base, requestTimeout)
	defer cancel()
	r.ctx = ctx
	defer s.recover(r)
	p, err := handle()
	switch {
	case err != nil:
		r.fail(err)
	case !r.replied:
		r.respond(p)
	}
}

// requestTimeout bounds the work on one request. It ends waits for a database
// that is stuck; the sender has given up by then.
const requestTimeout = 30 * time.Second

func (s *Service) recover(r *request) {
	v := recover()
	if v == nil {
		return
	}
	s.metrics.panics.Inc()
	s.log.Error("panic in a handler", "verb", r.verbName(), "panic", v, "stack", string(debug.Stack()))
	if !r.replied {
		r.replied = true
		s.link.send(prioAnswer, stanza.AppendError(nil, &r.st, stanza.NewError(stanza.InternalServerError, "The service failed. Its operator can find the reason in the log.")))
		r.count(string(stanza.InternalServerError))
	}
}

// guard runs background work with the same net below it.
func (s *Service) guard(what string, f func()) {
	defer s.caught(what)
	f()
}

// caught is deferred by what must go on after a fault of ours.
func (s *Service) caught(what string) {
	if v := recover(); v != nil {
		s.metrics.panics.Inc()
		s.log.Error("panic in the background", "what", what, "panic", v, "stack", string(debug.Stack()))
	}
}

// admit applies what holds for every request: maintenance, the size of what is
// under way, and the rates.
func (s *Service) admit(r *request) error {
	if s.draining.Load() {
		return &stanza.Maintenance{After: 10 * time.Second}
	}
	if until := s.maint.Load(); until != 0 && !s.admins[r.from.bare] && (r.verb == nil || !r.verb.always) {
		if left := time.Unix(until, 0).Sub(s.now()); left > 0 {
			return &stanza.Maintenance{After: max(left, time.Second)}
		}
	}
	if !s.inFlight.room(s.sender(r.from), r.size, s.limits.MaxInFlight) {
		s.metrics.dropped.WithLabelValues("in-flight").Inc()
		return &stanza.RetryAfter{After: 2 * time.Second}
	}
	if err := s.limit(r.from, r.size); err != nil {
		return err
	}
	if s.settings.bannedDomain(r.from.domain) && !s.admins[r.from.bare] {
		return stanza.NewError(stanza.ServiceUnavailable, "")
	}
	return nil
}

func kindLabel(k stanza.Kind) string {
	switch k {
	case stanza.IQ, stanza.Message, stanza.Presence:
		return k.String()
	}
	return "other"
}

// receiveMessage takes a message. Nothing that matters comes in messages: what
// bounces ends a live session, everything else gets an error that says what to
// use.
func (s *Service) receiveMessage(st *stanza.Stanza, from, to addr, size int64) {
	switch st.Type {
	case stanza.TypeError:
		s.multi.refused(s, from.bare, st.ID)
		s.sessionBounced(from, to, st)
	case stanza.TypeHeadline:
	default:
		if s.limit(from, size) != nil {
			return
		}
		if st.Body() == nil && !st.Child(stanza.NSMLS, "mls").Valid() {
			return // chat states, receipts and the like
		}
		s.link.send(prioAnswer, stanza.AppendError(nil, st, &stanza.Error{Type: stanza.ErrorCancel, Condition: stanza.FeatureNotImplemented,
			Text: "This group is end-to-end encrypted with MLS: it takes messages only from a client that knows " + stanza.NSDelivery + "."}))
	}
}
