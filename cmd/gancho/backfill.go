package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
	"gancho/mapping"
)

// backfillFlags choose rows that are there already.
type backfillFlags struct {
	events   []string
	table    string
	where    string
	endpoint string
	tenant   string
	all      bool
	diff     bool
	cmd      *cobra.Command
}

func (f *backfillFlags) register(cmd *cobra.Command) {
	f.cmd = cmd
	flags := cmd.Flags()
	flags.StringSliceVar(&f.events, "rule", nil, "rules that make these `events`, as patterns such as cobranca.*")
	flags.StringVar(&f.table, "table", "", "rules for this `table`")
	flags.StringVar(&f.where, "where", "", "rows for which an `expression` is true, as in when: of a rule")
	flags.StringVarP(&f.endpoint, "endpoint", "e", "", "the one `endpoint` to send to (default: all that get the events)")
	flags.StringVar(&f.tenant, "tenant", "", "events of this `tenant`")
	flags.BoolVar(&f.diff, "diff", false, "compare with what was last sent, and send nothing")
	flags.BoolVar(&f.all, "all", false, "all rules that are on insert, and all their tables")
}

// job checks the flags, before anything is connected.
func (f *backfillFlags) job() (state.Job, error) {
	given := len(f.events) > 0 || f.table != ""
	switch {
	case !given && !f.all:
		return state.Job{}, usageError{errors.New("say whose rows: --rule, --table, or --all for all tables of rules on insert")}
	case given && f.all:
		return state.Job{}, usageError{errors.New("--all chooses all rules; leave out --all, or --rule and --table")}
	}
	j := state.Job{Endpoint: f.endpoint, Filter: state.Filter{Events: f.events, Table: f.table, Where: f.where}}
	if f.cmd.Flags().Changed("tenant") {
		j.Filter.Tenant = &f.tenant
	}
	return j, nil
}

func newBackfillCommand() *cobra.Command {
	var f sessionFlags
	var choice backfillFlags
	var job jobFlags
	cmd := &cobra.Command{
		Use: "backfill", Short: "Send the rows that are there already through the rules",
		Long: `Send the rows that are there already through the rules, as a job that the bridge which
captures carries out and that survives its restarts. A rule that is on insert takes them,
unless it says backfill: never; one with after sets their timers. The events have op: read, and are otherwise as if the row
were inserted now.

The rows are read in chunks, by primary key, and take their place among the live changes
of the same rows, in the order of each key: nothing has to stop meanwhile. They are
written into the WAL of the source, encrypted, about as large as they are. There is one
backfill at a time.

It slows down while capture lags, Redis fills, a quota is passed, or the source answers
slowly; --rate limits it in rows. Begin with --dry-run, which shows what some rows lead to.

With --diff nothing is sent: every event is compared with what was last sent of the same
event and key, where events are kept (state.keep_events): the same, changed (which fields,
values masked), new, or gone, when no row leads to it now. The exit code is 3 when an event
is changed, gone or would be parked.`,
		Example: `  gancho backfill --rule cliente.novo --dry-run
  gancho backfill --rule cliente.novo --diff
  gancho backfill --table clientes --where "criado_em >= '2026-01-01'" --rate 500/s --wait
  gancho backfill --all --endpoint crm-novo`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rate, err := job.rate()
			if err != nil {
				return err
			}
			r, err := choice.job()
			if err != nil {
				return err
			}
			if err := choice.checkDiff(&job); err != nil {
				return err
			}
			r.Rate, r.DryRun = rate, job.dryRun
			if choice.diff {
				if err := f.onlyHere("gancho backfill --diff"); err != nil {
					return err
				}
				return f.run(cmd, withStore, func(ctx context.Context, s *session) error { return s.diffBackfill(ctx, r.Filter) })
			}
			return f.run(cmd, withStore|withQueue|withRules, func(ctx context.Context, s *session) error {
				v, err := s.CreateBackfill(ctx, s.actor, r)
				switch {
				case errors.Is(err, state.ErrConflict):
					return errors.New("a backfill has not ended, and there is one at a time; see gancho resend list, then wait for it, or cancel it: gancho backfill cancel JOB")
				case err != nil:
					return noEndpoint(err, r.Endpoint)
				case r.DryRun:
					return s.report(v, planText(speech(s.cmd), &v))
				}
				return s.follow(ctx, []state.Job{v.Job}, job.wait)
			})
		},
	}
	f.register(cmd)
	choice.register(cmd)
	job.register(cmd)
	cmd.Flag("rate").Usage = "the most rows, such as `100/s` (default: as fast as nothing else has to wait)"
	cmd.AddCommand(
		newResendListCommand(&f), newResendShowCommand(&f), newResendCancelCommand(&f),
		newBackfillSwitchCommand(&f, "pause JOB", "Stop a backfill for a while; what it has put into the stream is sent", operations.PauseJob),
		newBackfillSwitchCommand(&f, "resume JOB", "Let a backfill that is paused, or has failed, go on where it was", operations.ResumeJob),
	)
	return cmd
}

func newBackfillSwitchCommand(f *sessionFlags, use, short string, do func(operations, context.Context, control.Actor, int64) (state.Job, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: oneName("job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.jobCommand(cmd, args[0], func(ctx context.Context, s *session, id int64) (state.Job, error) {
				return do(s.operations, ctx, s.actor, id)
			})
		},
	}
}

// planText is what a backfill would do, for people.
func planText(l *language.Language, v *control.BackfillView) string {
	var b strings.Builder
	for _, t := range v.Plan.Tables {
		fmt.Fprintf(&b, "%s: %s\n", t.Table, said(l, rowCount(t.Rows, t.Estimated)+", for "+strings.Join(t.Events, ", ")))
		for _, sample := range t.Samples {
			fmt.Fprintf(&b, "  %s\n", sample)
		}
	}
	read := rowCount(v.Plan.Rows, v.Plan.Estimated) + " would be read; nothing was changed"
	if v.Filter.Where != "" {
		read += ". Of these, those are sent for which --where is true"
	}
	return b.String() + said(l, read+"\n")
}

// rowCount is a number of rows, and whether the server only estimates it.
func rowCount(n int64, estimated bool) string {
	if estimated {
		return "about " + plural(n, "row") + " (the server's estimate)"
	}
	return plural(n, "row")
}

// backfillText is how far a backfill is.
func backfillText(l *language.Language, j *state.Job) string {
	total := rowCount(j.Total, j.Estimated)
	if j.State == state.Queued && j.Sent == 0 {
		return said(l, fmt.Sprintf("job %d: %s to read, queued for the bridge that captures; see gancho backfill show %d", j.ID, total, j.ID))
	}
	text := said(l, fmt.Sprintf("job %d: %s, %d of %s read", j.ID, j.State, j.Sent, total))
	if j.Total > 0 && j.State != state.Done {
		text += fmt.Sprintf(" (%d %%)", 100*j.Sent/j.Total)
	}
	if spent := time.Since(j.Started); j.State == state.Running && j.Sent > 0 && !j.Started.IsZero() && spent > time.Second {
		rate := float64(j.Sent) / spent.Seconds()
		text += ", " + said(l, fmt.Sprintf("%.0f a second, about %s left", rate, lasted(time.Duration(float64(j.Total-j.Sent)/rate*float64(time.Second)))))
	}
	return text + jobTrouble(l, j)
}

// planBackfill plans a backfill by the rules of the files.
func (s *session) planBackfill(ctx context.Context, f state.Filter, show bool) (control.BackfillPlan, error) {
	r, err := s.readRules(ctx)
	if err != nil {
		return control.BackfillPlan{}, err
	}
	defer r.close(ctx)
	return bridge.PlanBackfill(ctx, r.options, r.conn, r.rules, r.lookup, &f, show)
}

// ruleReading is what rows are read with by the rules.
type ruleReading struct {
	options cdc.Options
	conn    *pgx.Conn
	rules   *mapping.Ruleset
	lookup  *mapping.Source
}

// readRules binds the rules of the files to the source. The caller closes what it returns.
func (s *session) readRules(ctx context.Context) (*ruleReading, error) {
	return s.readRulesOf(ctx, s.config)
}

func (s *session) readRulesOf(ctx context.Context, c *config.Config) (*ruleReading, error) {
	parsed, err := parseRules(c)
	if err != nil {
		return nil, err
	}
	r := &ruleReading{options: cdc.Options{DSN: c.Source.DSN.Reveal(), Slot: c.Source.Slot, Publication: c.Source.Publication, Encoding: cdc.Encoding(c.Source.Encoding), Log: zerolog.Nop()}}
	if r.conn, err = cdc.Connect(ctx, c.Source.DSN.Reveal()); err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	r.lookup = mapping.NewSource(s.lookupDSN(), r.options.Encoding, zerolog.Nop())
	if r.rules, err = parsed.Bind(ctx, r.conn); err != nil {
		r.close(ctx)
		return nil, err
	}
	r.rules.Of(c.SourceName)
	return r, nil
}

// lookupDSN is where rules look things up.
func (s *session) lookupDSN() string {
	return cmp.Or(s.config.Source.LookupDSN, s.config.Source.DSN).Reveal()
}

func (r *ruleReading) close(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	r.lookup.Close(ctx)
	_ = r.conn.Close(ctx) // what was not committed does not count
}
