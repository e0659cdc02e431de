package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// sessionFlags are those of every command that works on what Gancho keeps.
type sessionFlags struct {
	config string
	json   bool
}

func (f *sessionFlags) register(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVarP(&f.config, "config", "c", "gancho.yaml", "configuration `file`")
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print JSON, for scripts")
}

// parts are what a command needs beside the configuration.
type parts uint8

const (
	withStore  parts = 1 << iota // PostgreSQL, where there is a state.key
	withQueue                    // Redis
	withSender                   // to send a test
	withSlot                     // to look at the source
)

// session is what a command works with.
type session struct {
	*control.Service
	actor  control.Actor
	config *config.Config
	cmd    *cobra.Command
	json   bool
	close  []func()
	failed []failure // what could not be opened, for status
}

// open reads the configuration and connects to what the command needs. The
// caller ends the session.
func (f *sessionFlags) open(cmd *cobra.Command, needs parts) (_ *session, err error) {
	c, err := config.Load(f.config, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	s := &session{actor: control.Actor{Name: "cli:" + osUser(), Role: state.Admin}, config: c, cmd: cmd, json: f.json}
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	o := control.Options{
		Version:   version,
		File:      func() []endpoint.Endpoint { return c.Endpoints },
		Catalogue: func() []control.EventType { return nil },
	}
	if needs&withStore != 0 && c.State.On() {
		if o.Store, err = s.openStore(cmd.Context()); err != nil {
			return nil, err
		}
	}
	if needs&withQueue != 0 {
		if o.Queue, err = s.openQueue(cmd.Context()); err != nil {
			return nil, err
		}
	}
	if needs&withSender != 0 {
		o.Sender = webhook.NewSender(webhook.Options{Version: version, Logger: zerolog.Nop()})
		s.close = append(s.close, o.Sender.Close)
	}
	if needs&withSlot != 0 {
		o.Slot = s.slot
	}
	s.Service = control.New(o)
	return s, nil
}

// end releases the connections.
func (s *session) end() {
	for _, c := range s.close {
		c()
	}
}

func (s *session) openStore(ctx context.Context) (*state.Store, error) {
	store, err := openState(ctx, s.config, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, store.Close)
	return store, nil
}

func (s *session) openQueue(ctx context.Context) (*queue.Queue, error) {
	redis.SetLogger(redisLog{zerolog.Nop()})
	o := queueOptions(&s.config.Queue)
	o.Logger = zerolog.Nop()
	queue, err := queue.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	s.close = append(s.close, func() { _ = queue.Close() }) // all that was sent has been answered
	return queue, nil
}

// slot asks the source how the capture stands.
func (s *session) slot(ctx context.Context) (control.Slot, error) {
	conn, err := cdc.Connect(ctx, s.config.Source.DSN.Reveal())
	if err != nil {
		return control.Slot{}, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	lag, err := cdc.Lag(ctx, conn, s.config.Source.Slot)
	if err != nil {
		return control.Slot{}, fmt.Errorf("%w; gancho run --create makes it", err)
	}
	return control.Slot{
		Name: s.config.Source.Slot, Active: lag.Active, UnconfirmedBytes: lag.UnconfirmedBytes, HeldBytes: lag.HeldBytes, WALStatus: lag.WALStatus,
	}, nil
}

// catalogueOf are the events that the rules make, for control.
func catalogueOf(rules *mapping.Rules) []control.EventType {
	var out []control.EventType
	for _, e := range rules.Catalogue() {
		out = append(out, control.EventType{
			Event: e.Event, Title: e.Title, Rule: e.Rule, Table: e.Table.String(), On: e.On, Fields: e.Fields, Version: e.Version,
		})
	}
	return out
}

// osUser is who sits at the command line, for the audit log.
func osUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// run opens a session, calls do, and says what a person can do about its error.
func (f *sessionFlags) run(cmd *cobra.Command, needs parts, do func(context.Context, *session) error) error {
	s, err := f.open(cmd, needs)
	if err == nil {
		defer s.end()
		err = do(cmd.Context(), s)
	}
	return explain(err)
}

// explain says what to do about an error, and makes wrong input a usageError.
func explain(err error) error {
	var invalid *control.InvalidError
	var readOnly *control.ReadOnlyError
	switch {
	case errors.As(err, &invalid), errors.As(err, &readOnly):
		return usageError{err}
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

// missing says of what there is nothing; other errors stay as they are.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, state.ErrNotFound) {
		return usageError{fmt.Errorf(format, args...)}
	}
	return err
}

// print writes a document for scripts.
func (s *session) print(v any) error {
	e := json.NewEncoder(s.cmd.OutOrStdout())
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// line writes one of a stream of documents.
func (s *session) line(v any) error {
	e := json.NewEncoder(s.cmd.OutOrStdout())
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// say writes a text for people.
func (s *session) say(format string, args ...any) error {
	_, err := fmt.Fprintf(s.cmd.OutOrStdout(), format, args...)
	return err
}

// isTerminal reports whether v is a terminal that a person sits at.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
