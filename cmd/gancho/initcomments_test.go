package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"go.yaml.in/yaml/v4"

	"gancho/internal/language"
	"gancho/internal/testservers"
)

// draftTexts calls found with each text that drafts say: what is given to say, and to functions of its kind.
func draftTexts(t *testing.T, path string, found func(text string, at token.Position)) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			f, ok := n.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if at, ok := map[string]int{"say": 0, "sayf": 0, "remarkf": 1}[f.Sel.Name]; ok && len(n.Args) > at {
				if text, literal := format(n.Args[at], n.Args[at+1:]...); literal > 1 {
					found(text, set.Position(n.Pos()))
				}
			}
		case *ast.ReturnStmt: // of a column's remark
			if len(n.Results) == 3 {
				if text, literal := sample(n.Results[1]); literal > 2 {
					found(text, set.Position(n.Pos()))
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && key.Name == "reason" {
				if text, literal := sample(n.Value); literal > 2 {
					found(text, set.Position(n.Pos()))
				}
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if f, ok := left.(*ast.SelectorExpr); ok && f.Sel.Name == "reason" && len(n.Lhs) == len(n.Rhs) {
					if text, literal := sample(n.Rhs[i]); literal > 2 {
						found(text, set.Position(n.Pos()))
					}
				}
			}
		}
		return true
	})
}

// TestTranslatedDrafts: what drafts say in files and of them has its Portuguese, and no translation is of a text that
// is said no more.
func TestTranslatedDrafts(t *testing.T) {
	t.Parallel()
	portuguese, said := language.Of(language.Portuguese), ""
	paths, err := filepath.Glob("../../internal/draft/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		draftTexts(t, path, func(text string, at token.Position) {
			said += text + "\n"
			if _, known := portuguese.Translated("cli.draft", text); !known {
				t.Errorf("%s: pt-BR.yaml has no Portuguese for: %s", at, text)
			}
		})
	}
	for key, text := range language.Of(language.English).Keys() {
		if !strings.HasPrefix(key, "cli.draft.") {
			continue
		}
		parts := regexp.MustCompile(`\{[a-z]+\}`).Split(text, -1)
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if !regexp.MustCompile("(?m)^" + strings.Join(parts, ".+?") + "$").MatchString(said) {
			t.Errorf("%s is the translation of what is said no more: %s", key, text)
		}
	}
}

// portugueseAlready are comments of presets in their receivers' language, and numbers of events.
var portugueseAlready = regexp.MustCompile(`^\d+\.$|^(checkout concluído|exclusão lógica|desativada|cliente identificado no checkout|rascunho confirmado|visitante que se tornou cliente|apagado|resposta da operadora|docs/rules\.md\.)$`)

// TestTranslatedComments: init writes each comment of its template, of presets and of their tests in Portuguese, and the
// same YAML.
func TestTranslatedComments(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for _, preset := range []string{"iset", "pacto", "superlogica"} {
		english, portuguese := t.TempDir(), t.TempDir()
		if code, _, stderr := command(t, "init", "--preset", preset, "--dir", english); code != 0 {
			t.Fatal(stderr)
		}
		if code, _, stderr := inPortuguese(t, "init", "--preset", preset, "--dir", portuguese); code != 0 {
			t.Fatal(stderr)
		}
		files, err := filepath.Glob(english + "/*/*.yaml")
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		for _, file := range append(files, english+"/gancho.yaml") {
			name, _ := filepath.Rel(english, file)
			first, second := mustRead(t, file), mustRead(t, filepath.Join(portuguese, name))
			var a, b any
			if err := yaml.Unmarshal([]byte(first), &a); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal([]byte(second), &b); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(a, b); diff != "" {
				t.Errorf("%s: the YAML differs (-en +pt)\n%s", name, diff)
			}
			had := comments(first)
			for comment := range comments(second) {
				if had[comment] && !portugueseAlready.MatchString(comment) {
					t.Errorf("%s says in Portuguese: %s", name, comment)
				}
			}
			for line := range strings.Lines(second) {
				if len([]rune(line)) > 160 && strings.HasPrefix(strings.TrimSpace(line), "#") {
					t.Errorf("%s has a long comment: %s", name, line)
				}
			}
		}
	}
}

// comments are the lines and the ends of lines of a file that are comments, without YAML that is commented out.
func comments(text string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(text) {
		m := regexp.MustCompile(`^ *# ([^ ].*)$|^.*\S +# ([^ #][^#]*)$`).FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil || strings.Contains(line, "yaml-language-server") || regexp.MustCompile(`^([a-z_]+:( |$)|- )`).MatchString(m[1]) {
			continue
		}
		out[m[1]+m[2]] = true
	}
	return out
}

// TestUsedComments: each translation of a comment is of one that is written.
func TestUsedComments(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../internal/presets/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob("../../internal/presets/tests/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	margin := regexp.MustCompile(`\n *# `)
	for _, path := range slices.Concat(paths, tests, []string{"init.yaml", "init.go", "initcase.go"}) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintln(&all, margin.ReplaceAllString(string(text), " "))
	}
	for key, text := range language.Of(language.English).Keys() {
		if strings.HasPrefix(key, "cli.comment.") && !strings.Contains(all.String(), text) {
			t.Errorf("%s is the translation of a comment that is written no more: %s", key, text)
		}
	}
}

// TestInitExport: what makes the next command work is printed, but no password.
func TestInitExport(t *testing.T) {
	testservers.Whole(t)
	dsn, _ := initWorld(t, "create table vendas (id int primary key)")
	t.Setenv("GANCHO_SOURCE_DSN", "")
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	host, user := fmt.Sprintf("%s:%d", config.Host, config.Port), config.User
	without := "  # without its password: put that into PGPASSWORD, or into ~/.pgpass"
	for given, want := range map[string]string{
		fmt.Sprintf("postgres://%s@%s/%s", user, host, config.Database):                                                                                 fmt.Sprintf("'postgres://%s@%s/%s'", user, host, config.Database),
		fmt.Sprintf("postgres://%s:hunter2@%s/%s?sslmode=disable", user, host, config.Database):                                                         fmt.Sprintf("'postgres://%s@%s/%s?sslmode=disable'%s", user, host, config.Database, without),
		fmt.Sprintf("postgres://%s:h%%75nter2@%s/%s", user, host, config.Database):                                                                      fmt.Sprintf("'postgres://%s@%s/%s'%s", user, host, config.Database, without),
		fmt.Sprintf("postgres://%s:hunter#2?@%s,%s/%s?options=-c%%20geqo%%3Doff&pass%%77ord=x&application_name=a+b", user, host, host, config.Database): fmt.Sprintf("'postgres://%s@%s,%s/%s?options=-c%%20geqo%%3Doff&application_name=a+b'%s", user, host, host, config.Database, without),
		fmt.Sprintf("postgres://%s@%s/%s?password=hunter2", user, host, config.Database):                                                                fmt.Sprintf("'postgres://%s@%s/%s'%s", user, host, config.Database, without),
		fmt.Sprintf("user=%s  password = 'hunter2 \\' x' host=%s port=%d dbname=%s", user, config.Host, config.Port, config.Database):                   fmt.Sprintf("'user=%s  host=%s port=%d dbname=%s'%s", user, config.Host, config.Port, config.Database, without),
		fmt.Sprintf("host=%s port=%d password=hunter\\ 2 dbname=%s user=%s", config.Host, config.Port, config.Database, user):                           fmt.Sprintf("'host=%s port=%d dbname=%s user=%s'%s", config.Host, config.Port, config.Database, user, without),
		fmt.Sprintf("postgres://%s:%s@%s/%s", user, user, host, config.Database):                                                                        "...  # the connection string", // whoever knows the one knows the other
	} {
		for _, args := range [][]string{{"--table", "vendas"}, nil} {
			code, stdout, stderr := command(t, append([]string{"init", "--dir", t.TempDir(), "--dsn", given}, args...)...)
			if code != 0 && args != nil || !strings.Contains(stdout+stderr, "\n  export GANCHO_SOURCE_DSN="+want+"\n") || strings.Contains(stdout+stderr, "hunter") {
				t.Errorf("%s: exit %d, want %s:\n%s%s", given, code, want, stdout, stderr)
			}
		}
	}
}
