package console_test

import (
	"fmt"
	"testing"

	"gancho/internal/browser"
	"gancho/internal/state"
)

// The page shows what is attempted while it is open, as far as its filter chooses it; a pause keeps it back.
func TestLive(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "")
	p := chromium.Page(t, browser.Options{})
	p.Open(w.link(state.Viewer, ""))
	p.Follow("Entrar")
	p.Open(w.url + "/console/live?endpoint=crm")
	p.WaitText("Conectado")
	w.sent(1, "erp", "1", "outra", "delivered", 1)
	for n := 2; n < 40; n++ {
		w.sent(n, "crm", "1", fmt.Sprint("linha-", n), "retry", 1)
	}
	p.WaitText("linha-39")
	p.Click("Pausar")
	p.WaitText("Pausado")
	w.sent(50, "crm", "1", "depois", "delivered", 1)
	p.Click("Continuar")
	p.WaitText("depois")
	for _, refused := range p.Refused() {
		t.Errorf("the policy has refused %s", refused)
	}
}
