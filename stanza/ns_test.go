// SPDX-License-Identifier: Apache-2.0

package stanza

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestOnePlaceForNamespaces checks that no program of this module spells the
// protocol's namespaces: ns.go does, and tests may.
func TestOnePlaceForNamespaces(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); name != ".." && strings.HasPrefix(name, ".") || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || path == filepath.Join("..", "stanza", "ns.go") {
			return nil
		}
		files++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(lit.Value)
			if err == nil && strings.HasPrefix(s, "urn:xmpp:mls:") {
				t.Errorf("%s spells %q, which package stanza has a constant for", fset.Position(lit.Pos()), s)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files found", files)
	}
}

// TestNamespacesAreDistinct finds a constant that was copied and not changed.
func TestNamespacesAreDistinct(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "ns.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			if other := seen[lit.Value]; other != "" {
				t.Errorf("%s and %s are both %s", other, spec.Names[0], lit.Value)
			}
			seen[lit.Value] = spec.Names[0].Name
		}
		return true
	})
	if len(seen) < 40 {
		t.Errorf("only %d constants found", len(seen))
	}
}
