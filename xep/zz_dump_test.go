package xep_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/lockstep-im/lockstep/xep"
)

func TestDump(t *testing.T) {
	f, _ := os.Create("/tmp/gen/statements.txt")
	for _, d := range xep.Documents() {
		l, _ := xep.Statements(d)
		n := map[string]int{}
		for _, s := range l {
			n[s.Section]++
			fmt.Fprintf(f, "%s#%s-%d\t%s\t%s\n", d, s.Section, n[s.Section], s.Level, s.Text)
		}
	}
	f.Close()
}
