package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"gancho/internal/browser"
)

var chromium *browser.Browser

func TestMain(m *testing.M) {
	b, err := browser.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	chromium = b
	code := m.Run()
	b.Close()
	os.Exit(code)
}

const page = `<!doctype html><html lang="pt-BR"><title>Cadastro</title><main><h1>Cadastro</h1>
<form method="post"><label for="nome">Nome</label><input id="nome" name="nome"><label for="uf">Estado</label><select id="uf" name="uf"><option>SP<option>RJ</select>
<label><input type="checkbox" name="ok">Aceito</label><button>Salvar</button></form><p id="s"></p></main>
<script>document.getElementById('s').textContent = 'com script'</script></html>`

func server(t *testing.T, csp, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if csp != "" {
			w.Header().Set("Content-Security-Policy", csp)
		}
		if r.Method == http.MethodPost {
			_, _ = fmt.Fprintf(w, "<!doctype html><title>x</title><p>%s de %s, %s, %s", r.FormValue("nome"), r.FormValue("uf"), r.FormValue("ok"), r.Header.Get("Accept-Language"))
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestFormWithAndWithoutScript(t *testing.T) {
	t.Parallel()
	for _, o := range []browser.Options{{}, {NoScript: true, Language: "en", Width: 360, Height: 640}} {
		p := chromium.Page(t, o)
		p.Open(server(t, "", page))
		if got := strings.Contains(p.Text(), "com script"); got == o.NoScript {
			t.Errorf("with NoScript %t, the script ran: %t", o.NoScript, got)
		}
		p.Fill("Nome", "Conceição")
		p.Choose("Estado", "RJ")
		p.Check("Aceito")
		p.Follow("Salvar")
		want := "Conceição de RJ, on, pt-BR"
		if o.NoScript {
			want = "Conceição de RJ, on, en"
		}
		p.WaitText(want)
	}
}

func TestWhatIsWrongWithPages(t *testing.T) {
	t.Parallel()
	p := chromium.Page(t, browser.Options{Width: 320, Height: 600})
	p.Open(server(t, "default-src 'none'; style-src 'unsafe-inline'", page))
	if found := p.Violations(); len(found) != 0 {
		t.Errorf("axe-core finds %q in a good page", found)
	}
	if refused := p.Refused(); len(refused) != 1 || !strings.Contains(refused[0], "script-src") {
		t.Errorf("the policy has refused %q, want the inline script", refused)
	}
	if p.ScrollsSideways() {
		t.Error("a narrow page scrolls sideways")
	}
	p.Open(server(t, "require-trusted-types-for 'script'", `<!doctype html><html lang="pt"><title>x</title><input style="width:900px"><p style="color:#bbb;background:#fff">claro</p>
<script>try { document.querySelector('p').innerHTML = 'outro' } catch (e) {}</script></html>`))
	all := strings.Join(p.Violations(), "\n")
	if !strings.Contains(all, "label:") || !strings.Contains(all, "color-contrast:") {
		t.Errorf("axe-core finds only %s", all)
	}
	if refused := p.Refused(); len(refused) != 2 {
		t.Errorf("the policies have refused %q, want Trusted Types' violation too", refused)
	}
	if !p.ScrollsSideways() {
		t.Error("a wide page does not scroll sideways")
	}
	if png := p.Screenshot(); !strings.HasPrefix(string(png), "\x89PNG") {
		t.Error("the screenshot is no PNG")
	}
}
