package console_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gancho/internal/browser"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// The screens of endpoints, of what is pending and of jobs can be used by everybody, in both languages, light and dark, wide and
// narrow; a group of dead letters is redriven with a mouse, with and without JavaScript.
func TestDeskInChromium(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "1")
	w.endpoint("erp", "")
	w.dead("crm", "1", "a0", 400)
	w.dead("erp", "", "b0", 500)
	w.parked("o valor não cabe")
	shots := os.Getenv("GANCHO_TEST_SHOTS") // a directory: the pages are drawn there
	for _, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900}, {Dark: true, Language: "en", Width: 320, Height: 640}, {NoScript: true, Width: 360, Height: 640}}) {
		english := o.Language == "en"
		enter := map[bool]string{true: "Enter", false: "Entrar"}[english]
		p := chromium.Page(t, o)
		p.Open(w.link(state.Admin, ""))
		p.Follow(enter)
		for _, path := range []string{
			"endpoints", "endpoints/crm", "endpoints/crm/edit", "endpoints/crm/edit?as=yaml", "new-endpoint", "pending",
			"pending/dead?endpoint=erp&event=cobranca.paga&class=status&status=500", "pending/dead/2", "pending/parked?event=cliente.novo&rule=regras.yaml:3&reason=o+valor+n%C3%A3o+cabe", "jobs",
		} {
			p.Open(w.url + "/console/" + path)
			if !o.NoScript {
				for _, v := range p.Violations() {
					t.Errorf("%s %+v: %s", path, o, v)
				}
			}
			if p.ScrollsSideways() {
				t.Errorf("%s scrolls sideways at %d px", path, o.Width)
			}
			if shots != "" {
				name := strings.NewReplacer("/", "-", "?", "-", "&", "-", "=", "-", ":", "-", "+", "-", "%", "-").Replace(path)[:min(len(path), 30)]
				if err := os.WriteFile(filepath.Join(shots, name+"-"+strings.TrimSpace(enter)+map[bool]string{true: "-noscript", false: ""}[o.NoScript]+".png"), p.Screenshot(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, refused := range p.Refused() {
			t.Errorf("%+v: the policy has refused %s", o, refused)
		}
		if english {
			continue
		}
		id := map[bool]string{true: "a1", false: "a2"}[o.NoScript]
		w.dead("erp", "", id, 404)
		p.Open(w.url + "/console/pending")
		p.Follow("✕ O servidor recusou 404")
		p.Fill("Máximo por segundo", "20")
		p.Follow("Reenviar " + map[bool]string{true: "2", false: "1"}[o.NoScript])
		p.WaitText("O reenvio começou")
		p.Open(w.url + "/console/endpoints/erp")
		p.Follow("Testar")
		p.WaitText("ENTREGUE")
	}
}
