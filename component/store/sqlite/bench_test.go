// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/component/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, b.TempDir(), func(b *testing.B) store.Store { return openTest(b, filepath.Join(b.TempDir(), "ds.db")) })
}
