package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/internal/simulate"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

// simulateFlags are the flags of gancho simulate.
type simulateFlags struct {
	config, diff   string
	source         string
	record, from   string
	rows, table    string
	lasts          time.Duration
	limit          int64
	unmasked, json bool
	schedules      bool
	given          func(string) bool
}

// defaultLimit is how many existing rows are read.
const defaultLimit = 10_000

func newSimulateCommand() *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use: "simulate", Short: "Run the rules without sending: on live changes, a recording, or existing rows", Args: noArguments,
		Long: `Run the rules and send nothing; then print what would have left: events per rule and
hour, their sizes, the noisiest tables, rules that never fired and why, changes that would
be parked, and a masked sample of each event. Redis and the bridge's slot are not touched,
and nothing is written to the source.

Without --from and --rows the rules run over live changes, until --for is over or Ctrl-C.
They are read by a temporary slot, which the server drops when the command ends, however
it ends; the publication must exist (gancho run --create makes it). --record keeps the
changes in a file, whole rows with personal data, and --from runs over such a file.

--rows reads rows of --table as they are, in one read-only transaction, each as if it were
inserted, or updated for a rule that is not for inserts; what a rule needs of the row
before (old.x, became, watch) cannot be judged then, and counts as true.

--schedules runs the query of each rule with schedule, for its next time and on the rows as
they are now: what that run sends, but for what a rule with once has sent before.

With --diff the rules of another directory run over the same changes, and every event is
compared: the same, changed (which fields), new, gone.

The exit code is 3 when a change would be parked, or, with --diff, an event changes or is
gone; 1 when the simulation fails, 2 when it is used wrongly.`,
		Example: "  gancho simulate --for 10m\n  gancho simulate --for 1h --record changes.rec\n  gancho simulate --from changes.rec --diff rules-new/\n  gancho simulate --table cobrancas --rows \"where status = 'L'\" --limit 500",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.given = cmd.Flags().Changed
			if err := f.check(); err != nil {
				return err
			}
			return f.run(cmd)
		},
	}
	flags := cmd.Flags()
	registerConfig(flags, &f.config)
	registerSource(flags, &f.source)
	flags.DurationVar(&f.lasts, "for", 0, "end after this `time`, such as 10m (default: at Ctrl-C)")
	flags.StringVar(&f.record, "record", "", "also keep the changes in a new `file`, which then holds personal data")
	flags.StringVar(&f.from, "from", "", "run over the recording in this `file`")
	flags.StringVar(&f.rows, "rows", "", "run over the existing rows that the SQL `condition` chooses: 'where ...'")
	flags.StringVar(&f.table, "table", "", "the `table` of --rows")
	flags.Int64Var(&f.limit, "limit", defaultLimit, "the most rows of --rows")
	flags.StringVar(&f.diff, "diff", "", "compare with the rules in this `directory`")
	flags.BoolVar(&f.schedules, "schedules", false, "run the queries of rules with schedule, as their next run will")
	flags.BoolVar(&f.unmasked, "unmasked", false, "show personal values in samples as they are")
	flags.BoolVar(&f.json, "json", false, "print JSON, for scripts")
	return cmd
}

// check refuses flags that do not go together.
func (f *simulateFlags) check() error {
	wrong := func(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
	for _, pair := range [][2]string{{"from", "rows"}, {"from", "for"}, {"from", "record"}, {"rows", "for"}, {"rows", "record"}, {"schedules", "for"}, {"schedules", "record"}, {"schedules", "from"}, {"schedules", "rows"}, {"schedules", "diff"}} {
		if f.given(pair[0]) && f.given(pair[1]) {
			return wrong("--%s and --%s do not go together: --for and --record are for live changes, --from is a recording, --rows are existing rows, --schedules are queries", pair[0], pair[1])
		}
	}
	switch {
	case f.given("rows") && !f.given("table"):
		return wrong("--table is missing: the table of --rows, such as --table cobrancas")
	case !f.given("rows") && f.given("table"):
		return wrong("--rows is missing: which rows of %s, such as --rows \"where id > 1000\", or --rows \"where true\" for all", f.table)
	case !f.given("rows") && f.given("limit"):
		return wrong("--limit is for --rows")
	case f.limit < 1:
		return wrong("--limit %d: write 1 or more", f.limit)
	case f.given("for") && f.lasts <= 0:
		return wrong("--for %s: write a time such as 10m", f.lasts)
	}
	return nil
}

func (f *simulateFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	c, err := config.Load(f.config, variable)
	if err != nil {
		return usageError{err}
	}
	if c, err = onSource(ctx, c, f.source); err != nil {
		return err
	}
	log, err := newLogger(cmd.ErrOrStderr(), c.Log.Level)
	if err != nil {
		return usageError{err}
	}
	var recording *simulate.Recording
	if f.from != "" {
		if recording, err = simulate.OpenRecording(f.from); err != nil {
			return recordingError(err)
		}
		defer func() { _ = recording.Close() }() // it is read only
	}
	rules, other, identity, err := f.bind(ctx, c, log)
	if err != nil {
		return err
	}
	s := simulate.New(rules, other, f.options(c, log))
	defer s.Close(ctx)
	var report *simulate.Report
	switch {
	case recording != nil:
		if recording.SystemID != identity.SystemID || recording.Database != identity.Database {
			log.Warn().Str("recorded", recording.Database).Str("source", identity.Database).
				Msg("the recording is of another database than source.dsn leads to: lookups read the one of source.dsn")
		}
		report, err = s.Replay(ctx, recording)
	case f.schedules:
		if len(rules.Schedules()) == 0 {
			return usageError{errors.New("--schedules: the rules have no schedule; leave it out")}
		}
		report, err = s.Schedules(ctx, time.Now(), c.Source.Location)
	case f.rows != "":
		table, wrong := cdc.ParseName(f.table)
		if meant, err := cdc.MatchNames(f.table, rules.TableNames()); err == nil && len(meant) == 1 {
			table, wrong = meant[0], nil
		}
		if wrong != nil {
			return usageError{wrong}
		}
		switch report, err = s.Rows(ctx, table, f.rows, f.limit); {
		case errors.Is(err, mapping.ErrCondition):
			err = usageError{fmt.Errorf("--rows: %w; write it as after WHERE", err)}
		case errors.Is(err, simulate.ErrNoRule):
			err = usageError{fmt.Errorf("--table: %w", err)}
		}
	default:
		report, err = s.Live(ctx, f.lasts, f.recorder(rules, other))
	}
	return f.end(cmd, report, err)
}

// end prints the report, if there is one, and says what was found.
func (f *simulateFlags) end(cmd *cobra.Command, report *simulate.Report, failed error) error {
	if report != nil {
		s := &session{cmd: cmd, json: f.json}
		if err := s.report(report, simulateText(speech(cmd), report, f.unmasked)); err != nil {
			return errors.Join(failed, err)
		}
	}
	switch lacks := new(cdc.SetupError); {
	case errors.As(failed, &lacks):
		return fmt.Errorf("simulate reads the publication of gancho run, and creates none: %w", failed)
	case failed != nil:
		return recordingError(failed)
	case report.Parked > 0 && f.schedules:
		return findingsError{fmt.Errorf("%s would have no event", plural(report.Parked, "row"))}
	case report.Parked > 0:
		return findingsError{fmt.Errorf("%s would be parked", plural(report.Parked, "change"))}
	case report.Worse():
		return findingsError{errors.New("with the other rules events change, are gone or cannot be made: see above")}
	}
	return nil
}

// recordingError makes a file that is no whole recording wrong usage.
func recordingError(err error) error {
	if wrong := new(simulate.RecordingError); errors.As(err, &wrong) {
		return usageError{err}
	}
	return err
}

func (f *simulateFlags) options(c *config.Config, log zerolog.Logger) simulate.Options {
	return simulate.Options{
		Source: cdc.Options{
			DSN: c.Source.DSN.Reveal(), Slot: "gancho_simulate_" + strings.ToLower(rand.Text()[:12]), Publication: c.Source.Publication,
			Encoding: cdc.Encoding(c.Source.Encoding), Log: log,
		},
		LookupDSN: cmp.Or(c.Source.LookupDSN, c.Source.DSN).Reveal(), TransactionMemory: c.Mapping.TransactionMemory, LagWarning: c.Source.LagWarning,
		Endpoints: c.Endpoints, Unmasked: f.unmasked, Past: f.from != "",
	}
}

// recorder creates the recording once the source is known; nil: none is wanted.
func (f *simulateFlags) recorder(rules, other *mapping.Ruleset) func(*cdc.Source) (*simulate.Recorder, error) {
	if f.record == "" {
		return nil
	}
	all := []*mapping.Ruleset{rules}
	if other != nil {
		all = append(all, other)
	}
	return func(source *cdc.Source) (*simulate.Recorder, error) {
		header := simulate.Header{Version: version, SystemID: source.Identity.SystemID, Database: source.Identity.Database, Started: time.Now().UTC()}
		r, err := simulate.NewRecorder(f.record, header, all...)
		if err != nil {
			return nil, usageError{fmt.Errorf("--record: %w", err)}
		}
		return r, nil
	}
}

// bind binds the rules, and those of --diff, to the source.
func (f *simulateFlags) bind(ctx context.Context, c *config.Config, log zerolog.Logger) (rules, other *mapping.Ruleset, _ cdc.Identity, err error) {
	conn, err := cdc.Connect(ctx, c.Source.DSN.Reveal())
	if err != nil {
		return nil, nil, cdc.Identity{}, fmt.Errorf("connect to the source: %w; check source.dsn", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	identity, err := cdc.LoadIdentity(ctx, conn)
	if err != nil {
		return nil, nil, identity, err
	}
	bind := func(c *config.Config) (*mapping.Ruleset, error) {
		parsed, err := parseRules(c)
		if err != nil {
			return nil, usageError{err}
		}
		bound, err := parsed.Bind(ctx, conn)
		if mistakes := (strictyaml.Errors)(nil); errors.As(err, &mistakes) {
			err = usageError{err}
		}
		if err != nil {
			return nil, err
		}
		bound.Of(c.SourceName)
		lookup := mapping.NewSource(cmp.Or(c.Source.LookupDSN, c.Source.DSN).Reveal(), cdc.Encoding(c.Source.Encoding), log).Of(identity)
		defer lookup.Close(ctx)
		return bound, lookup.Check(ctx, bound)
	}
	if rules, err = bind(c); err != nil || f.diff == "" {
		return rules, nil, identity, err
	}
	with := *c
	if with.Rules, err = ruleFiles("--diff", f.diff); err != nil {
		return nil, nil, identity, err
	}
	other, err = bind(&with)
	return rules, other, identity, err
}

// ruleFiles are those of a directory, which a flag names.
func ruleFiles(flag, dir string) ([]string, error) {
	var files []string
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", flag, err)}
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, usageError{fmt.Errorf("%s: %s is no directory with rule files (*.yaml)", flag, dir)}
	}
	slices.Sort(files)
	return files, nil
}
