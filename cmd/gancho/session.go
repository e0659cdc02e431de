package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/remote"
	"gancho/internal/state"
	"gancho/mapping"
)

// sessionFlags are those of every command that works on what Gancho stores.
type sessionFlags struct {
	config string
	source string
	api    string
	json   bool
}

// registerConfig adds the flag for the configuration file.
func registerConfig(flags *pflag.FlagSet, path *string) {
	flags.StringVarP(path, "config", "c", "gancho.yaml", "configuration `file`")
}

// onConfig makes cmd a command that only needs the configuration.
func onConfig(cmd *cobra.Command, run func(*cobra.Command, *config.Config) error) *cobra.Command {
	var path string
	registerConfig(cmd.Flags(), &path)
	cmd.Args = noArguments
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(path, variable)
		if err != nil {
			return err
		}
		return run(cmd, c)
	}
	return cmd
}

// register adds the flags of a command that can also ask a bridge over its API.
func (f *sessionFlags) register(cmd *cobra.Command) {
	f.registerStored(cmd)
	registerSource(cmd.PersistentFlags(), &f.source)
}

// registerStored is register for a command on what is the same of all sources.
func (f *sessionFlags) registerStored(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.api, apiFlag, "", "ask the bridge at this `address` instead of reading the configuration; see gancho login")
	f.registerFile(cmd)
}

// registerHere adds those of one that works on files and databases.
func (f *sessionFlags) registerHere(cmd *cobra.Command) {
	f.registerFile(cmd)
	registerSource(cmd.PersistentFlags(), &f.source)
}

func (f *sessionFlags) registerFile(cmd *cobra.Command) {
	registerConfig(cmd.PersistentFlags(), &f.config)
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON, for scripts")
}

// parts are what a command needs beside the configuration.
type parts uint8

const (
	withStore  parts = 1 << iota // PostgreSQL, where there is a state.key
	withQueue                    // Redis
	withSender                   // to send a test
	withSlot                     // to read the slot at the source
	withRules                    // to read rows by the rules
	withQueues                   // Redis, of all sources where there are several
)

// session is what a command works with.
type session struct {
	operations
	actor control.Actor
	// local and config are those of this process; nil: the operations are those of a bridge that is asked over its API.
	local  *control.Service
	config *config.Config
	place
	source  string // the one of several that it is about; "": all, or there is one
	cmd     *cobra.Command
	json    bool
	closers []func()
	failed  map[string]error // by part, what could not be connected, for status
	unread  error            // why the queues of some of many sources could not be read
}

// connect reads the configuration and connects to what the command needs. The
// caller closes the session.
func (f *sessionFlags) connect(cmd *cobra.Command, needs parts) (*session, error) {
	if f.api != "" {
		return f.connectAPI(cmd)
	}
	c, err := config.Load(f.config, variable)
	if err != nil {
		return nil, err
	}
	if f.source != "" || c.Sources == nil || needs&(withQueue|withSlot|withRules) != 0 {
		if c, err = onSource(cmd.Context(), c, f.source); err != nil {
			return nil, err
		}
	}
	if needs&withQueues != 0 {
		needs |= withQueue
	}
	return f.open(cmd, c, needs)
}

// open connects to what a command needs, with a configuration of one source; of several, where it needs none of them.
func (f *sessionFlags) open(cmd *cobra.Command, c *config.Config, needs parts) (_ *session, err error) {
	s := &session{actor: control.Actor{Name: "cli:" + osUser(), Role: state.Admin}, config: c, place: placeOf(c), source: c.SourceName, cmd: cmd, json: f.json}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	o := control.Options{
		Version:  version,
		Unlogged: c.State.On() && c.State.KeepLog == 0,
		Zone:     c.Source.Location,
		Console:  consoleURL(&c.Console), SourceSlot: c.Source.Slot,
		Quotas:     quotas(&c.Quotas),
		SourceName: c.SourceName,
		File:       func() []*endpoint.Endpoint { return c.Endpoints },
		Catalogue:  func() []mapping.EventType { return nil },
	}
	if c.Sources != nil || c.SourceName != "" {
		o.Sources = func(context.Context) ([]control.Source, error) { return nil, nil } // there are several
	}
	if needs&withStore != 0 && c.State.On() {
		if o.Store, err = s.connectStore(cmd.Context()); err != nil {
			return nil, err
		}
	}
	if needs&withQueue != 0 {
		if o.Queue, err = s.connectQueue(cmd.Context(), o.Store); err != nil {
			return nil, err
		}
	}
	if needs&withQueues != 0 && c.Sources != nil {
		s.overSources(&o)
	}
	if needs&withSender != 0 {
		o.Sender = webhook.NewSender(webhook.Options{Version: version, Logger: zerolog.Nop()})
		s.closers = append(s.closers, o.Sender.Close)
	}
	if needs&withSlot != 0 {
		o.Slot, o.Hazards, o.Capture = s.slot, s.hazards, s.readiness
		o.WALBudget = c.Source.WALBudget
	}
	if needs&withRules != 0 {
		o.Backfill = s.planBackfill
	}
	s.local = control.New(o)
	s.operations = s.local
	return s, nil
}

// quotas are those of the configuration.
func quotas(q *config.Quotas) control.Quotas {
	of := func(q config.Quota) control.Quota {
		return control.Quota{Endpoints: q.Endpoints, Backlog: q.Backlog, BacklogBytes: q.BacklogBytes}
	}
	return control.Quotas{Tenant: of(q.Tenant), Total: of(q.Total), Patterns: q.Endpoint.Patterns, Headers: q.Endpoint.Headers}
}

// close closes the connections.
func (s *session) close() {
	for _, c := range s.closers {
		c()
	}
}

func (s *session) connectStore(ctx context.Context) (*state.Store, error) {
	store, err := openState(ctx, s.config)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, store.Close)
	return store, nil
}

// connectQueue connects to Redis; what has moved from there is in the store, which may be nil.
func (s *session) connectQueue(ctx context.Context, store *state.Store) (*queue.Queue, error) {
	redis.SetLogger(redisLog{zerolog.Nop()})
	o := queueOptions(&s.config.Queue)
	o.Logger = zerolog.Nop()
	switch {
	case store == nil:
	case s.config.SourceName != "":
		o.Overflow = store.OverflowOf(s.config.Source.Slot)
	default:
		o.Overflow = store.Overflow()
	}
	queue, err := queue.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = queue.Close() }) // all that was sent has been answered
	return queue, nil
}

// hazards reads the hazards at the source.
func (s *session) hazards(ctx context.Context) ([]cdc.Hazard, error) {
	conn, err := cdc.Connect(ctx, s.config.Source.DSN.Reveal())
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return cdc.Hazards(ctx, conn, cdc.Encoding(s.config.Source.Encoding), s.config.Source.Publication)
}

// slot reads the slot at the source.
func (s *session) slot(ctx context.Context) (cdc.Slot, error) {
	slot, err := slotAt(ctx, s.config)
	if errors.Is(err, cdc.ErrNoSlot) {
		err = fmt.Errorf("%w; create it with gancho run --create", err)
	}
	return slot, err
}

// slotAt reads the slot at the source of a configuration with one.
func slotAt(ctx context.Context, c *config.Config) (cdc.Slot, error) {
	conn, err := cdc.Connect(ctx, c.Source.DSN.Reveal())
	if err != nil {
		return cdc.Slot{}, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return cdc.ReadSlot(ctx, conn, c.Source.Slot)
}

// readiness asks the bridge on this machine what it waits for; nil when it is
// ready, and when none runs here.
func (s *session) readiness(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readinessTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, bridgeHere(ctx, &s.config.HTTP)+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := healthTransport().RoundTrip(request)
	if err != nil {
		return nil // it runs elsewhere, or not at all
	}
	defer func() { _ = answer.Body.Close() }() // it is read only
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxReadiness))
	if err == nil && answer.StatusCode == http.StatusServiceUnavailable {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return err
}

const (
	readinessTimeout = 5 * time.Second // /readyz asks both servers, which takes 2 seconds at most
	maxReadiness     = 4 << 10         // bytes
)

// osUser is who sits at the command line, for the audit log.
func osUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// run connects a session, calls do, and says what a person can do about its error.
func (f *sessionFlags) run(cmd *cobra.Command, needs parts, do func(context.Context, *session) error) error {
	s, err := f.connect(cmd, needs)
	if err == nil {
		defer s.close()
		err = cmp.Or(do(cmd.Context(), s), s.unread)
	}
	return explain(err)
}

// explain says what to do about an error, and makes wrong input a usageError.
func explain(err error) error {
	var invalid *control.InvalidError
	var readOnly *control.ReadOnlyError
	var away *remote.UnreachableError
	unknown, misnamed := x509.UnknownAuthorityError{}, x509.HostnameError{}
	switch {
	case errors.As(err, &away) && errors.As(err, &unknown):
		return oneLine(err, "trust its authority on this machine: among those of the system, or in a file that SSL_CERT_FILE names")
	case errors.As(err, &away) && errors.As(err, &misnamed):
		return oneLine(err, "write the address with a name that its certificate has")
	case errors.As(err, &away):
		return oneLine(err, "check the address, and that gancho run listens there (http.listen)")
	case errors.As(err, &invalid), errors.As(err, &readOnly):
		return usageError{err}
	case errors.Is(err, state.ErrBusy):
		return err
	case errors.Is(err, state.ErrUnreachable):
		return oneLine(err, "check state.dsn (source.dsn without it), and that its server runs")
	case errors.Is(err, queue.ErrUnreachable):
		return oneLine(err, "check queue in the configuration, and that Redis runs")
	}
	return err
}

// oneLine is an error of a connection, whose text has a line for each address
// that was tried, with what to do.
func oneLine(err error, hint string) error {
	return fmt.Errorf("%s; %s", strings.Join(strings.Fields(err.Error()), " "), hint)
}

// missing explains what does not exist; other errors stay as they are.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, state.ErrNotFound) {
		return usageError{fmt.Errorf(format, args...)}
	}
	return err
}

// print writes a document for scripts.
func (s *session) print(v any) error { return s.encode("  ", v) }

// encode writes JSON in lines with the indent; "": in one line.
func (s *session) encode(indent string, v any) error {
	e := json.NewEncoder(s.cmd.OutOrStdout())
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	return e.Encode(v)
}

// result writes a document with --json, and a sentence for people otherwise.
func (s *session) result(document any, format string, args ...any) error {
	return s.report(document, s.said(fmt.Sprintf(format, args...)))
}

// report writes a document with --json, and a text that is in the language of people already otherwise.
func (s *session) report(document any, text string) error {
	if s.json {
		return s.print(document)
	}
	return s.show(text)
}

// say writes a sentence for people, in their language.
func (s *session) say(format string, args ...any) error {
	return s.show(s.said(fmt.Sprintf(format, args...)))
}

// said is a sentence in the language of people.
func (s *session) said(text string) string { return said(speech(s.cmd), text) }

// show writes a text as it is.
func (s *session) show(text string) error {
	_, err := io.WriteString(s.cmd.OutOrStdout(), text)
	return err
}

// facts are a table of one thing: in each row a name, and a value as it is.
func (s *session) facts() (row func(name, text string), end func() error) {
	t := newTable(s.cmd.OutOrStdout())
	return func(name, text string) { t.row(s.said(name), text) }, t.end
}

// isTerminal reports whether v is a terminal that a person sits at.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
