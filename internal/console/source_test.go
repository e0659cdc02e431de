package console_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/internal/browser"
	"gancho/internal/doctor"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// Origem shows the slot, and what the doctor finds at a real server: with the statement, who runs it and why, and what is
// put off with its reason. It is no tenant's.
func TestSource(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	dsn := pg.Database(t, "")
	w.control.WALBudget = 4 << 20
	w.control.Examine = func(ctx context.Context) (doctor.Report, error) {
		return doctor.Run(ctx, doctor.Options{
			Source: cdc.Options{DSN: dsn, Slot: "gancho", Publication: "gancho"}, Version: "test",
			Check: func(context.Context, bool) ([]cdc.Finding, []cdc.TableNeed) {
				return []cdc.Finding{{
					ID: "identity.missing", Severity: cdc.SeverityProblem, Where: "rules/a.yaml:3", Title: "when needs the old value", Why: "the server sends no old row",
					Statements: []cdc.Statement{cdc.IdentityFull(cdc.Name{Schema: "public", Name: "cobrancas"})}, Remedy: "or leave it out of the rule",
				}}, nil
			},
			Snooze: []doctor.Snooze{{ID: "server.max_slot_wal_keep_size", Until: time.Date(2999, 1, 31, 0, 0, 0, 0, time.UTC), Reason: "o disco é grande"}},
		}), nil
	}
	b := w.as(state.Operator, "")
	b.open("/console/source").shows(http.StatusOK, "LIDO", "3,0 MiB", "4,0 MiB (75 % usado)", "Ninguém verificou ainda")
	b.submit("Verificar agora").shows(http.StatusOK, "Verificação concluída.", "Problema when needs the old value", "Por que importa: the server sends no old row",
		"Rode como o dono de public.cobrancas:", "ALTER TABLE public.cobrancas REPLICA IDENTITY FULL;", "or leave it out of the rule",
		"Adiado até 31/01/2999: o disco é grande")
	for _, c := range []struct {
		role   state.Role
		tenant string
		status int
	}{{state.Admin, "1", http.StatusNotFound}, {state.Viewer, "", http.StatusForbidden}} {
		v := w.as(c.role, c.tenant)
		v.open("/console/source").shows(c.status)
		v.post("/console/source/examine", nil).shows(c.status)
		if v.href("Origem") != "" {
			t.Errorf("%s of tenant %q is shown the screen", c.role, c.tenant)
		}
	}
	for _, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900}, {Dark: true, Language: "en", Width: 320, Height: 640}, {NoScript: true, Width: 360, Height: 640}}) {
		p := chromium.Page(t, o)
		english := o.Language == "en"
		p.Open(w.link(state.Operator, ""))
		p.Follow(map[bool]string{true: "Enter", false: "Entrar"}[english])
		p.Open(w.url + "/console/source")
		p.Follow(map[bool]string{true: "Check now", false: "Verificar agora"}[english])
		inspect(t, p, &o, "source")
	}
}
