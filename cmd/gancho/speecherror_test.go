package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gancho/internal/language"
)

// errorTexts calls found with the message of each error that a file makes.
func errorTexts(t *testing.T, path string, found func(text string, at token.Position)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name, at := "", 0
		switch f := call.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			if of, ok := f.X.(*ast.Ident); ok && (of.Name == "fmt" || of.Name == "errors") {
				name = f.Sel.Name
			}
		}
		if name == "missing" {
			at = 1
		}
		if slices.Contains([]string{"Errorf", "New", "wrong", "missing"}, name) && len(call.Args) > at {
			if text, literal := format(call.Args[at], call.Args[at+1:]...); literal > 2 {
				found(text, set.Position(n.Pos()))
			}
		}
		return true
	})
}

// TestTranslatedErrors: each error of a command has its Portuguese.
func TestTranslatedErrors(t *testing.T) {
	t.Parallel()
	portuguese, total := language.Of(language.Portuguese), 0
	words := regexp.MustCompile(`[a-z]{2,}`)
	for _, pattern := range []string{"*.go", "../../internal/bridge/recovery.go", "../../internal/bridge/server.go", "../../internal/bridge/state.go", "../../internal/bridge/preparation.go", "../../internal/bridge/console.go", "../../config/load.go", "../../internal/state/keyring.go", "../../internal/simulate/recorder.go", "../../internal/simulate/recording.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			errorTexts(t, path, func(text string, at token.Position) {
				if total++; !words.MatchString(text) || text == "job 7 has "+unknown { // "failed" or "been canceled"
					return
				}
				if _, known := portuguese.Translated("cli.error", text); !known {
					t.Errorf("%s: pt-BR.yaml has no Portuguese for: %s", at, text)
				}
			})
		}
	}
	if total < 200 {
		t.Errorf("only %d errors were found in the sources", total)
	}
}
