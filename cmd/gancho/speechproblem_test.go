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

// problemMakers are the functions that make mistakes of requests and of settings, with the places of the hint and of the message's format.
var problemMakers = map[string][2]int{"invalid": {1, 2}, "add": {1, 2}, "badChoice": {1, 2}, "mistakef": {0, 1}, "Errorf": {0, 1}, "Add": {0, 1}, "wrong": {0, 1}, "wrongSource": {0, 1}}

// unsaid are messages that reach no page: those of files, and what a person does not type into one.
var unsaid = []string{
	"a ${ without its }", "write $${ for a literal ${", "not the name of an environment variable", "write ${NAME} or ${NAME:-default}; write $${ for a literal ${", "the environment variable x is not set", "set it, or write ${x:-default}",
	"read the file that is named here: x", "write the name of a file with PEM", "what is named here is empty, larger than 1 MiB or no file", "write a file's name, relative to this file, or the PEM text itself",
	"there are two endpoints with the name x, the other on line 7", "give one of them another name", "x is each endpoint's own",
	"a mapping to merge", "dead letters", "parked changes", "give whsec_ or whsk_", "secret 7 is empty or a public key, which cannot sign", "remove it for the default", "timeout or max_age is negative", "retry or retry_refused has a negative wait", "concurrency or rate is negative",
}

// held are texts whose sources name them as constants, or put them together.
var held = []string{
	"write such as x", "it took more than x seconds", "parse secret: x", "create one with: x",
}

// anonymous is a message without what it is about, as the English text of a key is without its values.
func anonymous(text string) string {
	return regexp.MustCompile(`x+`).ReplaceAllString(regexp.MustCompile(`\{[a-z]+\}|[0-9]+|"x"`).ReplaceAllString(text, "x"), "x")
}

// TestTranslatedProblems: each mistake that a form of the console may show has its Portuguese, and no translation is of a text that is made no more.
func TestTranslatedProblems(t *testing.T) {
	t.Parallel()
	portuguese := language.Of(language.Portuguese)
	var texts []string
	for _, pattern := range []string{"../../internal/control/*.go", "../../delivery/endpoint/*.go", "../../internal/strictyaml/scalar.go", "../../internal/strictyaml/value.go", "../../internal/bridge/backfillplan.go", "../../internal/bridge/rules.go", "../../internal/bridge/verdicts.go", "../../internal/bridge/recent.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			problemTexts(t, path, func(text string, at token.Position) {
				texts = append(texts, anonymous(text))
				if !strings.Contains(text, " ") {
					return // a value
				}
				if strings.Trim(strings.ReplaceAll(text, "x", ""), " :;,.()'-") == "" || slices.Contains(unsaid, text) || text == "x, or x" {
					return
				}
				if _, known := portuguese.Translated("problem", text); !known {
					t.Errorf("%s: pt-BR.yaml has no Portuguese for: %s", at, text)
				}
			})
		}
	}
	for key, text := range language.Of(language.English).Keys() {
		if text := anonymous(text); strings.HasPrefix(key, "problem.") && !slices.Contains(texts, text) && !slices.Contains(held, text) {
			t.Errorf("%s is the translation of what is said no more: %s", key, text)
		}
	}
	if len(texts) < 200 {
		t.Errorf("only %d messages were found in the sources", len(texts))
	}
}

// namesText reports whether a variable of this name has a part of a message.
func namesText(name string) bool { return name == "hint" || name == "beyond" || name == "what" }

// problemTexts calls found with the messages and the hints of a file.
func problemTexts(t *testing.T, path string, found func(text string, at token.Position)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e ast.Expr, args ...ast.Expr) {
		if text, literal := format(e, args...); literal > 2 {
			found(strings.ReplaceAll(text, unknown, "x"), set.Position(e.Pos()))
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "Message" || key.Name == "Hint") {
				add(n.Value)
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if name, ok := left.(*ast.Ident); ok && namesText(name.Name) && len(n.Rhs) == len(n.Lhs) {
					add(n.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if namesText(name.Name) && len(n.Values) == len(n.Names) {
					add(n.Values[i])
				}
			}
		case *ast.CallExpr:
			name := ""
			switch f := n.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				if of, ok := f.X.(*ast.Ident); !ok || of.Name != "fmt" {
					name = f.Sel.Name
				}
			}
			switch at, ok := problemMakers[name]; {
			case name == "refuse" && len(n.Args) > 1:
				add(n.Args[1])
			case name == "wrongKind" && len(n.Args) > 0:
				add(n.Args[0])
			case ok && len(n.Args) > at[1]:
				add(n.Args[at[0]])
				add(n.Args[at[1]], n.Args[at[1]+1:]...)
			}
		}
		return true
	})
}
