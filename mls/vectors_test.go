// SPDX-License-Identifier: Apache-2.0

package mls

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// vectorDir is where the MLS working group's test vectors are: LOCKSTEP_VECTORS,
// or ../shared/mls-vectors relative to the module. A relative LOCKSTEP_VECTORS is
// one too: go test runs in the package's directory, and who sets it stands in the
// module's.
func vectorDir() string {
	if dir := os.Getenv("LOCKSTEP_VECTORS"); dir != "" {
		if filepath.IsAbs(dir) {
			return dir
		}
		return filepath.Join("..", dir)
	}
	return filepath.Join("..", "..", "shared", "mls-vectors")
}

// loadVectors reads the cases of one official vector file, such as
// "tree-math.json". Without the file the test is skipped by name, unless
// LOCKSTEP_VECTORS is set: who names a directory means it. A file without cases
// that can run is a failure. Cases of a cipher suite that is not implemented, which files from
// elsewhere may have, are skipped by name too.
func loadVectors[T any](t *testing.T, name string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir(), name))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("LOCKSTEP_VECTORS") == "" {
		t.Skipf("OFFICIAL VECTORS NOT RUN: no %s in %s; set LOCKSTEP_VECTORS to the directory of mlswg/mls-implementations/test-vectors", name, vectorDir())
	}
	if err != nil {
		t.Fatalf("reading vectors: %v", err)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatalf("vectors %s: %v", name, err)
	}
	if len(raw) == 0 {
		t.Fatalf("vectors %s: no cases", name)
	}
	var cases []T
	for i, b := range raw {
		var head struct {
			CipherSuite *CipherSuite `json:"cipher_suite"`
		}
		var v T
		if err := errors.Join(json.Unmarshal(b, &head), json.Unmarshal(b, &v)); err != nil {
			t.Fatalf("vectors %s: case %d: %v", name, i, err)
		}
		if cs := head.CipherSuite; cs != nil {
			if _, err := cs.suite(); err != nil {
				t.Run(fmt.Sprintf("%d-suite-0x%04x", i, uint16(*cs)), func(t *testing.T) { t.Skipf("VECTOR NOT RUN: %v", err) })
				continue
			}
		}
		cases = append(cases, v)
	}
	if len(cases) == 0 {
		t.Fatalf("vectors %s: none of %d cases is of a cipher suite that is implemented", name, len(raw))
	}
	return cases
}

// hexBytes is a hex string in a vector file.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// mustSuite returns a cipher suite. A number that we do not implement fails the
// test; loadVectors leaves such cases out.
func mustSuite(t testing.TB, cs CipherSuite) *suite {
	t.Helper()
	s, err := cs.suite()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
