package console_test

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"gancho/internal/browser"
	"gancho/internal/console"
	"gancho/internal/language"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// looks are all ways in which somebody may look at a page.
func looks() (all []browser.Options) {
	codes := language.Codes()
	for i := range 8 {
		narrow := i >> 2
		o := browser.Options{Width: []int{1280, 360}[narrow], Height: 800, Dark: (i^narrow)&1 == 1, Language: string(codes[(i>>1^narrow)&1])}
		all = append(all, o)
	}
	return all
}

// samples are addresses of every page there is, one or two of a route: those with most and with least on them.
func (s *site) samples() (all []string) {
	for _, route := range slices.Sorted(maps.Keys(s.pages)) {
		pages := s.pages[route]
		addresses := slices.SortedFunc(maps.Keys(pages), func(a, b string) int { return len(pages[b]) - len(pages[a]) })
		all = append(all, addresses[0])
		if last := addresses[len(addresses)-1]; last != addresses[0] {
			all = append(all, last)
		}
	}
	return all
}

// enter signs a browser in.
func (w *world) enter(p *browser.Page, role state.Role, tenant string, code language.Code) {
	w.t.Helper()
	p.Open(w.link(role, tenant))
	p.Follow(language.Of(code).Text("enter.submit"))
	if !strings.Contains(p.URL(), "/console/") || strings.Contains(p.URL(), "/enter/") {
		w.t.Fatalf("the link leads to %s: %s", p.URL(), p.Text())
	}
}

// Every page of every screen can be used by everybody: in both languages, light and dark, wide and narrow. Nothing that it does is refused by its
// own policy.
func TestEveryPage(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newBusiness(t)
	seen := map[string]bool{}
	var paths []string
	for _, tenant := range []string{"", centro.id} {
		s := w.as(state.Admin, tenant).crawl()
		for _, at := range s.samples() {
			if tenant == "" || !seen[at] {
				paths = append(paths, tenant+" "+at)
			}
			seen[at] = true
		}
	}
	for _, o := range looks() {
		for _, tenant := range []string{"", centro.id} {
			p := chromium.Page(t, o)
			w.enter(p, state.Admin, tenant, language.Code(o.Language))
			for _, path := range paths {
				of, at, _ := strings.Cut(path, " ")
				if of != tenant {
					continue
				}
				p.Open(w.url + at)
				checkPage(t, p, o, at)
			}
			for _, refused := range p.Refused() {
				t.Errorf("%+v: the policy has refused %s", o, refused)
			}
		}
	}
}

// On a phone the navigation is one line that opens, with and without scripts; elsewhere it is there.
func TestMenu(t *testing.T) {
	t.Parallel()
	w := newBusiness(t)
	const link = ".nav a[href='/console/audit']"
	for _, o := range testservers.Sample([]browser.Options{{Width: 360, Height: 640}, {Width: 360, Height: 640, NoScript: true, Dark: true, Language: "en"}, {Width: 1280, Height: 800}, {Width: 1280, Height: 800, NoScript: true}}) {
		p := chromium.Page(t, o)
		w.enter(p, state.Admin, "", language.Code(cmp.Or(o.Language, string(language.Portuguese))))
		phone := o.Width < 640
		if p.Shows(".nav summary") != phone || p.Shows(link) == phone {
			t.Errorf("%+v: the menu is there: %t, a link of it: %t", o, p.Shows(".nav summary"), p.Shows(link))
		}
		if !phone {
			continue
		}
		p.Click("Menu")
		if !p.Shows(link) {
			t.Errorf("%+v: the menu does not open", o)
		}
		if o.NoScript { // axe is one
			continue
		}
		checkPage(t, p, o, "the open menu")
	}
}

// Each selector has one rule in each media query, so that no screen changes what another one has said.
func TestSelectors(t *testing.T) {
	t.Parallel()
	css, err := os.ReadFile("assets/console.css")
	if err != nil {
		t.Fatal(err)
	}
	query, seen := "", map[string]bool{}
	for line := range strings.Lines(string(css)) {
		line = strings.TrimSpace(line)
		selector, _, _ := strings.Cut(line, "{")
		switch {
		case line == "}":
			query = ""
		case strings.HasPrefix(line, "/*"):
		case strings.HasPrefix(line, "@") && !strings.HasSuffix(line, "}"):
			query = selector
		case seen[query+selector]:
			t.Errorf("%s has two rules", selector)
		default:
			seen[query+selector] = true
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d selectors were found", len(seen))
	}
}

func checkPage(t *testing.T, p *browser.Page, o browser.Options, at string) {
	t.Helper()
	for _, v := range p.Violations() {
		t.Errorf("%s %+v: %s", at, o, v)
	}
	for _, small := range p.SmallTargets(24) {
		t.Errorf("%s %+v: too small to be hit: %s", at, o, small)
	}
	if p.ScrollsSideways() {
		t.Errorf("%s scrolls sideways at %d px", at, o.Width)
	}
	if o.Width < 1280 {
		p.Resize(320, 640)
		if wide := p.SidewaysAt(); wide != "" {
			t.Errorf("%s scrolls sideways at 320 px, because of %s", at, wide)
		}
		p.Resize(o.Width, o.Height)
	}
}

// The first page is small, and needs few requests.
func TestFirstPage(t *testing.T) {
	t.Parallel()
	const (
		requests = 5
		first    = 60_000 // bytes, compressed
		css      = 16_000
		lines    = 400
	)
	w := newBusiness(t)
	p := chromium.Page(t, browser.Options{})
	w.enter(p, state.Admin, "", language.Portuguese)
	before := p.Requests()
	p.Open(w.url + "/console/")
	if n := p.Requests() - before; n > requests {
		t.Errorf("the first page needs %d requests, more than %d", n, requests)
	}
	b := w.as(state.Admin, "")
	page := b.open("/console/").body
	size, modules := len(page), 0 // pages are not compressed
	for at, body := range console.Assets() {
		if strings.Contains(page, at) {
			size += b.transferred(at)
		}
		if strings.Contains(at, ".css") && len(body) >= css {
			t.Errorf("%s has %d bytes, not less than %d", at, len(body), css)
		}
		if strings.Contains(at, ".js") && !strings.Contains(at, "uPlot") {
			modules += bytes.Count(body, []byte("\n"))
		}
	}
	if modules > lines {
		t.Errorf("the modules have %d lines, more than %d", modules, lines)
	}
	if size > first {
		t.Errorf("the first page has %d bytes, more than %d", size, first)
	}
	t.Logf("the first page: %d bytes, %d requests; the modules have %d lines", size, p.Requests()-before, modules)
}

// transferred is how many bytes an asset takes on the wire.
func (b *visitor) transferred(at string) int {
	b.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, b.world.url+at, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "gzip")
	if b.do(request); b.status != http.StatusOK || b.header.Get("Content-Encoding") != "gzip" {
		b.t.Fatalf("%s is answered with %d, in the encoding %q", at, b.status, b.header.Get("Content-Encoding"))
	}
	return len(b.body)
}

// The keyboard alone leads to the search, along rows, and to what they lead to. Who types text is not interrupted, and who does not want the keys
// switches them off.
func TestKeyboard(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newBusiness(t)
	p := chromium.Page(t, browser.Options{})
	w.enter(p, state.Admin, "", language.Portuguese)
	p.Open(w.url + "/console/audit")
	p.Press("jj")
	second := p.Focused()
	p.Press("k")
	if first := p.Focused(); first == second || first == "" {
		t.Errorf("j and k lead to %q and %q", second, first)
	}
	p.Press("/")
	if got := p.Focused(); got != "Objeto" {
		t.Fatalf("/ leads to %q, not to the search", got)
	}
	p.Press("jkrp?/" + kb.Enter)
	p.WaitText("Não há registros.")
	if !strings.Contains(p.URL(), "object=jkrp%3F%2F") {
		t.Errorf("keys were not typed into the field: %s", p.URL())
	}
	p.Press("?")
	p.WaitText("Linha seguinte e anterior")
	p.Press(kb.Escape)

	p.Open(w.url + "/console/")
	p.Press("p")
	p.WaitText("Retomar atualização")
	w.endpoint("novo-endpoint", "")
	p.Press("r")
	p.WaitText("novo-endpoint")
	p.Follow("Desligar atalhos do teclado")
	p.WaitText("Ligar atalhos do teclado")
	p.Press("?jj")
	if got := p.Focused(); strings.Contains(p.Text(), "Linha seguinte") || got != "" {
		t.Errorf("keys are switched off, and %q has the focus", got)
	}
	p.Follow("Ligar atalhos do teclado")
	p.Press("?")
	p.WaitText("Linha seguinte e anterior")
}
