package console_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gancho/internal/browser"
)

// inspect fails unless the page is one that everybody can use: axe finds nothing, it is as narrow as its window, and its policy
// has refused nothing. With GANCHO_SCREENSHOTS it is drawn into that directory.
func inspect(t *testing.T, p *browser.Page, o *browser.Options, name string) {
	t.Helper()
	if !o.NoScript {
		for _, v := range p.Violations() {
			t.Errorf("%s %+v: %s", name, *o, v)
		}
	}
	if p.ScrollsSideways() {
		t.Errorf("%s scrolls sideways at %d px", name, o.Width)
	}
	for _, refused := range p.Refused() {
		t.Errorf("%s %+v: the policy has refused %s", name, *o, refused)
	}
	if dir := os.Getenv("GANCHO_SCREENSHOTS"); dir != "" {
		file := fmt.Sprintf("%s-%d-%v-%s.png", name, o.Width, o.Dark, o.Language)
		if err := os.WriteFile(filepath.Join(dir, file), p.Screenshot(), 0o600); err != nil {
			t.Error(err)
		}
	}
}
