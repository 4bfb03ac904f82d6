// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-im/lockstep/mls"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file compares the clock of this machine with that of others: when it is far
// off, key packages that are made here are refused, and those of others seem to be.

// clockSkew is by how much clocks may differ before it is worth a word.
const clockSkew = 2 * time.Minute

// clockOff is how much an entity's clock is ahead of this machine's (XEP-0202).
func (c *Client) clockOff(ctx context.Context, of string) (time.Duration, error) {
	var at stanza.EntityTime
	sent := c.cfg.clock()
	if err := c.ask(ctx, "get", of, &stanza.TimeQuery{}, &at); err != nil {
		return 0, err
	}
	return at.Time.Sub(sent.Add(c.cfg.clock().Sub(sent) / 2)), nil
}

// clockWords says that clocks differ, and is empty if they hardly do.
func clockWords(of string, off time.Duration) string {
	if off.Abs() <= clockSkew {
		return ""
	}
	by, way := off.Abs().Round(time.Second).String(), "behind"
	if off.Abs() > 48*time.Hour {
		by = fmt.Sprintf("%.0f days", off.Abs().Hours()/24)
	}
	if off < 0 {
		way = "ahead of"
	}
	return fmt.Sprintf("the clock of this machine is %s %s that of %s", by, way, of)
}

// blameClock names the clock in err if it is wrong.
func (c *Client) blameClock(ctx context.Context, of string, err error) error {
	off, e := c.clockOff(ctx, of)
	if words := clockWords(of, off); e == nil && words != "" {
		return fmt.Errorf("client: %s, set it: %w", words, err)
	}
	return err
}

// isExpired reports whether a key package was refused here for its lifetime.
func isExpired(err error) bool {
	var v *mls.ValidationError
	return errors.As(err, &v) && (v.Rule == mls.RuleLeafExpired || v.Rule == mls.RuleLeafExpiredSending)
}
