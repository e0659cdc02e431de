package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

func newEndpointsCommand() *cobra.Command {
	var f sessionFlags
	cmd := group("endpoints", "Manage endpoints", `An endpoint receives events. It is in gancho.yaml or in the state database. Those of
the database are added and changed here, take effect in every running bridge within a
second, and need state.key in gancho.yaml; those of the file can be shown, tested and
activated.`)
	f.register(cmd)
	cmd.AddCommand(
		newEndpointsListCommand(&f), newEndpointsShowCommand(&f), newEndpointsAddCommand(&f), newEndpointsEditCommand(&f),
		stateChange{
			use: "activate", short: "Send to an endpoint again, also after it was suspended automatically",
			long: `Activate an endpoint that is paused or inactive, or that was suspended automatically
(an answer 410, days of failures, on_exhausted: pause). Events that block their key
(on_exhausted: block) get one more attempt.`,
			result: "is active", needs: withStore | withQueues, change: operations.Activate,
		}.command(&f),
		stateChange{
			use: "pause", short: "Keep an endpoint's events in its queue until it is activated",
			long:   "Pause an endpoint: its events are queued, and not sent.",
			result: "is paused; its events are queued until: gancho endpoints activate %s", needs: withStore, change: operations.Pause,
		}.command(&f),
		stateChange{
			use: "deactivate", short: "Queue nothing more for an endpoint",
			long: `Deactivate an endpoint: events committed from now on never reach it. Queued events
stay, and are not sent. To lose nothing, pause it instead.`,
			result: "is inactive; events committed from now on are not queued for it; they can be sent later only if they are kept for resends",
			needs:  withStore, change: operations.Deactivate,
		}.command(&f),
		newEndpointsRotateCommand(&f), newEndpointsTestCommand(&f), newEndpointsRemoveCommand(&f),
	)
	return cmd
}

// group is a command that only has others below it.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Args: noSubcommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
}

// noSubcommand refuses an argument that is not the name of a command below cmd.
func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	names := commandNames(cmd)
	if s := strictyaml.Closest(args[0], names); s != "" {
		return usageError{fmt.Errorf("unknown command %q for %q; did you mean %q?", args[0], cmd.CommandPath(), s)}
	}
	return usageError{fmt.Errorf("unknown command %q for %q; there are %s", args[0], cmd.CommandPath(), strings.Join(names, ", "))}
}

// commandNames are the names of the commands below cmd.
func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
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

// onEndpoint runs a command whose only argument is the name of an endpoint.
func (f *sessionFlags) onEndpoint(needs parts, do func(ctx context.Context, s *session, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return f.run(cmd, needs, func(ctx context.Context, s *session) error { return noEndpoint(do(ctx, s, args[0]), args[0]) })
	}
}

// noEndpoint explains an endpoint that does not exist.
func noEndpoint(err error, name string) error {
	return missing(err, "endpoint %q does not exist; see gancho endpoints list", name)
}

func newEndpointsListCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the endpoints with their states and backlogs", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := endpointColumns(time.Now())
			all.needs = withStore | withQueues
			all.open = func(s *session) (pageReader[control.EndpointView], error) {
				all.none = "there are no endpoints; add one with gancho endpoints add, or write it into " + s.file
				return whole((*session).endpoints)(s)
			}
			return all.run(f, cmd, &pageFlags{})
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

func endpointColumns(now time.Time) *listed[control.EndpointView] {
	return &listed[control.EndpointView]{
		heading: []string{"NAME", "STATE", "QUEUED", "OLDEST", "RETRYING", "RESENDS", "DEAD", "FROM", "URL"},
		row: func(e *control.EndpointView) []string {
			l := live(e)
			if e.Live == nil { // the queue could not be read
				return []string{e.Name, standing(e, l) + "?", "?", "?", "?", "?", "?", e.From, setting(e, "url")}
			}
			return []string{
				e.Name, standing(e, l), count(l.Backlog), age(l.Oldest, now), count(l.Retrying + l.Blocked), count(l.Replays), count(l.Dead), e.From, setting(e, "url"),
			}
		},
	}
}

// live is what the queue holds of an endpoint; nothing when it could not be read.
func live(e *control.EndpointView) queue.Stats {
	if e.Live == nil {
		return queue.Stats{}
	}
	return *e.Live
}

// standing is an endpoint's state in a word or two.
func standing(e *control.EndpointView, l queue.Stats) string {
	switch {
	case e.Problem != "":
		return "unusable"
	case e.State != "active":
		return e.State
	case l.Reason != "":
		return "suspended"
	case l.Until.After(time.Now()):
		return "held"
	case !l.Failing.IsZero():
		return "failing"
	case l.Blocked > 0:
		return "blocked"
	}
	return e.State
}

// setting is a text of the endpoint's settings.
func setting(e *control.EndpointView, key string) string {
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
		RunE: f.onEndpoint(withStore|withQueues, func(ctx context.Context, s *session, name string) error {
			e, err := s.Endpoint(ctx, s.actor, name)
			switch {
			case err != nil:
				return err
			case s.json:
				return s.print(e)
			}
			return s.showEndpoint(&e, time.Now())
		}),
	}
}

func newEndpointsAddCommand(f *sessionFlags) *cobra.Command {
	var settings settingFlags
	var secrets secretFlags
	cmd := &cobra.Command{
		Use: "add [NAME]", Short: "Add an endpoint",
		Long: `Add an endpoint to the state database. Its settings come from flags, from a file
with the keys of an endpoint in gancho.yaml, or from both. A signing secret is
generated and shown once, unless one is given or nothing is signed.`,
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

// newEndpoint is the endpoint that the command line describes.
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
	name := view.Endpoint.Name
	return s.result(view, "endpoint %s added (%s)\n%stest it: gancho endpoints test %s\n", name, view.Endpoint.State, secretText(&view), name)
}

// secretText shows a key that was generated, or given as a text, the only time.
func secretText(view *control.CreatedView) string {
	switch {
	case view.Secret == "":
		return ""
	case view.Public != "":
		return fmt.Sprintf("signing key (shown this once; keep it if you move the endpoint): %s\npublic key, for the receiver: %s\n", view.Secret, view.Public)
	}
	return fmt.Sprintf("secret (shown this once; give it to the receiver): %s\n", view.Secret)
}

func newEndpointsEditCommand(f *sessionFlags) *cobra.Command {
	var settings settingFlags
	var version int64
	cmd := &cobra.Command{
		Use: "edit NAME", Short: "Change an endpoint's settings",
		Long: `Change settings of an endpoint; those that are not named stay. A value null removes
a setting (--set rate=null), and *** keeps a secret that is there. With --file the
settings of the file are merged into the present ones. The name, the state and the
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
				return usageError{fmt.Errorf("--version %d is not a version; take it from gancho endpoints show", version)}
			}
			return f.run(cmd, withStore, func(ctx context.Context, s *session) error {
				e, err := s.EditEndpoint(ctx, s.actor, args[0], control.Edit{Origin: origin, Patch: patch, Version: version})
				if errors.Is(err, state.ErrConflict) {
					return fmt.Errorf("endpoint %q was changed in the meantime; see gancho endpoints show %s, and edit it again", args[0], args[0])
				}
				if err != nil {
					return noEndpoint(err, args[0])
				}
				return s.result(e, "endpoint %s changed (version %d)\n", e.Name, e.Version)
			})
		},
	}
	settings.register(cmd)
	cmd.Flags().Int64Var(&version, "version", 0, "refuse unless the endpoint has this `version`")
	return cmd
}

// stateChange is a command that changes the state of an endpoint. result says
// what that means; a %s in it is the endpoint's name.
type stateChange struct {
	use, short, long, result string
	needs                    parts
	change                   func(operations, context.Context, control.Actor, string) (control.EndpointView, error)
}

func (c stateChange) command(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: c.use + " NAME", Short: c.short, Long: c.long, Args: oneName("endpoint"),
		RunE: f.onEndpoint(c.needs, func(ctx context.Context, s *session, name string) error {
			e, err := c.change(s.operations, ctx, s.actor, name)
			if err != nil {
				return err
			}
			return s.result(e, "endpoint %s %s\n", name, strings.ReplaceAll(c.result, "%s", name))
		}),
	}
}

func newEndpointsRotateCommand(f *sessionFlags) *cobra.Command {
	var secrets secretFlags
	var overlap string
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Give an endpoint a new signing secret",
		Long: `Give an endpoint a new signing secret. During the overlap each request carries
signatures of the new secret and of the old ones, so that the receiver can switch at
any time within it.`,
		Example: "  gancho endpoints rotate crm-centro\n  gancho endpoints rotate crm-centro --overlap 0   # the old secret has leaked",
		Args:    oneName("endpoint"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := control.Rotation{Ed25519: secrets.ed25519}
			var err error
			if overlap != "0" {
				if r.Overlap, err = scalar("--overlap", overlap, nil, func(v strictyaml.Value) time.Duration { return v.Duration(0, control.MaxOverlap) }); err != nil {
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
	cmd.Flags().StringVar(&overlap, "overlap", "24h", "how long the old secrets sign beside the new one, as a `duration`; 0: they stop immediately")
	return cmd
}

func (s *session) rotate(ctx context.Context, name string, r control.Rotation) error {
	view, err := s.Rotate(ctx, s.actor, name, r)
	if err != nil {
		return noEndpoint(err, name)
	}
	until := "the old secret has stopped signing"
	if !view.Until.IsZero() {
		until = "the old secret signs beside it until " + clock(view.Until)
	}
	return s.result(view, "endpoint %s has a new secret; %s\n%s", name, until, secretText(&view))
}

func newEndpointsRemoveCommand(f *sessionFlags) *cobra.Command {
	var drop bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Remove an endpoint",
		Long: `Remove an endpoint and its secrets. Its queue is kept, unless --drop-queue: then the
running bridge deletes it. Dead letters and the delivery log stay in any case.`,
		Args: oneName("endpoint"),
		RunE: f.onEndpoint(withStore|withQueues, func(ctx context.Context, s *session, name string) error {
			r, err := s.Remove(ctx, s.actor, name, drop)
			if err != nil {
				return err
			}
			return s.result(r, "%s\n", removed(r))
		}),
	}
	cmd.Flags().BoolVar(&drop, "drop-queue", false, "also delete its queued events")
	return cmd
}

// removed says what is kept of an endpoint, and how to delete that.
func removed(r control.RemovedView) string {
	text := "endpoint " + r.Name + " removed"
	if r.Orphaned {
		text = "endpoint " + r.Name + " was removed before"
	}
	events := plural(r.Queued, "queued event")
	switch {
	case r.Dropped:
		return text + "; the bridge deletes its queue (" + events + ")"
	case r.Queued == 0:
		return text + "; nothing was queued"
	}
	return fmt.Sprintf("%s; its queue is kept with %s: add an endpoint %s again to deliver them, or delete them with gancho endpoints remove %s --drop-queue",
		text, events, r.Name, r.Name)
}
