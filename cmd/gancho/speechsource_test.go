package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gancho/internal/language"
)

// verb is a verb of fmt in a format.
var verb = regexp.MustCompile(`%(\[\d\])?[+#]?[\d.]*[a-z]`)

// unknown stands for a value in a sample of a message.
const unknown = "☐"

// sample is a message as it would be made by an expression of the source: unknown stands for what is not known before it runs. literal
// are the letters that are known.
func sample(e ast.Expr) (text string, literal int) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, _ := strconv.Unquote(e.Value)
			return s, len(s)
		}
	case *ast.BinaryExpr:
		left, n := sample(e.X)
		right, m := sample(e.Y)
		return left + right, n + m
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && len(e.Args) > 0 && (f.Sel.Name == "Sprintf" || f.Sel.Name == "Errorf" || f.Sel.Name == "New") {
			return format(e.Args[0], e.Args[1:]...)
		}
		if f, ok := e.Fun.(*ast.Ident); ok && f.Name == "plural" {
			noun, n := sample(e.Args[1])
			return "7 " + noun + "s", n
		}
	case *ast.ParenExpr:
		return sample(e.X)
	}
	return unknown, 0
}

// format is the sample of a format with its arguments.
func format(e ast.Expr, args ...ast.Expr) (string, int) {
	text, n := sample(e)
	at := -1
	text = verb.ReplaceAllStringFunc(text, func(v string) string {
		at++
		if strings.HasSuffix(v, "d") {
			return "7"
		}
		if at < len(args) {
			if arg, known := sample(args[at]); known > 0 && v == "%q" {
				return strconv.Quote(arg)
			} else if known > 0 {
				return arg
			}
		}
		return unknown
	})
	return strings.ReplaceAll(text, "%%", "%"), n
}

// messages calls found with the messages of a file: those of findings, by their fields and by the functions that make them, and
// those of errors of wrong use.
func messages(t *testing.T, path string, found func(group, text string, at token.Position)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(group string, at ast.Node, text string, literal int) {
		if literal > 2 {
			found(group, text, set.Position(at.Pos()))
		}
	}
	field := func(name string) bool { return name == "Title" || name == "Why" || name == "Remedy" }
	// The place of the message among the arguments.
	makers := map[string]int{"say": 3, "skip": 2, "addf": 2, "addFirstf": 2, "note": 2}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && field(key.Name) {
				text, literal := sample(n.Value)
				add("cli.finding", n, text, literal)
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if selector, ok := left.(*ast.SelectorExpr); ok && field(selector.Sel.Name) && len(n.Lhs) == len(n.Rhs) && n.Tok == token.ASSIGN {
					text, literal := sample(n.Rhs[i])
					add("cli.finding", n, text, literal)
				}
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok {
				if at, ok := makers[f.Sel.Name]; ok && len(n.Args) > at && (f.Sel.Name != "say" || strings.Contains(path, "internal/doctor")) {
					text, literal := format(n.Args[at], n.Args[at+1:]...)
					add("cli.finding", n, text, literal)
				}
			}
		case *ast.CompositeLit:
			if name, ok := n.Type.(*ast.Ident); ok && (name.Name == "usageError" || name.Name == "findingsError") && len(n.Elts) == 1 {
				text, literal := sample(n.Elts[0])
				add("cli.error", n, text, literal)
			}
		}
		return true
	})
}

// TestTranslatedMessages: what doctor and check find, and each error of wrong use, has its Portuguese.
func TestTranslatedMessages(t *testing.T) {
	t.Parallel()
	portuguese, total := language.Of(language.Portuguese), 0
	for _, pattern := range []string{"../../internal/doctor/*.go", "../../cdc/*.go", "*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			messages(t, path, func(group, text string, at token.Position) {
				if total++; strings.Trim(strings.ReplaceAll(text, unknown, ""), " :;,.()'-") == "" {
					return // it has no words of its own
				}
				if _, known := portuguese.Translated(group, text); !known {
					t.Errorf("%s: pt-BR.yaml has no Portuguese for: %s", at, text)
				}
			})
		}
	}
	if total < 200 {
		t.Errorf("only %d messages were found in the sources", total)
	}
}
