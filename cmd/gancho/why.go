package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/remote"
	"gancho/internal/state"
)

const (
	// whyTimeout bounds one question.
	whyTimeout = time.Minute
	// whyToken is how long a token is valid that is made for one question.
	whyToken = 5 * time.Minute
)

// whyFlags are those of gancho why.
type whyFlags struct {
	sessionFlags
	table, key, id, since, url string
	row                        bool
}

func newWhyCommand() *cobra.Command {
	var f whyFlags
	cmd := &cobra.Command{
		Use: "why", Short: "Show what became of a row's changes, and why an event did not happen", Args: noArguments,
		Long: `Show what became of the newest changes of a row: which rules looked at each, which part of
when was false or null, which endpoints the event was queued for and which not, and how
its delivery went. With --id it is that of one event, by the webhook-id that a receiver has:
also when it is not remembered any more, as far as the queues and the delivery log have it.

The process that captures remembers this, without values, until it ends. It is asked over
its HTTP API: at http.listen of the configuration, or at --url (or $GANCHO_URL). With a
token in $GANCHO_TOKEN and an address no configuration is needed; without a token one is
made from the configuration's state database, valid for this question alone.

With --row the row is also read as it is now, and each part of each rule's when is shown
with what it is for it: true, false or null, and the values that it names; personal ones
are hidden. That needs a token of an operator, and is written to the audit log.

Of many databases all are asked, and each change is told with its source; --source asks
one, which --row needs. With --id it says of which source the event is.`,
		Example: "  gancho why --table cobrancas --key 4711\n  gancho why --table cobrancas --key 4711 --row\n  gancho why --table cobrancas --key 4711 --since 2h --json\n  gancho why --id 5f0c2a11-001-00000000016b3e10-000000000000-0000\n  GANCHO_TOKEN=... gancho why --url https://webhooks.example.com:8620 --table itens_pedido --key 15,2",
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "", "the row's `table`")
	flags.StringVar(&f.key, "key", "", "the row's primary `key`; several columns joined by commas")
	flags.StringVar(&f.id, "id", "", "`webhook-id` of an event, instead of --table and --key")
	flags.StringVar(&f.since, "since", "", "changes from this `time` on: RFC 3339, a date, or how long ago (2h)")
	flags.BoolVar(&f.row, "row", false, "also read the row as it is now, and evaluate the rules' conditions on it")
	flags.StringVar(&f.url, "url", "", "`address` of the gancho run that captures (default: $GANCHO_URL, or http.listen)")
	return cmd
}

func (f *whyFlags) run(cmd *cobra.Command) error {
	switch {
	case f.id != "" && (f.table != "" || f.key != "" || f.since != "" || f.row):
		return usageError{errors.New("--id names one event; leave out --table, --key, --since and --row")}
	case f.id != "":
	case f.table == "":
		return usageError{errors.New("--table is missing: the table of the row, such as --table cobrancas; or name an event with --id")}
	case f.key == "":
		return usageError{errors.New("--key is missing: the row's primary key, such as --key 4711; several columns joined by commas")}
	}
	if f.api != "" {
		if f.url != "" {
			return usageError{errors.New("--api and --url exclude each other; keep one")}
		}
		return f.sessionFlags.run(cmd, 0, func(ctx context.Context, s *session) error { return f.tell(ctx, s) })
	}
	return explainWhy(f.ask(cmd))
}

// ask asks the bridge at --url, or at http.listen of the configuration.
func (f *whyFlags) ask(cmd *cobra.Command) error {
	at, token := cmp.Or(f.url, os.Getenv("GANCHO_URL")), givenToken()
	from := "--url"
	var certificate []byte // of the bridge here
	s := &session{cmd: cmd, json: f.json, place: place{zone: time.Local}}
	if at == "" || token == "" {
		var err error
		if s, err = f.connect(cmd, withStore); err != nil {
			return err
		}
		defer s.close()
		if at == "" {
			if certificate, err = certificateHere(&s.config.HTTP); err != nil {
				return err
			}
			at, from = bridgeHere(cmd.Context(), &s.config.HTTP), "http.listen"
		}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), whyTimeout)
	defer cancel()
	if token == "" {
		if _, err := moment("--since", f.since, s.zone, time.Now()); err != nil {
			return err // before a token is made
		}
		t, err := s.CreateToken(ctx, s.actor, control.NewToken{Token: state.Token{
			Name: "why-" + strings.ToLower(rand.Text()[:10]), Role: f.role(), Expires: time.Now().Add(whyToken).UTC(),
		}})
		if err != nil {
			return err
		}
		here := s.local
		defer func() { _ = here.RevokeToken(context.WithoutCancel(ctx), s.actor, t.Name) }() // it expires anyway
		token = t.Text
	}
	client, err := remote.New(remote.Options{Address: at, Token: token, Source: f.source, Version: version, Certificate: certificate})
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", from, err)}
	}
	defer client.Close()
	s.operations = client
	return f.tell(ctx, s)
}

// explainWhy is explain for a bridge that --url names.
func explainWhy(err error) error {
	if away, ok := errors.AsType[*remote.UnreachableError](err); ok {
		return fmt.Errorf("%w; if it captures on another machine, give its address with --url", away)
	}
	return explain(err)
}

// role is what the question needs.
func (f *whyFlags) role() state.Role {
	if f.row {
		return state.Operator
	}
	return state.Viewer
}

// tell asks, and prints what is answered.
func (f *whyFlags) tell(ctx context.Context, s *session) error {
	from, err := moment("--since", f.since, s.zone, time.Now())
	if err != nil {
		return err
	}
	view, err := s.Why(ctx, s.actor, control.WhyQuestion{Table: f.table, Key: f.key, WebhookID: f.id, From: from, Row: f.row})
	if err != nil {
		return err
	}
	if s.json {
		return s.print(view)
	}
	return s.show(whyText(speech(s.cmd), &view))
}
