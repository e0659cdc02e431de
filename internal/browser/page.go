package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"gancho/internal/retry"
)

// Page is one tab.
type Page struct {
	t   TB
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in its context
	axe string

	mu       sync.Mutex
	refused  []string
	requests int
}

func (p *Page) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests++
	case *audits.EventIssueAdded:
		if d := e.Issue.Details.ContentSecurityPolicyIssueDetails; d != nil {
			p.refused = append(p.refused, strings.TrimSpace(fmt.Sprintf("%s: %s %s", d.ContentSecurityPolicyViolationType, d.ViolatedDirective, d.BlockedURL)))
		}
	}
}

// Refused returns what the content security policies of the pages have refused up to now, Trusted Types included.
func (p *Page) Refused() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refused)
}

// Requests returns how many requests the page has made up to now.
func (p *Page) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Open goes to url and waits until it is loaded.
func (p *Page) Open(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
}

// URL returns the address.
func (p *Page) URL() string {
	p.t.Helper()
	return run(p, chromedp.Location())
}

// Text returns what can be read on the page.
func (p *Page) Text() string {
	p.t.Helper()
	return evaluate[string](p, `document.body ? document.body.innerText : ''`)
}

// WaitText waits until the page, or one that follows it, shows text.
func (p *Page) WaitText(text string) { p.t.Helper(); p.wait(text, true) }

// WaitGone waits until the page, or one that follows it, shows text no longer.
func (p *Page) WaitGone(text string) { p.t.Helper(); p.wait(text, false) }

func (p *Page) wait(text string, there bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	reached := chromedp.Evaluate[bool](fmt.Sprintf(`!!document.body && document.body.innerText.includes(%s) === %t`, quoted(text), there))
	for { // evaluated again and again, as a poll inside the page ends with the page
		if ok, err := chromedp.Run(ctx, reached); ok && err == nil {
			return
		}
		if retry.Wait(ctx, 20*time.Millisecond) != nil {
			p.t.Fatalf("browser: %q is shown: not %t, at %s:\n%s", text, there, p.URL(), p.Text())
		}
	}
}

// Shows reports whether an element, by a CSS selector, takes up room on the page, and is not in what is closed.
func (p *Page) Shows(selector string) bool {
	p.t.Helper()
	return evaluate[bool](p, `(() => {
		const e = document.querySelector(%s), r = e?.getBoundingClientRect();
		return !!r && r.width > 0 && r.height > 0 && e.checkVisibility();
	})()`, quoted(selector))
}

// find is JavaScript: elements by their accessible names, which for fields are the texts of their labels, and for what
// can be clicked aria-label or the text itself.
const find = `(() => {
	const clean = s => (s || '').replace(/\s+/g, ' ').trim();
	const seen = e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 && e.checkVisibility(); };
	const labels = e => e.labels && e.labels.length ? [...e.labels].map(l => l.textContent).join(' ') : '';
	const name = e => clean(e.getAttribute('aria-label') || labels(e) || (e.tagName === 'INPUT' ? e.value : e.textContent));
	const all = (what, n) => [...document.querySelectorAll(what)].filter(e => seen(e) && name(e) === n);
	return {
		fields: n => all('input:not([type=hidden]):not([type=submit]), textarea, select', n),
		buttons: n => all('a[href], button, summary, input[type=submit], [role=button]', n),
	};
})()`

// Fill replaces the content of the field with this label: of several the first that is empty, else the last.
func (p *Page) Fill(label, value string) {
	p.t.Helper()
	if !evaluate[bool](p, `(() => {
		const all = %s.fields(%s), e = all.find(e => !e.value) || all[all.length - 1];
		if (!e) return false;
		e.scrollIntoView({block: 'center', behavior: 'instant'});
		e.focus();
		if (e.select) e.select();
		return true;
	})()`, find, quoted(label)) {
		p.missing("field", label)
	}
	p.do(chromedp.KeyEvent(kb.Delete))
	call(p, input.InsertText, input.InsertTextParams{Text: value})
}

// Choose chooses an option, by its text, of the select with this label.
func (p *Page) Choose(label, option string) {
	p.t.Helper()
	if !evaluate[bool](p, `(() => {
		for (const e of %s.fields(%s)) for (const o of e.options || []) if (o.text.trim() === %s) {
			e.value = o.value;
			e.dispatchEvent(new Event('input', {bubbles: true}));
			e.dispatchEvent(new Event('change', {bubbles: true}));
			return true;
		}
		return false;
	})()`, find, quoted(label), quoted(option)) {
		p.missing("select with option "+option, label)
	}
}

// Check clicks the checkbox or radio button with this label.
func (p *Page) Check(label string) {
	p.t.Helper()
	p.do(p.mouse("fields", label, 0))
}

// Click clicks the link or button with this name and does not wait for what comes of it: WaitText does.
func (p *Page) Click(name string) { p.t.Helper(); p.ClickNth(name, 0) }

// ClickNth is Click for the i-th, from 0 on, of several with the same name.
func (p *Page) ClickNth(name string, i int) {
	p.t.Helper()
	p.do(p.mouse("buttons", name, i))
}

// Follow clicks the link or button with this name and waits until the page that it leads to is loaded.
func (p *Page) Follow(name string) {
	p.t.Helper()
	click := p.mouse("buttons", name, 0)
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, click); err != nil {
		p.t.Fatalf("browser: %q leads nowhere at %s: %v", name, p.URL(), err)
	}
}

// mouse scrolls to an element and returns the click into its middle, which nothing may cover.
func (p *Page) mouse(kind, name string, i int) chromedp.Action[chromedp.Void] {
	p.t.Helper()
	at := evaluate[[]float64](p, `(() => {
		const e = %s.%s(%s)[%d];
		if (!e) return [];
		e.scrollIntoView({block: 'center', behavior: 'instant'});
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2, top = document.elementFromPoint(x, y);
		return top && (e.contains(top) || [...(e.labels || [])].some(l => l.contains(top))) ? [x, y] : [x];
	})()`, find, kind, quoted(name), i)
	switch len(at) {
	case 0:
		p.missing(kind, name)
	case 1:
		p.t.Fatalf("browser: %q is covered at %s", name, p.URL())
	}
	return chromedp.MouseClickXY(at[0], at[1])
}

func (p *Page) missing(what, name string) {
	p.t.Helper()
	p.t.Fatalf("browser: no %s %q at %s:\n%s", what, name, p.URL(), p.Text())
}

// Press sends keys to what has the focus: text, or keys of chromedp/kb. Text is in the event of the key's going down, as from a keyboard: chromedp
// sends it on its own, so that it is typed even where a page has prevented that.
func (p *Page) Press(keys string) {
	p.t.Helper()
	for _, key := range keys {
		for _, e := range kb.Encode(key) {
			switch e.Type {
			case kb.KeyChar:
				continue
			case kb.KeyDown:
				if r := kb.Keys[key]; r != nil && r.Print {
					e.Type, e.Text, e.UnmodifiedText = "keyDown", r.Text, r.Unmodified
				}
			}
			call(p, input.DispatchKeyEvent, *e)
		}
	}
}

// Drag drags the mouse over an element, by a CSS selector, from a part of its width to another: 0 is its left edge, 1 its right one.
func (p *Page) Drag(selector string, from, to float64) {
	p.t.Helper()
	box := evaluate[[]float64](p, `(() => {
		const e = document.querySelector(%s);
		if (!e) return [];
		e.scrollIntoView({block: 'center', behavior: 'instant'});
		const r = e.getBoundingClientRect();
		return [r.x, r.width, r.y + r.height / 2];
	})()`, quoted(selector))
	if len(box) == 0 {
		p.missing("element", selector)
	}
	move := input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved, X: box[0] + from*box[1], Y: box[2]}
	call(p, input.DispatchMouseEvent, move)
	move.Type, move.Button, move.ClickCount = input.DispatchMouseEventTypeMousePressed, input.MouseButtonLeft, 1
	call(p, input.DispatchMouseEvent, move)
	move.Type, move.X, move.Buttons = input.DispatchMouseEventTypeMouseMoved, box[0]+to*box[1], 1
	call(p, input.DispatchMouseEvent, move)
	move.Type = input.DispatchMouseEventTypeMouseReleased
	call(p, input.DispatchMouseEvent, move)
}

// Screenshot draws the whole page as PNG.
func (p *Page) Screenshot() []byte {
	p.t.Helper()
	return run(p, chromedp.FullScreenshot(100))
}

// View draws what the window shows as PNG.
func (p *Page) View() []byte {
	p.t.Helper()
	return run(p, chromedp.CaptureScreenshot())
}

// Resize gives the window another size, in CSS pixels.
func (p *Page) Resize(width, height int) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(int64(width), int64(height)))
}

// Focused is the text of what has the focus, of a field its label; "": nothing has.
func (p *Page) Focused() string {
	p.t.Helper()
	return evaluate[string](p, `(() => {
		const e = document.activeElement;
		return !e || e === document.body ? '' : [...(e.labels || [e])].map(l => l.textContent).join(' ').replace(/\s+/g, ' ').trim();
	})()`)
}

// SmallTargets returns what can be clicked and is lower or narrower than least CSS pixels: "text: width × height" each. A link in the midst of
// a sentence may be: the line's height bounds it (WCAG 2.5.8).
func (p *Page) SmallTargets(least int) []string {
	p.t.Helper()
	return evaluate[[]string](p, `[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary, [role=button]')].flatMap(e => {
		const r = e.getBoundingClientRect();
		const within = getComputedStyle(e).display === 'inline' && e.closest('p') && e.closest('p').textContent.trim() !== e.textContent.trim();
		if (r.width === 0 || r.height === 0 || within || r.right < 0) return [];
		return r.width < %[1]d || r.height < %[1]d ? [(e.textContent || e.id).trim() + ': ' + r.width + ' × ' + r.height] : [];
	})`, least)
}

// ScrollsSideways says whether the page is wider than its window.
func (p *Page) ScrollsSideways() bool {
	p.t.Helper()
	return evaluate[bool](p, `document.documentElement.scrollWidth > document.documentElement.clientWidth`)
}

// SidewaysAt describes what makes the page wider than its window; "": nothing does.
func (p *Page) SidewaysAt() string {
	p.t.Helper()
	return evaluate[string](p, `(() => {
		const width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= width) return '';
		const wide = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > width);
		return wide.map(e => e.tagName.toLowerCase() + '.' + e.className + ' ' + e.textContent.trim().slice(0, 40)).join('; ') || 'the body';
	})()`)
}

// Violations returns what axe-core finds against WCAG 2.2 A and AA: "rule: help: selector" each.
func (p *Page) Violations() []string {
	p.t.Helper()
	if !evaluate[bool](p, `typeof axe === 'object'`) {
		run(p, chromedp.Evaluate[chromedp.Void](p.axe))
	}
	text := evaluate[string](p, `axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}).then(r =>
		JSON.stringify(r.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + v.help + ': ' + n.target.join(' ')))))`)
	var found []string
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		p.t.Fatalf("browser: axe-core answered %q: %v", text, err)
	}
	return found
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // strings have no errors
	return string(b)
}
