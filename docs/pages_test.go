// Package docs_test reads the pages as their readers do.
package docs_test

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// page is a page of the repository, by its path from the root.
type page struct {
	text    string
	anchors []string
	links   []string
}

var (
	fence   = regexp.MustCompile("(?ms)^ *(?:[0-9]+\\. |[-*] )?```.*?^ *``` *$")
	comment = regexp.MustCompile(`(?s)<!--.*?-->`)
	code    = regexp.MustCompile("`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	link    = regexp.MustCompile(`!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+(?:\([^()\s]*\))?)(?: "[^"]*")?\)`)
	label   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	markup  = regexp.MustCompile("[`*]")
)

// read returns all pages of the repository.
func read(t *testing.T) map[string]page {
	t.Helper()
	pages := map[string]page{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "bin" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pages[strings.TrimPrefix(path, "../")] = parse(string(text))
		return nil
	})
	if err != nil || len(pages) < 20 {
		t.Fatal(len(pages), err)
	}
	return pages
}

func parse(text string) page {
	p := page{text: text}
	prose := comment.ReplaceAllString(fence.ReplaceAllString(text, ""), "")
	for _, m := range heading.FindAllStringSubmatch(prose, -1) {
		p.anchors = append(p.anchors, anchor(m[1]))
	}
	for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(prose, "`code`"), -1) {
		p.links = append(p.links, m[1])
	}
	return p
}

// anchor is what a heading is called in links, as GitHub does it.
func anchor(text string) string {
	text = markup.ReplaceAllString(label.ReplaceAllString(text, "$1"), "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsNumber(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}

// TestLinks: whatever a page refers to is there, headings included.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages := read(t)
	checked := 0
	for path, p := range pages {
		for _, to := range p.links {
			u, err := url.Parse(to)
			if err != nil {
				t.Errorf("%s: the link %s: %v", path, to, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			checked++
			target := path
			if u.Path != "" {
				target = filepath.Join(filepath.Dir(path), u.Path)
				if _, err := os.Stat(filepath.Join("..", target)); err != nil {
					t.Errorf("%s: the link %s goes nowhere", path, to)
					continue
				}
			}
			if u.Fragment == "" {
				continue
			}
			other, ok := pages[target]
			if !ok {
				t.Errorf("%s: the link %s names a heading of what is no page", path, to)
			} else if !slices.Contains(other.anchors, u.Fragment) {
				t.Errorf("%s: %s has no heading for the link %s", path, target, to)
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d links were found", checked)
	}
}

// TestHeadings: within a page no two headings have the same name, to which a link would be ambiguous; twice the same section is what
// is left of a merge.
func TestHeadings(t *testing.T) {
	t.Parallel()
	for path, p := range read(t) {
		if path == "CHANGELOG.md" {
			continue
		}
		seen := map[string]bool{}
		for _, a := range p.anchors {
			if seen[a] {
				t.Errorf("%s has the heading #%s twice", path, a)
			}
			seen[a] = true
		}
	}
}

// TestOrder: every page is in the index, once, and ends with the next one of it.
func TestOrder(t *testing.T) {
	t.Parallel()
	pages := read(t)
	var order []string
	for _, m := range regexp.MustCompile(`(?m)^\| \[[^\]]+\]\(([^)]+)\)`).FindAllStringSubmatch(pages["docs/README.md"].text, -1) {
		order = append(order, m[1])
	}
	index := slices.Concat(order, []string{"README.md", "five-minutes.pt-BR.md"}) // the index itself, and a translation
	for path := range pages {
		name, ok := strings.CutPrefix(path, "docs/")
		decision := strings.HasPrefix(name, "adr/") && name != "adr/README.md" // which adr/README.md lists
		switch {
		case decision && !slices.Contains(pages["docs/adr/README.md"].links, strings.TrimPrefix(name, "adr/")):
			t.Errorf("docs/adr/README.md does not list %s", path)
		case ok && !decision && !slices.Contains(index, name):
			t.Errorf("docs/README.md does not list %s", path)
		}
	}
	for i, name := range order {
		want := "[The pages](../README.md)"
		if i+1 < len(order) {
			title, _, _ := strings.Cut(strings.TrimPrefix(pages["docs/"+order[i+1]].text, "# "), "\n")
			want = fmt.Sprintf("[%s](%s)", title, order[i+1])
		}
		lines := strings.Split(strings.TrimSpace(pages["docs/"+name].text), "\n")
		if got := lines[len(lines)-1]; got != "Next: "+want {
			t.Errorf("docs/%s ends with %q, not with %q", name, got, "Next: "+want)
		}
	}
	if len(order) != len(slices.Compact(slices.Sorted(slices.Values(order)))) {
		t.Error("docs/README.md lists a page twice")
	}
}

// TestReadmes are short.
func TestReadmes(t *testing.T) {
	t.Parallel()
	pages := read(t)
	for _, name := range []string{"README.md", "README.pt-BR.md"} {
		if n := strings.Count(pages[name].text, "\n"); n >= 200 {
			t.Errorf("%s has %d lines: move something to a page of docs", name, n)
		}
	}
}
