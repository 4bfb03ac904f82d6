// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Errors that a caller can act on.
var (
	// ErrUnknownGroup: the message belongs to another group.
	ErrUnknownGroup = errors.New("mls: message of another group")
	// ErrEpochPast: the message belongs to an epoch that ended, and whose keys are
	// gone.
	ErrEpochPast = errors.New("mls: message of a past epoch")
	// ErrEpochFuture: the message belongs to an epoch that has not begun here:
	// process the commits before it first.
	ErrEpochFuture = errors.New("mls: message of a future epoch")
	// ErrReplay: the key of the message was used or deleted already.
	ErrReplay = errors.New("mls: message was processed before")
	// ErrTooFarAhead: the message skips more generations than the limits allow.
	ErrTooFarAhead = errors.New("mls: message skips too many generations")
	// ErrMissingProposal: a commit refers to a proposal that was not received.
	// Process it first, then the commit again.
	ErrMissingProposal = errors.New("mls: commit refers to a proposal that was not received")
	// ErrPendingProposals: application data must wait until the proposals that were
	// received are committed, or dropped by ClearProposals (RFC 9420 §12.4).
	ErrPendingProposals = errors.New("mls: proposals are pending: commit before sending application data")
	// ErrMissingPSK: a pre-shared key is not at hand.
	ErrMissingPSK = errors.New("mls: pre-shared key is not available")
)

// Retryable reports whether the same message may succeed later: after another
// message was processed, or a pre-shared key was found.
func Retryable(err error) bool {
	return errors.Is(err, ErrEpochFuture) || errors.Is(err, ErrMissingProposal) || errors.Is(err, ErrMissingPSK)
}

// A Rule is the stable id of a validation rule: "valnNNNN" of the list that is
// common to MLS implementations, or a name of our own.
type Rule string

// A ValidationError says which rule an object breaks. Get it with errors.As.
type ValidationError struct {
	Rule   Rule
	Reason string
	Err    error // what lies below, nil for most rules
}

func (e *ValidationError) Error() string {
	text := "mls: " + e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if section := e.Rule.Section(); section != "" {
		return fmt.Sprintf("%s (%s, %s)", text, section, e.Rule)
	}
	return fmt.Sprintf("%s (%s)", text, e.Rule)
}

func (e *ValidationError) Unwrap() error { return e.Err }

// invalid makes a [ValidationError].
func invalid(rule Rule, format string, args ...any) error {
	return &ValidationError{Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

// broken makes a [ValidationError] from an error below.
func broken(rule Rule, err error, format string, args ...any) error {
	return &ValidationError{Rule: rule, Reason: fmt.Sprintf(format, args...), Err: err}
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

func hexString(b []byte) string { return hex.EncodeToString(b) }
