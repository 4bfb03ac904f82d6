// SPDX-License-Identifier: Apache-2.0

package client

import (
	"time"

	"github.com/lockstep-im/lockstep/mls"
)

// SetFail makes cfg call fn at the named places between two steps.
func SetFail(cfg *Config, fn func(point string)) { cfg.fail = fn }

// SetObserve makes cfg show fn each new epoch's state of every group.
func SetObserve(cfg *Config, fn func(*mls.Group)) { cfg.observe = fn }

// SetMaintain makes cfg do its housekeeping every d.
func SetMaintain(cfg *Config, d time.Duration) { cfg.maintainEvery = d }
