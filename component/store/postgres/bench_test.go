// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"testing"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/postgres/pgtest"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, b.TempDir(), func(b *testing.B) store.Store { return openTest(b, pgtest.DSN(b)) })
}
