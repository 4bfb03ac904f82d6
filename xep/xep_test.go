// SPDX-License-Identifier: Apache-2.0

package xep

import "testing"

func TestExamplesAreFound(t *testing.T) {
	ex, err := Examples("mls.xml")
	if err != nil {
		t.Fatal(err)
	}
	if len(ex) == 0 {
		t.Fatal("mls.xml has no examples")
	}
}
