package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
)

func newParkedCommand() *cobra.Command {
	var f sessionFlags
	cmd := group("parked", "Manage parked changes", `A parked change is a row change of which no event could be made: a rule's expression
failed on the row, or the rule did not fit its table. Its reason says what to fix. So is a
timer (after) whose event could not be computed when it was due: a redrive makes it due
again, and a change of its row moves or cancels it as any other. Parked
changes wait in Redis until somebody redrives them, by rules that have been fixed and
reloaded, or drops them.`)
	f.register(cmd)
	cmd.AddCommand(newParkedListCommand(&f), newParkedGroupsCommand(&f), newParkedShowCommand(&f), newParkedRedriveCommand(&f), newParkedDropCommand(&f))
	return cmd
}

// parkedFlags choose parked changes: filterFlags, as far as these have what to choose by.
type parkedFlags struct {
	filterFlags
	ids []string
	all bool
}

func (p *parkedFlags) register(cmd *cobra.Command) {
	p.cmd = cmd
	p.spanFlags.register(cmd)
	cmd.Flags().StringSliceVar(&p.webhooks, "id", nil, "`webhook-id` that the event would have had; several with commas")
	cmd.Flags().StringSliceVar(&p.events, "event", nil, "changes for these events, as `patterns` such as cobranca.*")
	cmd.Flags().StringVar(&p.rule, "rule", "", "changes that this `rule` has parked, as gancho parked groups prints it")
	cmd.Flags().StringVar(&p.reason, "reason", "", "changes parked for this `reason`, as gancho parked groups prints it")
}

// registerAll adds what chooses everything.
func (p *parkedFlags) registerAll(cmd *cobra.Command) {
	p.register(cmd)
	cmd.Flags().BoolVar(&p.all, "all", false, "all parked changes")
}

func (p *parkedFlags) filter(s *session) (state.Filter, error) {
	f, err := p.read(s)
	f.Parked = p.ids
	return f, err
}

// check reads the positions, and refuses, before anything is connected, a choice of nothing.
func (p *parkedFlags) check(args []string) error {
	given := len(args) > 0 || p.given() != ""
	switch {
	case given && p.all:
		return usageError{errors.New("--all chooses all parked changes; leave out --all, or the rest")}
	case !given && !p.all:
		return usageError{errors.New("say which parked changes: their positions, or --id, --event, --rule, --reason, --from, --to, or --all")}
	}
	for _, arg := range args {
		if err := checkPosition(arg); err != nil {
			return err
		}
	}
	p.ids = args
	return nil
}

func checkPosition(text string) error {
	if _, err := queue.ParseID(text); err != nil {
		return usageError{fmt.Errorf("%q is not the position of a parked change; copy it from gancho parked list", text)}
	}
	return nil
}

func newParkedListCommand(f *sessionFlags) *cobra.Command {
	var choice parkedFlags
	var page pageFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List parked changes, in commit order", Args: noArguments,
		Long: `List parked changes, in commit order and without their rows. REDRIVE says whether a
change can be sent once its rule is fixed, or why not.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return parkedChanges(choice.filter).run(f, cmd, &page) },
	}
	choice.register(cmd)
	page.register(cmd)
	return cmd
}

func newParkedGroupsCommand(f *sessionFlags) *cobra.Command {
	var choice parkedFlags
	var page pageFlags
	groups := listed[control.ParkedGroup]{
		needs: withQueues,
		open: func(s *session) (pageReader[control.ParkedGroup], error) {
			filter, err := choice.filter(s)
			return func(ctx context.Context, _ string, _ int) (control.Page[control.ParkedGroup], error) {
				groups, err := s.ParkedGroups(ctx, s.actor, filter)
				return control.Page[control.ParkedGroup]{Items: groups}, err
			}, err
		},
		heading: []string{"CHANGES", "REDRIVABLE", "OLDEST", "NEWEST", "TABLE", "EVENT", "RULE", "REASON", "ONE OF THEM"},
		row: func(g *control.ParkedGroup) []string {
			return []string{
				strconv.FormatInt(g.Count, 10), strconv.FormatInt(g.Redrivable, 10), clock(g.Oldest), clock(g.Newest), g.Table, orDash(g.Event), g.Rule, g.Reason, g.Sample.ID.String(),
			}
		},
		none:   "no change is parked",
		source: func(g *control.ParkedGroup) string { return g.Source },
	}
	cmd := &cobra.Command{
		Use: "groups", Short: "Count parked changes by rule and reason", Args: noArguments,
		Long: "Count parked changes by rule and reason, the largest group first, each with one of\nits changes, which gancho parked show shows.",
		RunE: func(cmd *cobra.Command, _ []string) error { return groups.run(f, cmd, &page) },
	}
	choice.register(cmd)
	return cmd
}

// parkedChanges lists those that the flags choose.
func parkedChanges(flags func(*session) (state.Filter, error)) *listed[control.Parked] {
	return &listed[control.Parked]{
		needs:   withQueues,
		open:    filtered(flags, operations.Parked),
		heading: []string{"POSITION", "TIME", "TABLE", "ON", "EVENT", "RULE", "REASON", "REDRIVE"},
		row: func(p *control.Parked) []string {
			return []string{p.ID.String(), clock(p.Time), p.Table, p.Operation, orDash(p.Type), p.Rule, p.Reason, redrivable(&p.ParkedChange)}
		},
		none:   "no change is parked",
		source: func(p *control.Parked) string { return p.Source },
	}
}

// redrivable says whether a change can be redriven.
func redrivable(p *queue.ParkedChange) string {
	if p.Redrivable {
		return "yes"
	}
	return "no: " + p.Unkept
}

func newParkedShowCommand(f *sessionFlags) *cobra.Command {
	return &cobra.Command{
		Use: "show POSITION", Short: "Show a parked change with the columns that its rule names", Args: oneName("parked change"),
		Long: `Show a parked change with the columns that its rule names, without those that the rule
only masks and those of privacy.deny. The rest of the row is kept, encrypted, for a
redrive and is not shown.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPosition(args[0]); err != nil {
				return err
			}
			return f.run(cmd, withQueue|withStore, func(ctx context.Context, s *session) error {
				p, err := s.ParkedChange(ctx, s.actor, args[0])
				if err != nil {
					return missing(err, "parked change %s does not exist; see gancho parked list", args[0])
				}
				if s.json {
					return s.print(p)
				}
				return s.showParked(&p)
			})
		},
	}
}

func (s *session) showParked(p *control.ParkedDetail) error {
	row, end := s.facts()
	if p.Source != "" {
		row("source", p.Source)
	}
	row("position", p.ID.String())
	row("webhook-id", orDash(p.WebhookID))
	row("event", orDash(p.Type))
	row("rule", p.Rule)
	row("change", s.said(p.Operation+" of "+p.Table))
	if p.RowKey != "" {
		row("key", p.RowKey)
	}
	row("committed", clock(p.Time))
	row("reason", reasonText(speech(s.cmd), p.Reason))
	row("redrive", s.said(redrivable(&p.ParkedChange)))
	if p.Unreadable != "" {
		row("row", reasonText(speech(s.cmd), p.Unreadable))
	}
	if err := end(); err != nil {
		return err
	}
	var out strings.Builder
	if err := bodyJSON(&out, s.said("row"), p.Row); err != nil {
		return err
	}
	return s.show(out.String())
}

func newParkedRedriveCommand(f *sessionFlags) *cobra.Command {
	var choice parkedFlags
	var job jobFlags
	cmd := &cobra.Command{
		Use: "redrive [POSITION...]", Short: "Map parked changes again and send their events",
		Long: `Map parked changes again, each by the rule that has parked it as that is now, and send
the events, as a job that the bridge which captures carries out and that survives its
restarts. Fix the rule and reload the bridge (SIGHUP) first.

An event has the webhook-id and the sequence that it would have had, carries the header
webhook-replay: true, and comes after newer events of its key. Lookups are read as they
are at the time of the redrive. A change that is sent is no longer parked, nor is one for
which its rule no longer fires. One that still cannot be mapped stays, with its reason.`,
		Example: "  gancho parked redrive --all --dry-run\n  gancho parked redrive --event 'cobranca.*' --rate 50/s --wait",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := job.rate()
			if err != nil {
				return err
			}
			if err := choice.check(args); err != nil {
				return err
			}
			return f.run(cmd, withStore|withQueue, func(ctx context.Context, s *session) error {
				chosen, err := choice.filter(s)
				if err != nil {
					return err
				}
				jobs, err := s.RedriveParked(ctx, s.actor, state.Job{Filter: chosen, Rate: r, DryRun: job.dryRun}, choice.all)
				if err != nil {
					return err
				}
				return s.follow(ctx, jobs, job.wait)
			})
		},
	}
	choice.registerAll(cmd)
	job.register(cmd)
	return cmd
}

func newParkedDropCommand(f *sessionFlags) *cobra.Command {
	var choice parkedFlags
	var yes bool
	cmd := &cobra.Command{
		Use: "drop [POSITION...]", Short: "Delete parked changes permanently",
		Long: `Delete parked changes permanently: their events are never sent. On a terminal their
number has to be typed to confirm; elsewhere --yes is needed.`,
		Example: "  gancho parked drop 4503599650841400-0 --yes\n  gancho parked drop --event cobranca.paga",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := choice.check(args); err != nil {
				return err
			}
			if !yes && !isTerminal(cmd.InOrStdin()) {
				return usageError{errors.New("dropping cannot be undone; add --yes")}
			}
			return f.run(cmd, withStore|withQueue, func(ctx context.Context, s *session) error {
				chosen, err := choice.filter(s)
				if err != nil {
					return err
				}
				return s.drop(yes, "parked change",
					func() (int64, error) { return s.CountParked(ctx, s.actor, chosen) },
					func() (int64, error) { return s.DropParked(ctx, s.actor, chosen, choice.all) })
			})
		},
	}
	choice.registerAll(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
