package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gancho/internal/language"
	"gancho/internal/testservers"
)

// ruleMessage is where a function has its hint and its message among the arguments; -1: it has none.
type ruleMessage struct{ hint, message int }

// ruleMessages are the functions that make mistakes of rules and of configuration files.
var ruleMessages = map[string]ruleMessage{
	"mistake": {2, 3}, "propose": {-1, 4}, "words": {-1, 0}, "errorAt": {1, 2}, "unsupported": {1, 2}, "errorf": {2, 3}, "fault": {1, 2}, "unexpected": {0, -1},
	"Errorf": {0, 1}, "ErrorfAt": {1, 2}, "Mistake": {1, 2}, "MistakeHere": {0, 1}, "refusal": {2, 1}, "Refused": {2, 1}, "ofUTF8": {2, 1}, "noteFull": {-1, 2},
}

// ruleTexts calls found with each hint and message of the mistakes that a file of the sources makes.
func ruleTexts(t *testing.T, path string, found func(text string, at token.Position)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(e ast.Expr, args ...ast.Expr) {
		if text, literal := format(e, args...); literal > 2 {
			found(text, set.Position(e.Pos()))
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "Hint" || key.Name == "Message") {
				add(n.Value)
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if strings.HasSuffix(strings.ToLower(name.Name), "hint") && i < len(n.Values) {
					add(n.Values[i])
				}
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if name, ok := left.(*ast.Ident); ok && name.Name == "hint" && i < len(n.Rhs) {
					add(n.Rhs[i])
				}
			}
		case *ast.CallExpr:
			name := ""
			switch f := n.Fun.(type) {
			case *ast.SelectorExpr:
				if x, ok := f.X.(*ast.Ident); ok && (x.Name == "fmt" || x.Name == "log") {
					return true
				}
				name = f.Sel.Name
			case *ast.Ident:
				name = f.Name
			}
			m, ok := ruleMessages[name]
			if !ok {
				return true
			}
			if m.hint >= 0 && m.hint < len(n.Args) {
				add(n.Args[m.hint])
			}
			if m.message >= 0 && m.message < len(n.Args) {
				add(n.Args[m.message], n.Args[m.message+1:]...)
			}
		}
		return true
	})
}

// TestTranslatedRuleMessages: each mistake of a rule or a file that check finds has its Portuguese.
func TestTranslatedRuleMessages(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	portuguese, total := language.Of(language.Portuguese), 0
	for _, pattern := range []string{"../../mapping/*.go", "../../mapping/expr/*.go", "../../internal/strictyaml/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			ruleTexts(t, path, func(text string, at token.Position) {
				total++
				if strings.HasPrefix(text, ";") || strings.HasPrefix(text, unknown+unknown) || strings.HasSuffix(text, " ") {
					return // a part of a message
				}
				if strings.Trim(strings.ReplaceAll(text, unknown, ""), " :;,.()'-") == "" || text == unknown+", or "+unknown {
					return // it has no words of its own
				}
				if _, known := portuguese.Translated("cli.finding", text); !known {
					t.Errorf("%s: pt-BR.yaml has no Portuguese for: %s", at, text)
				}
			})
		}
	}
	if total < 200 {
		t.Errorf("only %d texts were found in the sources", total)
	}
}

// fromServer are messages of PostgreSQL, which speaks its own language, and those of the YAML reader.
var fromServer = regexp.MustCompile(`does not exist|not allowed in|invalid input syntax|cannot execute|must be at the top level|WITH clause|read YAML|no such file|read table name`)

// TestTranslatedGoldens: of the mistakes in the golden files none is printed in English.
func TestTranslatedGoldens(t *testing.T) {
	t.Parallel()
	portuguese := language.Of(language.Portuguese)
	known := func(text string) bool {
		_, ok := portuguese.Translated("cli.finding", text)
		return ok
	}
	files, err := filepath.Glob("../../mapping/testdata/*/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	below := regexp.MustCompile(`; run the SQL below(, or .*)?$`)
	place := regexp.MustCompile(`^[^ ]+:\d+(:\d+)?: `)
	total := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			said := place.ReplaceAllString(line, "")
			if said == line || fromServer.MatchString(said) {
				continue
			}
			total++
			parts := strings.Split(below.ReplaceAllString(said, ""), "; ")
			ok := false
			for i := 1; i <= len(parts) && !ok; i++ { // the message, and what to do
				title, hint := strings.Join(parts[:i], "; "), strings.Join(parts[i:], "; ")
				ok = known(title) && (hint == "" || known(hint))
			}
			if !ok {
				t.Errorf("%s: %s", filepath.Base(file), said)
			}
		}
	}
	if total < 100 {
		t.Errorf("only %d lines have a place", total)
	}
}
