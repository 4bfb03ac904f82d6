// SPDX-License-Identifier: Apache-2.0

package play

import "strings"

// NotFor says why the script cannot be played on a kind of world, or "".
func (s *Script) NotFor(w World) string {
	for _, l := range s.Lines {
		if l.Words[0] == "needs" {
			if why := w.Lacks(strings.Join(l.Words[1:], " ")); why != "" {
				return why + " (" + l.Text + ")"
			}
		}
	}
	return ""
}
