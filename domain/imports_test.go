package domain_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport says which top-level packages each may import, besides its own.
var mayImport = map[string][]string{
	"domain":      {},
	"eventstore":  {"domain"},
	"projections": {"domain", "eventstore"},
	"consumers":   {"domain", "eventstore"},
	"api":         {"domain", "eventstore", "projections", "consumers"},
	"cmd":         {"domain", "eventstore", "projections", "consumers", "api"},
	"bench":       {"domain", "eventstore", "projections", "cmd"}, // modules of their own
}

// impure are packages that package domain itself must do without: I/O, contexts, JSON.
var impure = []string{"context", "encoding/json", "io", "io/fs", "log", "log/slog", "math/rand", "net", "net/http", "os", "sync", "github.com/go-json-experiment/json"}

// TestImports keeps the arrows of docs/ARCHITECTURE.md, and package domain pure:
// no I/O, no clock, no goroutine, no floats.
func TestImports(t *testing.T) {
	files := token.NewFileSet()
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") {
			return err
		}
		dir := path.Dir(filepath.ToSlash(file))[len("../"):]
		top, _, _ := strings.Cut(dir, "/")
		allowed, known := mayImport[top]
		if !known {
			t.Errorf("%s: top-level folder %s has no place in the arrows", file, top)
			return nil
		}
		seen[top] = true
		if strings.HasSuffix(file, "_test.go") {
			return nil
		}
		tree, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, spec := range tree.Imports {
			name := strings.Trim(spec.Path.Value, `"`)
			own, inModule := strings.CutPrefix(name, "tollbook/")
			if target, _, _ := strings.Cut(own, "/"); inModule && target != top && !slices.Contains(allowed, target) {
				t.Errorf("%s imports %s: %s may import only %v", files.Position(spec.Pos()), name, top, allowed)
			}
			if dir == "domain" && slices.Contains(impure, name) {
				t.Errorf("%s imports %s: package domain is pure", files.Position(spec.Pos()), name)
			}
		}
		if dir == "domain" || dir == "projections" {
			ast.Inspect(tree, func(n ast.Node) bool { return checkPure(t, files, dir, n) })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for top := range mayImport {
		if !seen[top] {
			t.Errorf("no file below %s was looked at", top)
		}
	}
}

func checkPure(t *testing.T, files *token.FileSet, dir string, n ast.Node) bool {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && (n.Sel.Name == "Now" || n.Sel.Name == "Since" || n.Sel.Name == "Until") {
			t.Errorf("%s reads the clock", files.Position(n.Pos()))
		}
	case *ast.GoStmt:
		t.Errorf("%s starts a goroutine", files.Position(n.Pos()))
	case *ast.Ident:
		if dir == "domain" && (n.Name == "float64" || n.Name == "float32") {
			t.Errorf("%s: no floats in domain", files.Position(n.Pos()))
		}
	}
	return true
}
