// SPDX-License-Identifier: Apache-2.0

package component

import (
	"testing"
	"time"
)

// TestClockJump: what NTP does is no jump, a wrong year is.
func TestClockJump(t *testing.T) {
	for _, tc := range []struct{ wall, passed, want time.Duration }{
		{time.Minute, time.Minute, 0},
		{time.Minute + time.Second, time.Minute, 0},
		{time.Hour, time.Minute, 59 * time.Minute},
		{-24 * time.Hour, 0, -24 * time.Hour},
	} {
		if got := clockJump(tc.wall, tc.passed); got != tc.want {
			t.Errorf("%v on the wall, %v passed: jump of %v, want %v", tc.wall, tc.passed, got, tc.want)
		}
	}
}
