package console_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"gancho/internal/console"
	"gancho/internal/language"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// englishOnly are words of English that are none of Portuguese, without which hardly a sentence can be made.
var englishOnly = regexp.MustCompile(`(?i)\b(the|is|are|was|were|has|have|been|with|without|and|for|from|this|that|which|its|not|any|then|than|or|by|be|did|does|it|to|an|they|their|there)\b`)

// foreignTo are the texts of a page that are not in its language: what begins with lang=en, or is code, a name or data, is no text of it.
func foreignTo(n *html.Node, english map[string]bool) (found []string) {
	judge := func(text string) {
		if text = strings.Join(strings.Fields(text), " "); english[text] || englishOnly.MatchString(text) {
			found = append(found, text)
		}
	}
	switch {
	case n.Type == html.TextNode:
		judge(n.Data)
	case n.Type == html.ElementNode:
		if slices.Contains([]string{"code", "pre", "kbd", "script", "style", "textarea"}, n.Data) || attribute(n, "lang") == "en" || slices.Contains(strings.Fields(attribute(n, "class")), "code") {
			return nil
		}
		for _, name := range []string{"aria-label", "placeholder", "title", "alt", "data-label", "data-pause", "data-resume"} {
			judge(attribute(n, name))
		}
	}
	for c := range n.ChildNodes() {
		found = append(found, foreignTo(c, english)...)
	}
	return found
}

// Nothing on any page is English for who reads Portuguese, but what is marked so: neither a text of ours, nor a sentence of anybody.
func TestPagesArePortuguese(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newBusiness(t)
	portuguese, english := language.Of(language.Portuguese).Keys(), map[string]bool{}
	for key, text := range language.Of(language.English).Keys() {
		if !strings.HasPrefix(key, "cli.") && portuguese[key] != text && strings.Contains(text, " ") {
			english[text] = true
		}
	}
	for _, text := range portuguese { // one is said in both, of different things
		delete(english, text)
	}
	pages := 0
	for _, tenant := range []string{"", centro.id} {
		site := w.as(state.Admin, tenant).crawl()
		for _, route := range slices.Sorted(maps.Keys(site.pages)) {
			for _, at := range slices.Sorted(maps.Keys(site.pages[route])) {
				page, err := html.Parse(strings.NewReader(site.pages[route][at]))
				if err != nil {
					t.Fatal(err)
				}
				pages++
				for _, text := range foreignTo(page, english) {
					t.Errorf("%s says in English: %s", at, text)
				}
			}
		}
	}
	if pages < 50 {
		t.Errorf("only %d pages were read", pages)
	}
}

// auditCodes are the actions that the sources write to the audit log: those of entries, of edits, and of jobs of each kind.
func auditCodes(t *testing.T) []string {
	t.Helper()
	code := regexp.MustCompile(`^[a-z_]+\.[a-z_]+$`)
	kinds, found := []state.JobKind{state.Resend, state.Redrive, state.RedriveParked, state.Backfill}, map[string]bool{}
	for _, dir := range []string{"../state", "../control", "../bridge"} {
		paths, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			add := func(e ast.Expr) {
				if text, ok := e.(*ast.BasicLit); ok && text.Kind == token.STRING {
					s, _ := strconv.Unquote(text.Value)
					found[s] = true
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if strings.HasPrefix(n.Value, `"endpoint.`) || strings.HasSuffix(n.Value, `.rekey"`) {
						add(n)
					}
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Action" {
						add(n.Value)
					}
				case *ast.CallExpr:
					name := ""
					switch f := n.Fun.(type) {
					case *ast.SelectorExpr:
						name = f.Sel.Name
					case *ast.Ident:
						name = f.Name
					}
					if at := map[string]int{"recordJob": 3, "switchJob": 4}[name]; at > 0 && len(n.Args) > at {
						if text, ok := n.Args[at].(*ast.BasicLit); ok {
							verb, _ := strconv.Unquote(text.Value)
							for _, kind := range kinds {
								if name == "recordJob" || kind == state.Backfill { // which alone is paused and resumed
									found[string(kind)+"."+verb] = true
								}
							}
						}
					}
				}
				return true
			})
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(found)), func(s string) bool { return s != "forget" && !code.MatchString(s) })
}

// Each action of the audit log is said in both languages, and can be looked for by its words.
func TestAuditActions(t *testing.T) {
	t.Parallel()
	codes := auditCodes(t)
	if diff := cmp.Diff(codes, console.AuditActions()); diff != "" {
		t.Errorf("what the sources write, and what the page knows (-sources +page):\n%s", diff)
	}
	for _, code := range language.Codes() {
		for _, action := range console.AuditActions() {
			if !language.Of(code).Has("audit.did." + strings.ReplaceAll(action, ".", "_")) {
				t.Errorf("%s has no word for %s", code, action)
			}
		}
	}
	w := newBusiness(t)
	b := w.as(state.Admin, "")
	b.open("/console/audit?action=endpoint.edit").shows(http.StatusOK, "Endpoint alterado")
	chosen := ""
	for n := range b.page.Descendants() {
		if n.Data == "option" && hasAttribute(n, "selected") {
			chosen = textOf(n)
		}
	}
	if chosen != "Endpoint alterado" {
		t.Errorf("the field has %q after a search for endpoint.edit", chosen)
	}
	b.open("/console/audit?action=not.known").shows(http.StatusOK, "not.known", "Não há registros.")
}
