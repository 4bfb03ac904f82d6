// SPDX-License-Identifier: Apache-2.0

package component

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator sees. No label ever holds an address, a group or
// anything else that a stranger chooses: each label's values are listed here.
// alerts.yaml has the rules that go with them.
type metrics struct {
	linkUp     prometheus.Gauge
	linkErrors *prometheus.CounterVec // condition: conflict, not-authorized, host-unknown, policy-violation, not-well-formed, system-shutdown, invalid-from, improper-addressing, other-stream-error, closed, network
	bytesIn    prometheus.Counter
	bytesOut   prometheus.Counter
	stanzasIn  *prometheus.CounterVec // kind: iq, message, presence, other
	stanzasOut prometheus.Counter
	dropped    *prometheus.CounterVec // reason: link-down, queue-full-answer, queue-full-event, write-failed, oversize, too-large-to-send, malformed, bad-address, in-flight, inbox-full
	panics     prometheus.Counter
	requests   *prometheus.CounterVec   // verb: see verbs in router.go; result: ok, or an RFC 6120 §8.3.3 condition
	seconds    *prometheus.HistogramVec // verb
	accepted   *prometheus.CounterVec   // kind: application, proposal, commit, control, ephemeral
	stale      prometheus.Counter
	invalid    *prometheus.CounterVec // kind: commit, proposal, key-package, group-info, welcome
	deliveries prometheus.Counter
	nudges     *prometheus.CounterVec // kind: live, stored
	claims     *prometheus.CounterVec // status: ok, last-resort, exhausted, incompatible, unavailable
	limited    *prometheus.CounterVec // limit: requests, domain, send, claims, claimed, domain-claims, domain-key-packages, create, reports, invites
	welcomes   *prometheus.CounterVec // event: stored, delivered, notified, refused, failed
	removals   *prometheus.CounterVec // reason: outcast, idle, purged, left
	iqTimeouts prometheus.Counter
	storeErrs  *prometheus.CounterVec // kind: unavailable, unknown-outcome, conflict, other
	failing    prometheus.Gauge
	loaded     prometheus.Gauge
	inFlight   prometheus.Gauge
	stored     *prometheus.GaugeVec   // what: groups, members, entries, nodes, devices, key_packages, welcomes, sessions, nudges, uploads, reports, bytes, domain_key_packages (of the other domain that has most)
	cleaned    *prometheus.CounterVec // what: entries, snapshots, nodes, key_packages, claims, welcomes, uploads, names
}

func newMetrics(r prometheus.Registerer) *metrics {
	const ns = "lockstep"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: name, Help: help})
	}
	m := &metrics{
		linkUp:     gauge("link_up", "1 while the link to the XMPP server is up."),
		linkErrors: vec("link_errors_total", "Ends of the link and failed attempts, by stream error condition.", "condition"),
		bytesIn:    counter("link_received_bytes_total", "Bytes of stanzas received."),
		bytesOut:   counter("link_sent_bytes_total", "Bytes written."),
		stanzasIn:  vec("stanzas_received_total", "Stanzas received, by kind.", "kind"),
		stanzasOut: counter("stanzas_sent_total", "Stanzas written."),
		dropped:    vec("stanzas_dropped_total", "Stanzas that were not delivered or not read, by reason.", "reason"),
		panics:     counter("panics_total", "Requests that failed by a fault of the program. Alert on any."),
		requests:   vec("requests_total", "Requests answered, by verb and result.", "verb", "result"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Name: "request_seconds", Help: "Time from the arrival of a request to its answer, by verb.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}}, []string{"verb"}),
		accepted:   vec("log_entries_total", "Log entries accepted, and ephemeral messages relayed, by kind.", "kind"),
		stale:      counter("stale_commits_total", "Commits that lost the race for their epoch."),
		invalid:    vec("invalid_total", "MLS objects refused because they are invalid, by kind.", "kind"),
		deliveries: counter("deliveries_total", "Live deliveries queued for sessions."),
		nudges:     vec("nudges_total", "Nudges sent, by kind.", "kind"),
		claims:     vec("key_package_claims_total", "Answers for claimed devices and users, by status.", "status"),
		limited:    vec("rate_limited_total", "Requests refused because of a rate limit.", "limit"),
		welcomes:   vec("welcomes_total", "What happened to welcomes.", "event"),
		removals:   vec("removals_proposed_total", "Removals that the service proposed, by reason.", "reason"),
		iqTimeouts: counter("own_requests_timed_out_total", "Requests of the service itself that nobody answered."),
		storeErrs:  vec("store_errors_total", "Failed store operations, by kind.", "kind"),
		failing:    gauge("store_failing", "1 while the last write to the store failed."),
		loaded:     gauge("groups_loaded", "Groups held in memory."),
		inFlight:   gauge("in_flight_bytes", "Bytes of requests that are being worked on."),
		stored:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Name: "stored", Help: "What the store holds."}, []string{"what"}),
		cleaned:    vec("cleaned_total", "Expired rows removed from the store.", "what"),
	}
	if r != nil {
		r.MustRegister(m.linkUp, m.linkErrors, m.bytesIn, m.bytesOut, m.stanzasIn, m.stanzasOut, m.dropped, m.panics,
			m.requests, m.seconds, m.accepted, m.stale, m.invalid, m.deliveries, m.nudges, m.claims, m.limited,
			m.welcomes, m.removals, m.iqTimeouts, m.storeErrs, m.failing, m.loaded, m.inFlight, m.stored, m.cleaned)
	}
	// Counters that alerts look at exist from the start.
	for _, reason := range []string{"link-down", "queue-full-answer", "queue-full-event", "write-failed", "oversize", "too-large-to-send", "malformed", "bad-address", "in-flight", "inbox-full"} {
		m.dropped.WithLabelValues(reason)
	}
	for _, kind := range []string{"unavailable", "unknown-outcome", "conflict", "other"} {
		m.storeErrs.WithLabelValues(kind)
	}
	return m
}
