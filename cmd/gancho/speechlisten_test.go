package main_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/forward"
	"gancho/internal/language"
	webhooks "gancho/internal/receiver"
)

// TestTranslatedEvents: all that gancho listen says of an event, and of all of them, has its Portuguese.
func TestTranslatedEvents(t *testing.T) {
	t.Parallel()
	portuguese, texts := language.Of(language.Portuguese), 0
	say := func(english string) string {
		texts++
		text, known := portuguese.Translated("cli.said", english)
		if !known {
			t.Errorf("pt-BR.yaml has no Portuguese for: %s", english)
		}
		return text
	}
	var out strings.Builder
	sum := webhooks.Summary{Received: 3, Accepted: 1, Failed: 1, Unverified: 1, Duplicates: 1, OutOfOrder: 1}
	for _, d := range []webhooks.Delivery{
		{Type: "cobranca.paga", Attempt: 1, Status: 200, Timestamp: time.Now(), CommitToArrival: time.Millisecond},
		{Verified: webhooks.ErrNotChecked, List: 3, Replay: true, Attempt: 2, OutOfOrder: true, Status: 500},
		{Verified: errors.New("wrong"), Duplicate: true, Status: 401},
	} {
		if err := webhooks.Print(&out, d, say); err != nil {
			t.Fatal(err)
		}
	}
	out.WriteString(sum.Text(say))
	for _, want := range []string{"[assinado]", "[não conferido] [lista de 3] [reenvio] [tentativa 2] [fora de ordem]", "3 recebidos, 1 aceitos"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	for _, e := range []forward.Exchange{{Resent: true}, {Replay: true}} {
		e.Answer = &webhook.ExchangeAnswer{Status: 200}
		if err := forward.Print(io.Discard, &e, say); err != nil {
			t.Fatal(err)
		}
	}
	if texts < 20 {
		t.Errorf("only %d texts were made", texts)
	}
}
