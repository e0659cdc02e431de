package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"gancho/config"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/simulate"
	"gancho/internal/state"
)

// replayFlags choose kept events, and what is made of them.
type replayFlags struct {
	spanFlags
	endpoint, tenant, rules string
	yes                     bool
	cmd                     *cobra.Command
}

func newReplayCommand() *cobra.Command {
	var f sessionFlags
	r := &replayFlags{}
	var job jobFlags
	cmd := &cobra.Command{
		Use: "replay", Short: "Send the kept events of a span again, as they were or by other rules", Args: noArguments,
		Long: `Send the kept events of a span of time again, to every endpoint that takes them or to one,
as jobs that the running bridge carries out. They carry the header webhook-replay: true.

Without --rules they are sent as they were, under their webhook-ids (gancho resend chooses
by key, event or id).

With --rules the changes that the events were made of run through the rules of another
directory first. Every event is compared: the same, changed (which fields, values masked),
new, gone. Then, after yes, what is changed or new is sent, and nothing else: each event
under a webhook-id of its own, that of the event which it corrects, a rising number and a
hash of what it says. It is compared with what was last sent: repeated, it sends nothing
more, and a wrong correction is taken back by the rules as they were. Changes are kept
beside the events where state.keep_changes is set. What rules look up is read as it is now,
and each change is taken as if it were alone in its transaction.

With --dry-run nothing is sent; the exit code is then 3 when an event is changed, gone or
would be parked.`,
		Example: `  gancho replay --from 2026-11-20 --to 2026-11-21 --endpoint crm-centro --rate 100/s
  gancho replay --from 2d --rules rules-new/ --dry-run
  gancho replay --from 2d --rules rules-new/ --tenant 1 --yes --wait`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rate, err := r.check(&job)
			if err != nil {
				return err
			}
			needs := withStore | withQueue
			if r.rules == "" { // what is kept is kept of all sources together
				if f.source != "" {
					return usageError{errors.New("--source is for --rules; without, choose events with --tenant")}
				}
				needs = withStore | withQueues
			}
			return f.run(cmd, needs, func(ctx context.Context, s *session) error {
				chosen, err := r.filter(s)
				if err != nil {
					return err
				}
				if s.local.Store == nil {
					return control.ErrNoState
				}
				of := state.Job{Endpoint: r.endpoint, Filter: chosen, Rate: rate, DryRun: job.dryRun}
				if r.rules != "" {
					return s.replayThrough(ctx, r, of, job.wait)
				}
				return s.replayAsSent(ctx, of, job.wait)
			})
		},
	}
	f.registerHere(cmd)
	r.register(cmd)
	job.register(cmd)
	cmd.Flag("dry-run").Usage = "count or compare them, and change nothing"
	return cmd
}

func (r *replayFlags) register(cmd *cobra.Command) {
	r.cmd = cmd
	r.spanFlags.register(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&r.endpoint, "endpoint", "e", "", "the one `endpoint` to send to (default: all that take the events)")
	flags.StringVar(&r.tenant, "tenant", "", "events of this `tenant`")
	flags.StringVar(&r.rules, "rules", "", "run the changes through the rules in this `directory`")
	flags.BoolVar(&r.yes, "yes", false, "do not ask")
}

// check refuses, before anything is connected, what cannot be meant.
func (r *replayFlags) check(job *jobFlags) (float64, error) {
	if r.from == "" {
		return 0, usageError{errors.New("--from is missing: from when on events are sent again, such as --from 2d or --from 2026-11-20")}
	}
	return job.rate()
}

func (r *replayFlags) filter(s *session) (f state.Filter, err error) {
	if r.cmd.Flags().Changed("tenant") {
		f.Tenant = &r.tenant
	}
	f.From, f.To, err = r.read(s.zone)
	return f, err
}

// leftOut says which endpoints a replay to all leaves out.
func (s *session) leftOut(left []control.LeftOut) error {
	for _, l := range left {
		if _, err := fmt.Fprintln(s.cmd.ErrOrStderr(), s.said("endpoint "+l.Endpoint+" is left out: "+reasonText(speech(s.cmd), l.Reason))); err != nil {
			return err
		}
	}
	return nil
}

// replayAsSent sends kept events again as they were.
func (s *session) replayAsSent(ctx context.Context, of state.Job, wait bool) error {
	made, err := s.local.CreateReplay(ctx, s.actor, of)
	if err := errors.Join(s.leftOut(made.LeftOut), noEndpoint(err, of.Endpoint)); err != nil {
		return err
	}
	if len(made.Jobs) == 0 && !s.json {
		return s.say("no kept event matches; %s\n", s.kept())
	}
	return s.follow(ctx, made.Jobs, wait)
}

// replayThrough compares kept events with what other rules make of their changes, and sends what differs.
func (s *session) replayThrough(ctx context.Context, f *replayFlags, of state.Job, wait bool) error {
	files, err := ruleFiles("--rules", f.rules)
	if err != nil {
		return err
	}
	c := *s.config
	c.Rules = files
	again := control.NewCorrections(control.MaxCorrectionBytes)
	report, err := s.mapAgain(ctx, &c, of.Filter, again.Add)
	if err != nil {
		return err
	}
	n := again.N
	text := sentText(speech(s.cmd), report, plural(report.Read, "kept change"), "With the rules of "+f.rules+":")
	if of.DryRun {
		if err := s.report(report, text); err != nil {
			return err
		}
		if report.Worse() {
			return findingsError{errors.New("with the other rules events change, are gone or cannot be made: see above")}
		}
		return nil
	}
	switch {
	case again.TooMany():
		return fmt.Errorf("%d events are changed or new, and at most %d, and %d MiB, are sent at once; choose a shorter span", n, control.MaxMissing, control.MaxCorrectionBytes>>20)
	case !s.json:
		if err := s.show(text); err != nil {
			return err
		}
	}
	if n == 0 {
		return s.follow(ctx, []state.Job{}, false)
	}
	if !f.yes {
		if err := askYes(s.cmd, s.said(fmt.Sprintf("Send %s again, under ids of their own? Only yes is taken: ", plural(int64(n), "event")))); err != nil {
			return err
		}
	}
	made, err := s.local.CreateCorrections(ctx, s.actor, of, again)
	if err := errors.Join(s.leftOut(made.LeftOut), noEndpoint(err, of.Endpoint)); err != nil {
		return err
	}
	return s.follow(ctx, made.Jobs, wait)
}

// mapAgain runs the changes of kept events through the rules of a configuration. differs gets what is changed or new.
func (s *session) mapAgain(ctx context.Context, c *config.Config, f state.Filter, differs func(*webhook.Message) error) (*simulate.SentReport, error) {
	r, err := s.readRulesOf(ctx, c)
	if err != nil {
		return nil, err
	}
	defer r.close(ctx)
	report, without, err := control.CompareKept(ctx, s.local.Store, r.rules, simulate.Options{LookupDSN: s.lookupDSN(), Source: r.options, Name: s.config.SourceName}, f, differs)
	if lost := new(state.KeyError); errors.As(err, &lost) {
		return nil, fmt.Errorf("%w; if the key was removed from state.key, add it again behind the first one until the events have expired", err)
	}
	switch {
	case err != nil:
		return nil, err
	case report.Read == 0 && without == 0:
		return nil, errors.New("no kept event matches; " + s.kept())
	case report.Read == 0:
		return nil, fmt.Errorf("no change is kept beside the %s of this span, so that no other rule can be applied to it: set state.keep_changes: true in %s to keep those to come; gancho backfill sends the rows as they are now", plural(without, "event"), s.config.File)
	}
	var notes []string
	for _, event := range slices.Sorted(maps.Keys(report.Undecided)) {
		notes = append(notes, plural(report.Undecided[event], "event")+" "+event+" cannot be decided: they depend on other changes of their transactions, which are not all kept, and nothing is sent of them")
	}
	if without > 0 {
		notes = append(notes, plural(without, "event")+" of this span have no change beside them (state.keep_changes), and were left out")
	}
	report.Notes = notes
	return report, nil
}
