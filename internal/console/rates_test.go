package console_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/browser"
	"gancho/internal/console"
	"gancho/internal/language"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// uPlot is what its authors have published as 1.6.32, and its license is handed out with it.
func TestVendored(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
		"uPlot.min.css":     "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
		"uPlot.LICENSE":     "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	}
	found := 0
	for at, body := range console.Assets() {
		name, _, _ := strings.Cut(strings.TrimPrefix(at, "/console/assets/"), "?")
		if !strings.HasPrefix(name, "uPlot") {
			continue
		}
		found++
		if hash := sha256.Sum256(body); hex.EncodeToString(hash[:]) != want[name] {
			t.Errorf("%s has the SHA-256 %x, want %s", name, hash, want[name])
		}
	}
	if found != len(want) {
		t.Errorf("%d files of uPlot are handed out, want %d", found, len(want))
	}
}

// tried adds attempts of a tenant's events to an endpoint, ten minutes ago: those that delivered took 100 ms, the others failed.
func (w *world) tried(endpoint, tenant string, delivered, failed int) {
	w.t.Helper()
	at := time.Now().Add(-10 * time.Minute).UTC().Truncate(time.Microsecond)
	var attempts []state.Attempt
	for i := range delivered + failed {
		a := state.Attempt{
			Time: at, Endpoint: endpoint, Entry: fmt.Sprint(i), WebhookID: fmt.Sprintf("%s-%d", endpoint, i), Event: "cobranca.paga", Tenant: tenant, Committed: at, Number: 1,
			Outcome: webhook.Delivered.String(), Class: webhook.ClassOK, Status: http.StatusOK, Duration: webhook.Milliseconds(100 * time.Millisecond),
		}
		if i >= delivered {
			a.Outcome, a.Class, a.Status = webhook.Retry.String(), webhook.ClassStatus, http.StatusServiceUnavailable
		}
		attempts = append(attempts, a)
	}
	if err := w.store.WriteAttempts(context.Background(), attempts); err != nil {
		w.t.Fatal(err)
	}
}

// The chart has the numbers of the span and of the endpoint that are asked for, and a tenant's are its own.
func TestRates(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "1")
	w.endpoint("erp", "2")
	w.tried("crm", "1", 1200, 30)
	w.tried("erp", "2", 5, 1)
	b := w.as(state.Viewer, "")
	b.open("/console/")
	b.open(b.href("Ver o gráfico")).shows(http.StatusOK, "Entregues 1.205", "Tentativas que falharam 31", "95 % em até 100 ms", "Envios a cada 1 min", "no máximo 1.205")
	for span, rows := range map[string]int{"hour": 60, "six_hours": 72, "day": 72, "week": 84, "wrong": 60} {
		if b.open("/console/rates?span=" + span).shows(http.StatusOK); strings.Count(b.body, "<tr data-at=") != rows {
			t.Errorf("%s has %d intervals, want %d", span, strings.Count(b.body, "<tr data-at="), rows)
		}
	}
	b.submit("Mostrar", "Endpoint", "erp").shows(http.StatusOK, "Entregues 5", "Tentativas que falharam 1")
	b.submit("Mostrar", "Endpoint", "nenhum").shows(http.StatusUnprocessableEntity, "Não há endpoint com este nome")
	tenant := w.as(state.Viewer, "1")
	tenant.open("/console/rates").shows(http.StatusOK, "Entregues 1.200", "Tentativas que falharam 30")
	tenant.open("/console/rates?endpoint=erp").shows(http.StatusUnprocessableEntity, "Não há endpoint com este nome")
}

// A part of the chart is enlarged with the mouse, and with buttons alone; without JavaScript there is a still chart, and the numbers.
func TestRatesInChromium(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "")
	w.tried("crm", "", 40, 7)
	shown := regexp.MustCompile(`\d\d/\d\d \d\d:\d\d – \d\d/\d\d \d\d:\d\d`)
	for _, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900}, {Dark: true, Width: 360, Height: 640}, {NoScript: true, Width: 360, Height: 640}}) {
		p := chromium.Page(t, o)
		w.enter(p, state.Viewer, "", language.Portuguese)
		p.Follow("Ver o gráfico")
		inspect(t, p, &o, "rates")
		if o.NoScript {
			if !p.Shows("#chart-still svg") || p.Shows("#chart-zoom") {
				t.Error("without JavaScript the still chart is not shown, or buttons that do nothing are")
			}
			p.Click("Os números")
			p.WaitText("40")
			continue
		}
		if p.Shows("#chart-still") || !p.Shows("#chart-plot canvas") {
			t.Error("the chart that can be enlarged is not drawn")
		}
		whole := shown.FindString(p.Text())
		p.Drag("#chart-plot .u-over", 0.25, 0.75)
		p.WaitGone(whole)
		enlarged := shown.FindString(p.Text())
		p.Click("Depois")
		p.WaitGone(enlarged)
		p.Click("Tudo")
		p.WaitText(whole)
		p.Click("Ampliar")
		p.WaitGone(whole)
		p.Click("Reduzir")
		p.WaitText(whole)
		if whole == "" || enlarged == whole {
			t.Errorf("%q was enlarged to %q", whole, enlarged)
		}
		inspect(t, p, &o, "rates-enlarged")
	}
}
