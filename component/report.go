// SPDX-License-Identifier: Apache-2.0

package component

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// ReportEvidence is the evidence of a report, as an operator gets it: what the
// reporter sent, and the bytes of the log entry that the chain commits the
// service to, so that neither side can change its story. It is kept as JSON in
// store.Report.
type ReportEvidence struct {
	Kind     stanza.ReportKind
	User     string            `json:",omitempty"`
	Epoch    uint64            `json:",omitempty"`
	Ref      string            `json:",omitempty"`
	Entry    []byte            `json:",omitempty"` // from the log
	Chain    string            `json:",omitempty"` // after the entry
	Sender   string            `json:",omitempty"` // as far as the service keeps it
	Evidence []stanza.Evidence `json:",omitempty"`
}

// ParseReport reads the evidence of a stored report.
func ParseReport(r *store.Report) (*ReportEvidence, error) {
	var ev ReportEvidence
	if err := json.Unmarshal(r.Evidence, &ev); err != nil {
		return nil, fmt.Errorf("component: reading the evidence of report %d: %w", r.ID, err)
	}
	return &ev, nil
}

// report takes a report of abuse, of a commit that members cannot process, or of
// a fork (XEP-0377; RFC 9750 §5.3).
func report(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Report](r.payload)
	if err != nil {
		return nil, err
	}
	if len(in.Text) > reportText {
		return nil, &stanza.TooLarge{MaxBytes: reportText}
	}
	if wait := s.rates.reports.take(r.from.bare, 1, s.now()); wait > 0 {
		s.metrics.limited.WithLabelValues("reports").Inc()
		return nil, &stanza.RetryAfter{After: wait}
	}
	ev := ReportEvidence{Kind: in.Kind, User: in.User, Epoch: in.Epoch, Evidence: in.Evidence}
	if !in.Ref.IsZero() {
		ev.Ref = in.Ref.String()
	}
	size := 0
	for _, e := range in.Evidence {
		size += len(e.Bytes)
	}
	if size > s.limits.MaxPage {
		return nil, &stanza.TooLarge{MaxBytes: uint64(s.limits.MaxPage)}
	}
	var id int64
	err = s.store.Update(r.ctx, func(tx store.Tx) error {
		read, err := s.mayRead(r.ctx, tx, r, stanza.DeviceID{})
		if err != nil {
			return err
		}
		if in.Seq != 0 && in.Seq >= read.from && (read.through == 0 || in.Seq <= read.through) {
			e, err := entryAt(tx, read.row.Key, in.Seq)
			var te *store.TruncatedError
			switch {
			case errors.Is(err, store.ErrNotFound), errors.As(err, &te):
			case err != nil:
				return err
			default:
				ev.Entry, ev.Chain, ev.Sender = e.Bytes, e.Chain.String(), e.Sender
			}
		}
		raw, err := json.Marshal(&ev)
		if err != nil {
			return err
		}
		reason := in.Reason
		if reason == "" {
			reason = string(in.Kind)
		}
		id, err = tx.AddReport(&store.Report{Stamp: s.stamp(), Reporter: r.from.bare, Group: r.to.bare, Seq: in.Seq, Reason: reason, Text: in.Text, Evidence: raw}, reportsKept)
		return err
	})
	if errors.Is(err, store.ErrQuota) {
		return nil, &stanza.Error{Type: stanza.ErrorWait, Condition: stanza.ResourceConstraint, Text: fmt.Sprintf("%d reports of yours wait for the operator.", reportsKept)}
	}
	if err != nil {
		return nil, err
	}
	s.log.Warn("report received", "id", id, "kind", in.Kind, "group", r.to.bare)
	return nil, nil
}
