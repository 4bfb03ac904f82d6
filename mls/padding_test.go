// SPDX-License-Identifier: Apache-2.0

package mls

import "testing"

// TestPadBuckets pads to the series of sizes that Messaging Layer Security (mls.xml,
// padding) names, each size to the next that holds it.
func TestPadBuckets(t *testing.T) {
	sizes := []int{32, 64, 128, 256}
	for base := 256; base < 1<<17; base *= 2 {
		for q := 1; q <= 4; q++ {
			sizes = append(sizes, base+q*base/4)
		}
	}
	at := 0
	for n := 0; n <= 1<<16; n++ {
		if n > sizes[at] {
			at++
		}
		if got := n + PadBuckets(n); got != sizes[at] {
			t.Fatalf("%d octets become %d, want %d", n, got, sizes[at])
		}
	}
}
