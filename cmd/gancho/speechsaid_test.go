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

// pieces are parts of sentences that are known as a whole, and what is written for machines or for no person alone.
var pieces = []string{
	"select datname::text from pg_catalog.pg_database where datallowconn and not datistemplate",
	"gancho backfill --diff", "gancho events --format", "gancho resend --missing-from",
	". Of these, those are sent for which --where is true", "existing row", "did not pass when", "came to nothing in their transactions", "no outcome", "one outcome too many",
	"is active", "is paused; its events are queued until: gancho endpoints activate ☐", "is inactive; events committed from now on are not queued for it; they can be sent later only if they are kept for resends",
	"☐test it: gancho endpoints test ☐", "endpoint ☐ ☐", "endpoint ☐ removed", "endpoint ☐ was removed before", "☐; the bridge deletes its queue (☐)", "☐; nothing was queued",
	"☐; its queue is kept with ☐: add an endpoint ☐ again to deliver them, or delete them with gancho endpoints remove ☐ --drop-queue", "☐ old", "7, the oldest ☐", "☐Type yes to go on:", "make no events",
	"come again, or do not exist any more", "Recorded as gap ☐: changes that committed ☐ ☐.", "or the key is another: it is the primary key☐, not the rule's ordering key.",
	"no event: when was false☐", "no event: when was null☐", "--where ☐", "☐  gancho backfill --table ☐☐",
	"# yaml-language-server: $schema=☐☐/☐", "gancho events: ☐", "gancho test: ☐",
	// Hints of errors, which their group has.
	"did you mean ☐?", "write ☐", "☐ has no endpoint; those that gancho endpoints lists are not read here", "give an earlier one", "the span ends before it begins",
	"the sums do not agree: see the differences, and gancho why for single rows", "the sums do not agree, and events moved while they were counted: ask again, or for a span that has ended",
}

// notSaid are the fields and the calls whose texts are help, errors, logs, SQL or names: other tests hold those of people against the
// languages.
var (
	notSaidFields = []string{"Use", "Short", "Long", "Example", "use", "short", "long", "heading", "Usage"}
	notSaidCalls  = []string{
		"usageError", "findingsError", "Errorf", "New", "wrong", "missing", "group", "register", "Msg", "QueryRow", "MustCompile", "Format", "Getenv", "headings", "table", "oneLine",
		"newBackfillSwitchCommand", "note", "add", "Set", "Index", "Insert", "Replace", "Str",
	}
)

// saidTexts calls found with each text of a file that a command may say: all that have words, but help, errors and SQL.
func saidTexts(t *testing.T, path string, found func(text string, at token.Position)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`[a-zA-Z]{2,}[^a-zA-Z☐]* [^a-zA-Z]*[a-zA-Z]|☐ [a-z]{3,}|[a-z]{3,} ☐`)
	add := func(e ast.Expr, args ...ast.Expr) {
		text, _ := format(e, args...)
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); words.MatchString(line) {
				found(line, set.Position(e.Pos()))
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.Field:
			return false
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && slices.Contains(notSaidFields, key.Name) {
				return false
			}
		case *ast.CompositeLit:
			if name, ok := n.Type.(*ast.Ident); ok && slices.Contains(notSaidCalls, name.Name) {
				return false
			}
		case *ast.AssignStmt:
			if left, ok := n.Lhs[0].(*ast.SelectorExpr); ok && slices.Contains(notSaidFields, left.Sel.Name) {
				return false
			}
		case *ast.CallExpr:
			name := ""
			switch f := n.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			if strings.HasSuffix(name, "Var") || strings.HasSuffix(name, "VarP") || slices.Contains(notSaidCalls, name) {
				return false
			}
			at := map[string]int{"say": 0, "result": 1, "line": 1, "Sprintf": 0, "Fprintf": 1, "differ": 0}
			if i, ok := at[name]; ok && len(n.Args) > i {
				add(n.Args[i], n.Args[i+1:]...)
				for _, arg := range slices.Concat(n.Args[:i], n.Args[i+1:]) {
					ast.Inspect(arg, func(n ast.Node) bool {
						if e, ok := n.(ast.Expr); ok {
							if _, literal := sample(e); literal > 2 {
								add(e)
								return false
							}
						}
						return true
					})
				}
				return false
			}
		}
		if e, ok := n.(ast.Expr); ok {
			if _, literal := sample(e); literal > 2 {
				add(e)
				return false
			}
		}
		return true
	})
}

// otherSpeech are the files whose texts other groups have.
var otherSpeech = regexp.MustCompile(`^(main|doctor|plan|planall|check|checkall|status|statusschedule|input|settings|manual|version|speech\w*|init\w*)\.go$`)

// TestTranslatedResults: what commands say of their results has its Portuguese.
func TestTranslatedResults(t *testing.T) {
	t.Parallel()
	portuguese, total := language.Of(language.Portuguese), 0
	for _, pattern := range []string{"*.go", "../../internal/control/prove.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") || otherSpeech.MatchString(filepath.Base(path)) {
				continue
			}
			saidTexts(t, path, func(text string, at token.Position) {
				total++
				if slices.Contains(pieces, text) {
					return
				}
				if _, known := portuguese.Translated("cli.said", text); !known {
					t.Errorf("%s: pt-BR.yaml has no Portuguese for: %s", at, text)
				}
			})
		}
	}
	if total < 200 {
		t.Errorf("only %d texts were found in the sources", total)
	}
}
