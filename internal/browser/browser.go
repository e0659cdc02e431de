// Package browser drives a headless Chromium in tests, as a person does: it finds fields by their labels and buttons
// by their names, clicks where they are drawn, and tells what axe-core and the page's own security policy find.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// Browser is a running Chromium.
type Browser struct {
	ctx   context.Context //nolint:containedctx // chromedp keeps the browser in its context
	close context.CancelFunc
	axe   string
}

// Start starts Chromium without a window. Close ends it; it also ends with the process that started it.
func Start() (*Browser, error) {
	axe, err := readAxe()
	if err != nil {
		return nil, fmt.Errorf("axe-core is missing, make deps installs it: %w", err)
	}
	// Root may not use the sandbox; tests open pages of their own only.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))
	// Debian's name of Chromium without windows, of which a page takes half of the processor's time.
	if shell, err := exec.LookPath("chromium-headless-shell"); err == nil {
		options = append(options, chromedp.ExecPath(shell))
	}
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	b := &Browser{ctx: ctx, axe: string(axe), close: func() { closeBrowser(); closeAllocator() }}
	if err := chromedp.Do(ctx); err != nil {
		b.close()
		return nil, fmt.Errorf("starting Chromium, which make deps installs: %w", err)
	}
	return b, nil
}

// readAxe reads axe-core from the packages of the tests, which stand beside go.mod: tests run in the directories below it.
func readAxe() ([]byte, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			return os.ReadFile(filepath.Join(dir, ".ci/npm/node_modules/axe-core/axe.min.js"))
		}
		dir = filepath.Dir(dir)
	}
	return nil, err
}

// Close ends the browser and every page of it.
func (b *Browser) Close() { b.close() }

// Options says how a page is looked at. The zero value is a desktop's window with a light theme.
type Options struct {
	Width, Height int    // CSS pixels; 0: 1280 × 800
	Dark          bool   // prefers-color-scheme
	Language      string // Accept-Language; empty: pt-BR
	NoScript      bool   // pages' scripts do not run
}

// TB is what a page needs of a *testing.T.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Page opens a blank page with cookies of its own, which is closed with the test. Its methods fail the test when what
// they look for is not there within half a minute.
func (b *Browser) Page(t TB, o Options) *Page {
	t.Helper()
	if o.Width == 0 {
		o.Width, o.Height = 1280, 800
	}
	if o.Language == "" {
		o.Language = "pt-BR"
	}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &Page{t: t, ctx: ctx, axe: b.axe}
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatalf("browser: %v", err)
	}
	theme := "light"
	if o.Dark {
		theme = "dark"
	}
	call(p, audits.Enable, cdp.Empty{})
	call(p, network.Enable, network.EnableParams{})
	call(p, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": o.Language}})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}})
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: o.NoScript})
	p.do(chromedp.EmulateViewport(int64(o.Width), int64(o.Height)))
	return p
}

// patience is how long a page waits for what a test expects of it.
const patience = 30 * time.Second

// do runs actions without a result; the first error fails the test.
func (p *Page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	run(p, chromedp.Steps(steps...))
}

// run runs an action and returns its result; an error fails the test.
func run[T any](p *Page, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("browser: %v", err)
	}
	return v
}

// call calls a command of the protocol, as run does.
func call[P, R any](p *Page, command cdp.Command[P, R], params P) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		p.t.Fatalf("browser: %s: %v", command.Method, err)
	}
}

// evaluate returns the value of a JavaScript expression, of a promise when it is settled.
func evaluate[T any](p *Page, format string, args ...any) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](fmt.Sprintf(format, args...), chromedp.EvalAwaitPromise))
}
