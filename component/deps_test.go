// SPDX-License-Identifier: Apache-2.0

package component

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// forbidden says what the service must not import, and why.
var forbidden = map[string]string{
	"github.com/lockstep-im/lockstep/client":      "the two sides never import each other: they agree on the wire and on stanza/groupdata",
	"github.com/lockstep-im/lockstep/integration": "tests import it, the service is imported by it",
	"testing": "no binary links it",
}

// members are the names of package mls that need secrets of a group. The
// service holds none of them, so that it cannot decrypt by construction.
var members = map[string]bool{
	"Group": true, "NewGroup": true, "Join": true, "JoinExternal": true, "Load": true, "LoadRows": true,
	"PendingCommit": true, "UnmarshalPendingCommit": true, "PrivateKeyPackage": true, "NewKeyPackage": true,
	"UnmarshalPrivateKeyPackage": true, "ApplicationMessage": true, "StagedCommit": true, "StagedProposal": true,
}

func TestWalls(t *testing.T) {
	n := 0
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "store"+string(filepath.Separator)) {
			return err
		}
		n++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			p := strings.Trim(imp.Path.Value, `"`)
			for bad, why := range forbidden {
				if p == bad || strings.HasPrefix(p, bad+"/") {
					t.Errorf("%s imports %s: %s", path, p, why)
				}
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "mls" && members[sel.Sel.Name] {
				t.Errorf("%s names mls.%s: a delivery service holds no secrets of a group, only mls.PublicGroup", path, sel.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 30 {
		t.Fatalf("only %d files were looked at", n)
	}
}
