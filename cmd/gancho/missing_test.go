package main_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestResendMissing compares what a receiver has, as an access log has it, with the kept events.
func TestResendMissing(t *testing.T) {
	t.Parallel()
	s := newSession(t, "keep_events: 7d")
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example.com", "--tenants", "1", "--events", "cobranca.*")
	at := time.Now().Add(-time.Hour)
	var events []webhook.Message
	var received, missing []string
	for i := range 40 {
		id, err := queue.NewID(1, cdc.Position{Commit: cdc.LSN(0x1000 + i), Ordinal: 3}, 0)
		if err != nil {
			t.Fatal(err)
		}
		m := webhook.Message{ID: id.WebhookID("a1b2c3d4"), Type: "cobranca.paga", Tenant: "1", Key: "k", Time: at.Add(time.Duration(i) * time.Second), Sequence: id.Sequence(), Data: []byte("1")}
		switch {
		case i%8 == 7: // not the endpoint's, so that it does not miss it
			m.Tenant = "2"
		case i%3 == 0:
			missing = append(missing, m.ID)
		default:
			received = append(received, `10.0.0.1 - - "POST /hooks" 204 webhook-id="`+m.ID+`" seu-madruga`)
		}
		events = append(events, m)
	}
	if err := s.store().WriteEvents(context.Background(), events); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "recebidos.log")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("linha sem id\n\n" + strings.Join(received, "\n"))
	ask := []string{"resend", "--endpoint", "crm", "--from", "2h", "--missing-from", file}
	page := decoded[control.Page[state.Job]](s, append(slices.Clone(ask), "--dry-run")...)
	if len(page.Items) != 1 || !page.Items[0].DryRun || !slices.Equal(page.Items[0].Filter.Webhooks, missing) {
		t.Errorf("got %+v, want %q", page.Items, missing)
	}
	if out := s.ok(ask...); !strings.Contains(out, "of 35 events that are kept, 12 are missing there") || !strings.Contains(out, "job 1: 12 events to endpoint crm, queued") {
		t.Errorf("printed\n%s", out)
	}
	write(strings.Join(received, "\n") + "\n" + strings.Join(missing, "\n"))
	if out := s.ok(ask...); !strings.Contains(out, "0 are missing there") {
		t.Errorf("printed\n%s", out)
	}
	write("w1\nw2\n")
	s.fails(2, "none of its 2 lines has a webhook-id", ask...)
	s.fails(2, "no such file", "resend", "--endpoint", "crm", "--from", "2h", "--missing-from", file+"x")
	s.fails(2, "say which events", "resend", "--endpoint", "crm", "--missing-from", file)
}
