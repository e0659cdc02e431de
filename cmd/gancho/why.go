package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/state"
)

const (
	// whyTimeout bounds one question, maxWhy its answer in bytes.
	whyTimeout = time.Minute
	maxWhy     = 32 << 20
	// whyToken is how long a token is valid that is made for one question.
	whyToken = 5 * time.Minute
)

// whyFlags are those of gancho why.
type whyFlags struct {
	sessionFlags
	table, key, since, url string
	row                    bool
}

func newWhyCommand() *cobra.Command {
	var f whyFlags
	cmd := &cobra.Command{
		Use: "why", Short: "Show what became of a row's changes, and why an event did not happen", Args: noArguments,
		Long: `Show what became of the newest changes of a row: which rules looked at each, which part of
when was false or null, which endpoints the event was queued for and which not, and how
its delivery went.

The process that captures remembers this, without values, until it ends. It is asked over
its HTTP API: at http.listen of the configuration, or at --url (or $GANCHO_URL). With a
token in $GANCHO_TOKEN and an address no configuration is needed; without a token one is
made from the configuration's state database, valid for this question alone.

With --row the row is also read as it is now, and each part of each rule's when is shown
with what it is for it: true, false or null, and the values that it names; personal ones
are hidden. That needs a token of an operator, and is written to the audit log.`,
		Example: "  gancho why --table cobrancas --key 4711\n  gancho why --table cobrancas --key 4711 --row\n  gancho why --table cobrancas --key 4711 --since 2h --json\n  GANCHO_TOKEN=... gancho why --url http://10.0.0.5:8620 --table itens_pedido --key 15,2",
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.table, "table", "", "the row's `table`")
	flags.StringVar(&f.key, "key", "", "the row's primary `key`; several columns joined by commas")
	flags.StringVar(&f.since, "since", "", "changes from this `time` on: RFC 3339, a date, or how long ago (2h)")
	flags.BoolVar(&f.row, "row", false, "also read the row as it is now, and evaluate the rules' conditions on it")
	flags.StringVar(&f.url, "url", "", "`address` of the gancho run that captures (default: $GANCHO_URL, or http.listen)")
	return cmd
}

func (f *whyFlags) run(cmd *cobra.Command) error {
	switch {
	case f.table == "":
		return usageError{errors.New("--table is missing: the table of the row, such as --table cobrancas")}
	case f.key == "":
		return usageError{errors.New("--key is missing: the row's primary key, such as --key 4711; several columns joined by commas")}
	}
	at, token, zone := cmp.Or(f.url, os.Getenv("GANCHO_URL")), os.Getenv("GANCHO_TOKEN"), time.Local
	s := &session{cmd: cmd, json: f.json}
	if at == "" || token == "" {
		var err error
		if s, err = f.connect(cmd, withStore); err != nil {
			return explain(err)
		}
		defer s.close()
		at, zone = cmp.Or(at, "http://"+s.config.HTTP.Listen), s.config.Source.Location
	}
	from, err := moment("--since", f.since, zone, time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), whyTimeout)
	defer cancel()
	if token == "" {
		t, err := s.CreateToken(ctx, s.actor, control.NewToken{Token: state.Token{
			Name: "why-" + strings.ToLower(rand.Text()[:10]), Role: f.role(), Expires: time.Now().Add(whyToken).UTC(),
		}})
		if err != nil {
			return explain(err)
		}
		defer func() { _ = s.RevokeToken(context.WithoutCancel(ctx), s.actor, t.Name) }() // it expires anyway
		token = t.Text
	}
	view, err := f.ask(ctx, at, token, from)
	if err != nil {
		return err
	}
	if s.json {
		return s.print(view)
	}
	return s.show(whyText(speech(cmd), view))
}

// role is what the question needs.
func (f *whyFlags) role() state.Role {
	if f.row {
		return state.Operator
	}
	return state.Viewer
}

// ask asks a bridge's API.
func (f *whyFlags) ask(ctx context.Context, at, token string, from time.Time) (*control.WhyView, error) {
	query := url.Values{"table": {f.table}, "key": {f.key}}
	if f.row {
		query.Set("row", "true")
	}
	if !from.IsZero() {
		query.Set("from", from.UTC().Format(time.RFC3339Nano))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(at, "/")+"/api/v1/why?"+query.Encode(), nil) //nolint:gosec // the address is that of whoever runs the command
	if err != nil || request.URL.Host == "" {
		return nil, usageError{fmt.Errorf("%q is not the address of a gancho run; write such as --url http://127.0.0.1:8620", at)}
	}
	request.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	answer, err := client.Do(request) //nolint:gosec // as above
	if err != nil {
		cause := err
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			cause = wrapped.Err // without the key, which is in the address
		}
		return nil, fmt.Errorf("ask gancho run at %s: %w; if it captures on another machine, give its address with --url", at, cause)
	}
	defer func() { _ = answer.Body.Close() }() // it is read only
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxWhy))
	if err != nil {
		return nil, fmt.Errorf("ask gancho run at %s: %w", at, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, whyProblem(at, answer.StatusCode, body)
	}
	view := new(control.WhyView)
	if err := json.Unmarshal(body, view); err != nil {
		return nil, fmt.Errorf("ask gancho run at %s: its answer cannot be read, it may be of another version: %w", at, err)
	}
	return view, nil
}

// whyProblem is an answer that is not what was asked for.
func whyProblem(at string, status int, body []byte) error {
	var problem struct{ Type, Detail string }
	if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		return fmt.Errorf("ask gancho run at %s: it answers %d; is the address that of its http.listen, and has it a state.key?", at, status)
	}
	err := fmt.Errorf("ask gancho run at %s: %s", at, strings.TrimSuffix(problem.Detail, "."))
	if status == http.StatusBadRequest {
		return usageError{err}
	}
	return err
}
