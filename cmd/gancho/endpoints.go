package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

func newEndpointsCommand() *cobra.Command {
	var f sessionFlags
	cmd := group("endpoints", "Look after the endpoints that receive events", `Endpoints are in gancho.yaml or in the state database. Those of the database are
added and changed here, take effect in every running bridge within a second, and
need state.key in gancho.yaml; those of the file are shown, tested and activated.`)
	f.register(cmd)
	cmd.AddCommand(
		newEndpointsListCommand(&f), newEndpointsShowCommand(&f), newEndpointsAddCommand(&f), newEndpointsEditCommand(&f),
		newEndpointsStateCommand(&f, "activate", "Send to an endpoint again, also after it was paused by itself",
			"Activate an endpoint that is paused or inactive, or that was paused by itself (an\nanswer 410, days of failures, on_exhausted: pause). Events that block their key\n(on_exhausted: block) get one more attempt.", withStore|withQueue, activate),
		newEndpointsStateCommand(&f, "pause", "Keep an endpoint's events in its queue until it is activated",
			"Pause an endpoint: its events are queued, and not sent.", withStore, pause),
		newEndpointsStateCommand(&f, "deactivate", "Queue nothing more for an endpoint",
			"Deactivate an endpoint: what is committed from now on never reaches it. What is\nqueued stays, and is not sent. To lose nothing, pause it instead.", withStore, deactivate),
		newEndpointsRotateCommand(&f), newEndpointsTestCommand(&f), newEndpointsRemoveCommand(&f),
	)
	return cmd
}

// group is a command that only has others below it.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Args: noSubcommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
}

// noSubcommand refuses what is not the name of a command below cmd.
func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if s := strictyaml.Closest(args[0], names); s != "" {
		return usageError{fmt.Errorf("unknown command %q for %q; did you mean %q?", args[0], cmd.CommandPath(), s)}
	}
	return usageError{fmt.Errorf("unknown command %q for %q; there are %s", args[0], cmd.CommandPath(), strings.Join(names, ", "))}
}

// oneName is the name of one thing, as the only argument.
func oneName(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 || args[0] == "":
			return usageError{fmt.Errorf("name the %s: %s", what, cmd.UseLine())}
		case len(args) > 1:
			return usageError{fmt.Errorf("unexpected argument %q for %q; it takes one %s", args[1], cmd.CommandPath(), what)}
		}
		return nil
	}
}

// noEndpoint says that there is no such endpoint.
func noEndpoint(err error, name string) error {
	return missing(err, "there is no endpoint %q; gancho endpoints list shows those there are", name)
}

func newEndpointsListCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the endpoints with their states and backlogs", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, withStore|withQueue, func(ctx context.Context, s *session) error {
				all, err := s.endpoints(ctx)
				if err != nil {
					return err
				}
				if s.json {
					return s.print(control.Page[control.EndpointView]{Items: all})
				}
				if len(all) == 0 {
					return s.say("there are no endpoints; add one with gancho endpoints add, or write it into %s\n", s.config.File)
				}
				return s.endpointTable(all, time.Now())
			})
		},
	}
}

// endpoints are all of them.
func (s *session) endpoints(ctx context.Context) ([]control.EndpointView, error) {
	all := []control.EndpointView{}
	for cursor := ""; ; {
		page, err := s.Endpoints(ctx, s.actor, cursor, control.MaxPage)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}

func (s *session) endpointTable(all []control.EndpointView, now time.Time) error {
	t := newTable(s.cmd.OutOrStdout(), "NAME", "STATE", "QUEUED", "OLDEST", "RETRYING", "AGAIN", "DEAD", "FROM", "URL")
	for _, e := range all {
		if e.Live == nil { // the queue could not be asked
			t.row(e.Name, standing(e, live(e))+"?", "?", "?", "?", "?", "?", e.From, setting(e, "url"))
			continue
		}
		l := live(e)
		t.row(e.Name, standing(e, l), count(l.Queued), age(l.Oldest, now), count(l.Retrying+l.Blocked), count(l.Replays), count(l.Dead), e.From, setting(e, "url"))
	}
	return t.end()
}

// live is how an endpoint stands, also when the queue could not be asked.
func live(e control.EndpointView) control.LiveView {
	if e.Live == nil {
		return control.LiveView{}
	}
	return *e.Live
}

// standing is an endpoint's state in a word or two.
func standing(e control.EndpointView, l control.LiveView) string {
	switch {
	case e.Problem != "":
		return "unusable"
	case e.State != "active":
		return e.State
	case l.Paused != "":
		return "suspended"
	case l.Held.After(time.Now()):
		return "held"
	case !l.Failing.IsZero():
		return "failing"
	case l.Blocked > 0:
		return "blocked"
	}
	return e.State
}

// setting is a text of the endpoint's settings.
func setting(e control.EndpointView, key string) string {
	var settings map[string]json.RawMessage
	var text string
	if json.Unmarshal(e.Settings, &settings) != nil || json.Unmarshal(settings[key], &text) != nil {
		return ""
	}
	return text
}

func newEndpointsShowCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show an endpoint's settings, keys and state", Args: oneName("endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, withStore|withQueue, func(ctx context.Context, s *session) error {
				e, err := s.Endpoint(ctx, s.actor, args[0])
				if err != nil {
					return noEndpoint(err, args[0])
				}
				if s.json {
					return s.print(e)
				}
				return s.showEndpoint(e, time.Now())
			})
		},
	}
}

func newEndpointsAddCommand(f *sessionFlags) *cobra.Command {
	var settings settingFlags
	var secrets secretFlags
	cmd := &cobra.Command{
		Use: "add [NAME]", Short: "Add an endpoint",
		Long: `Add an endpoint to the state database. Its settings come from flags, from a file
with the keys of an endpoint in gancho.yaml, or from both. A signing secret is made
and shown once, unless one is given.`,
		Example: `  gancho endpoints add crm-centro --url https://crm.example.com/hooks --events 'cobranca.*' --tenants 1
  gancho endpoints add crm-norte --file crm.yaml --secret-env CRM_SECRET
  gancho endpoints add cobranca --style superlogica --url https://erp.example.com/hook --extra 'validationtoken=${TOKEN}'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("unexpected argument %q for %q; it takes one name", args[1], cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := newEndpoint(cmd, args, &settings, &secrets)
			if err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error { return s.add(ctx, n) })
		},
	}
	settings.register(cmd)
	secrets.register(cmd)
	return cmd
}

// newEndpoint is what the command line wants added.
func newEndpoint(cmd *cobra.Command, args []string, settings *settingFlags, secrets *secretFlags) (control.NewEndpoint, error) {
	n := control.NewEndpoint{Ed25519: secrets.ed25519}
	if len(args) > 0 {
		n.Name = args[0]
	}
	if settings.file == "-" && secrets.file == "-" {
		return n, usageError{errors.New("--file and --secret-file cannot both be the standard input")}
	}
	secret, err := secrets.read(cmd.InOrStdin())
	if err != nil {
		return n, err
	}
	if secret != nil {
		n.Secrets = append(n.Secrets, *secret)
	}
	n.Origin, n.Document, err = settings.document(cmd, true)
	return n, err
}

func (s *session) add(ctx context.Context, n control.NewEndpoint) error {
	view, err := s.AddEndpoint(ctx, s.actor, n)
	if taken := new(control.TakenError); errors.As(err, &taken) {
		return usageError{fmt.Errorf("%w; change it with gancho endpoints edit %s, or choose another name", err, taken.Name)}
	}
	if err != nil {
		return err
	}
	if s.json {
		return s.print(view)
	}
	name := view.Endpoint.Name
	if err := s.say("endpoint %s added (%s)\n", name, view.Endpoint.State); err != nil {
		return err
	}
	return errors.Join(s.showSecret(view), s.say("test it: gancho endpoints test %s\n", name))
}

// showSecret prints a key that was made, the only time.
func (s *session) showSecret(view control.CreatedView) error {
	if view.Secret == "" {
		return nil
	}
	if view.Public != "" {
		return s.say("signing key (shown this once; keep it if you move the endpoint): %s\npublic key, for the receiver: %s\n", view.Secret, view.Public)
	}
	return s.say("secret (shown this once; give it to the receiver): %s\n", view.Secret)
}

func newEndpointsEditCommand(f *sessionFlags) *cobra.Command {
	var settings settingFlags
	var version int64
	cmd := &cobra.Command{
		Use: "edit NAME", Short: "Change an endpoint's settings",
		Long: `Change settings of an endpoint; those that are not named stay. A value null removes
a setting (--set rate=null), and *** keeps a secret that is there. With --file the
settings of the file are laid over those there are. The name, the state and the
secrets have commands of their own.`,
		Example: `  gancho endpoints edit crm-centro --rate 20/s
  gancho endpoints edit crm-centro --set 'retry=[5s, 1m, 10m]' --set rate=null`,
		Args: oneName("endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			origin, patch, err := settings.document(cmd, false)
			if err != nil {
				return err
			}
			if string(patch) == "{}" {
				return usageError{errors.New("nothing to change; name settings, such as --rate 20/s, or --file")}
			}
			if version < 0 {
				return usageError{fmt.Errorf("--version %d is not one; take it from gancho endpoints show", version)}
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				e, err := s.EditEndpoint(ctx, s.actor, args[0], control.Edit{Origin: origin, Patch: patch, Version: version})
				if errors.Is(err, state.ErrConflict) {
					return fmt.Errorf("the endpoint %q has been changed meanwhile; look at it with gancho endpoints show %s, and edit it again", args[0], args[0])
				}
				if err != nil {
					return noEndpoint(err, args[0])
				}
				if s.json {
					return s.print(e)
				}
				return s.say("endpoint %s changed (version %d)\n", e.Name, e.Version)
			})
		},
	}
	settings.register(cmd)
	cmd.Flags().Int64Var(&version, "version", 0, "refuse if the endpoint is not at this `version` any more")
	return cmd
}

// stateChange puts an endpoint into a state and says what that means.
type stateChange func(ctx context.Context, s *session, name string) (control.EndpointView, string, error)

func activate(ctx context.Context, s *session, name string) (control.EndpointView, string, error) {
	e, err := s.Activate(ctx, s.actor, name)
	return e, "is active", err
}

func pause(ctx context.Context, s *session, name string) (control.EndpointView, string, error) {
	e, err := s.Pause(ctx, s.actor, name)
	return e, "is paused; its events are queued until: gancho endpoints activate " + name, err
}

func deactivate(ctx context.Context, s *session, name string) (control.EndpointView, string, error) {
	e, err := s.Deactivate(ctx, s.actor, name)
	return e, "is inactive; events of now are not queued for it, and cannot be had later unless they are kept for resends", err
}

func newEndpointsStateCommand(f *sessionFlags, use, short, long string, needs parts, change stateChange) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME", Short: short, Long: long, Args: oneName("endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, needs, func(ctx context.Context, s *session) error {
				e, what, err := change(ctx, s, args[0])
				if err != nil {
					return noEndpoint(err, args[0])
				}
				if s.json {
					return s.print(e)
				}
				return s.say("endpoint %s %s\n", e.Name, what)
			})
		},
	}
}

func newEndpointsRotateCommand(f *sessionFlags) *cobra.Command {
	var secrets secretFlags
	var overlap string
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Give an endpoint a new signing secret",
		Long: `Give an endpoint a new signing secret. For the overlap each request carries a
signature of the new one and of the old ones, so that the receiver can change over
at any time within it.`,
		Example: "  gancho endpoints rotate crm-centro\n  gancho endpoints rotate crm-centro --overlap 0   # the old secret is known to somebody",
		Args:    oneName("endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := control.Rotation{Ed25519: secrets.ed25519}
			var err error
			if overlap != "0" {
				if r.Overlap, err = scalar("--overlap", overlap, func(v strictyaml.Value) time.Duration { return v.Duration(0, control.MaxOverlap) }); err != nil {
					return err
				}
			}
			if r.Secret, err = secrets.read(cmd.InOrStdin()); err != nil {
				return err
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error { return s.rotate(ctx, args[0], r) })
		},
	}
	secrets.register(cmd)
	cmd.Flags().StringVar(&overlap, "overlap", "24h", "how long the old secrets sign beside the new one, as a `duration`; 0: they stop at once")
	return cmd
}

func (s *session) rotate(ctx context.Context, name string, r control.Rotation) error {
	view, err := s.Rotate(ctx, s.actor, name, r)
	if err != nil {
		return noEndpoint(err, name)
	}
	if s.json {
		return s.print(view)
	}
	until := "the old secret has stopped signing"
	if !view.Until.IsZero() {
		until = "the old secret signs beside it until " + clock(view.Until)
	}
	return errors.Join(s.say("endpoint %s has a new secret; %s\n", name, until), s.showSecret(view))
}

func newEndpointsRemoveCommand(f *sessionFlags) *cobra.Command {
	var drop bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Remove an endpoint",
		Long: `Remove an endpoint and its secrets. Its queue is kept, unless --drop-queue: then the
running bridge deletes it. Dead letters and the delivery log stay in any case.`,
		Args: oneName("endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, withStore|withQueue, func(ctx context.Context, s *session) error {
				r, err := s.Remove(ctx, s.actor, args[0], drop)
				if err != nil {
					return noEndpoint(err, args[0])
				}
				if s.json {
					return s.print(r)
				}
				return s.say("%s\n", removed(r))
			})
		},
	}
	cmd.Flags().BoolVar(&drop, "drop-queue", false, "delete its queued events, too")
	return cmd
}

// removed says what is left of an endpoint, and how to get rid of it.
func removed(r control.RemovedView) string {
	text := "endpoint " + r.Name + " removed"
	if r.Orphaned {
		text = "endpoint " + r.Name + " was removed before"
	}
	events := plural(r.Queued, "queued event", "queued events")
	switch {
	case r.Dropped:
		return text + "; the bridge deletes its queue (" + events + ")"
	case r.Queued == 0:
		return text + "; nothing was queued"
	}
	return fmt.Sprintf("%s; its queue is kept with %s: add an endpoint %s again to deliver them, or delete them with gancho endpoints remove %s --drop-queue",
		text, events, r.Name, r.Name)
}
