package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/webhook"
	"gancho/internal/bridge"
	"gancho/internal/doctor"
	"gancho/internal/language"
	"gancho/internal/servercert"
	"gancho/internal/state"
	"gancho/mapping"
)

func newDoctorCommand() *cobra.Command {
	var f sessionFlags
	var only []string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything that Gancho stands on, and say what to do",
		Long: `Look at the configuration and the rules, the source's server and its settings, the slot
and who holds it back, what replica identities cost, Redis, the receivers (connected to,
and sent nothing), the state database and the collector of traces. Nothing is changed
anywhere, and nothing waits for a lock of the application.

Each finding is ok, a note, a warning, a problem, or skipped because something did not
answer. The exit code is 3 if there is a problem. What can wait is put off in the
configuration, by the id that is printed:

  doctor:
    snooze:
      - {id: slot.failover, until: 2027-01-31, reason: the standby comes in January}

The ids are explained in docs/operations.md.

Of many databases all are looked at, or the one of --source. What is the same of several is
printed once, with their names; those whose slots hold the most WAL come first.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkPatterns(only); err != nil {
				return err
			}
			report, err := f.examine(cmd)
			if err != nil {
				return err
			}
			if len(only) > 0 {
				report.Findings = slices.DeleteFunc(report.Findings, func(f doctor.Finding) bool { return !matches(f.ID, only) })
			}
			s := &session{cmd: cmd, json: f.json}
			if s.json {
				err = s.print(report)
			} else {
				err = printReport(cmd, &report)
			}
			if n := report.Count(cdc.SeverityProblem); err == nil && n > 0 {
				err = findingsError{fmt.Errorf("%s found; nothing was changed", plural(int64(n), "problem"))}
			}
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().StringSliceVar(&only, "only", nil, "findings whose ids match the `pattern`, such as 'redis.*'; several with commas")
	return cmd
}

// checkPatterns refuses patterns that no finding can match.
func checkPatterns(only []string) error {
	for _, p := range only {
		if _, err := path.Match(p, ""); err != nil {
			return usageError{fmt.Errorf("--only %s is no pattern; write such as 'redis.*'", p)}
		}
		if !slices.ContainsFunc(doctor.IDs(), func(id string) bool { return matches(id, []string{p}) }) {
			return usageError{fmt.Errorf("--only %s matches no finding that there is; write such as 'redis.*' (docs/operations.md has the ids)", p)}
		}
	}
	return nil
}

func matches(id string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, id) // checkPatterns has checked the pattern
		return ok
	})
}

// examine looks at everything that the configuration names, or has the bridge look that is asked.
func (f *sessionFlags) examine(cmd *cobra.Command) (report doctor.Report, err error) {
	if f.api == "" {
		return examine(cmd.Context(), f.config, f.source)
	}
	err = f.run(cmd, 0, func(ctx context.Context, s *session) (err error) {
		report, err = s.Doctor(ctx, s.actor)
		return err
	})
	return report, err
}

// examine looks at everything that the configuration names; of several sources at all, or at the one that is named.
func examine(ctx context.Context, file, source string) (doctor.Report, error) {
	c, mistakes := config.Inspect(file, variable)
	if c == nil {
		return doctor.Report{}, mistakes
	}
	redis.SetLogger(redisLog{zerolog.Nop()})
	sender := webhook.NewSender(webhook.Options{Version: version, Logger: zerolog.Nop()})
	defer sender.Close()
	switch {
	case c.Sources != nil && source == "":
		return examineAll(ctx, c, mistakes, sender)
	case source != "" && mistakes == nil:
		one, err := onSource(ctx, c, source)
		if err != nil {
			return doctor.Report{}, err
		}
		c = one
	}
	return doctor.Run(ctx, examination(c, mistakes, sender, (*checkup).examine)), nil
}

// examination is what the doctor is to look at, of a configuration with one source. The check is the one of the rules.
func examination(c *config.Config, mistakes error, sender *webhook.Sender, check func(*checkup, context.Context, error) (*mapping.Rules, int)) doctor.Options {
	o := doctor.Options{
		Source:     cdc.Options{DSN: c.Source.DSN.Reveal(), Slot: c.Source.Slot, Publication: c.Source.Publication, Encoding: cdc.Encoding(c.Source.Encoding)},
		LagWarning: c.Source.LagWarning, Visited: c.SourceName != "", Endpoints: c.Endpoints, Sender: sender, Version: version, Collector: collector(&c.Tracing),
		Check: func(ctx context.Context, online bool) ([]cdc.Finding, []cdc.TableNeed) {
			k := &checkup{config: c, stdout: io.Discard, stderr: io.Discard, offline: !online}
			check(k, ctx, mistakes)
			return k.findings, k.tables
		},
	}
	if q := &c.Queue; q.Redis != "" || q.Sentinel != nil || q.Cluster != nil {
		options := queueOptions(q)
		options.Logger = zerolog.Nop()
		o.Queue = &options
		if mistakes == nil {
			o.Refused = func(ctx context.Context) (string, error) { return refusedCapture(ctx, c) }
		}
	}
	if c.State.On() {
		o.State = func(ctx context.Context) (*state.Store, error) { return openState(ctx, c) }
	}
	for where, t := range map[string]servercert.Files{"http.tls": c.HTTP.TLS, "console.tls": c.Console.TLS} {
		if t.On() {
			o.Listeners = append(o.Listeners, doctor.Listener{Where: where, Files: t})
		}
	}
	for _, s := range c.Doctor.Snooze {
		o.Snooze = append(o.Snooze, doctor.Snooze(s))
	}
	return o
}

// examineAll looks at all sources, and once at what they have in common. Those with the most WAL held come first.
func examineAll(ctx context.Context, c *config.Config, mistakes error, sender *webhook.Sender) (doctor.Report, error) {
	beside := doctor.RunBeside(ctx, examination(c, mistakes, sender, (*checkup).examine))
	if mistakes != nil {
		return beside, nil //nolint:nilerr // the report has them; which databases there are is not known
	}
	all, err := allSources(ctx, c)
	if err != nil {
		beside.Findings = append(beside.Findings, doctor.Finding{Finding: cdc.Finding{ID: "source.unreachable", Severity: cdc.SeverityProblem, Where: "cluster.dsn", Title: err.Error(), Why: "nothing is captured"}})
		return beside, nil //nolint:nilerr // the report has it
	}
	var reports []doctor.SourceReport
	slots := 0 // of sources on different servers it is not known
	if c.Sources.Cluster != nil {
		slots = len(all)
	}
	err = eachSource(mostHeld(sourceSlots(ctx, c, all)), func(d config.Database) doctor.Report {
		o := examination(c.For(d), nil, sender, (*checkup).examineSource)
		o.Slots = slots
		return doctor.RunSource(ctx, o)
	}, func(d config.Database, r doctor.Report) error {
		reports = append(reports, doctor.SourceReport{Name: d.Name, Report: r})
		return nil
	})
	return doctor.Merge(beside, reports), err
}

// refusedCapture says why a bridge would not capture, and what is missing then; "": it would.
func refusedCapture(ctx context.Context, c *config.Config) (string, error) {
	rules, err := parseRules(c)
	if err != nil {
		return "", err
	}
	s := &session{config: c}
	defer s.close()
	o := bridge.RecoveryOptions{
		Source: cdc.Options{DSN: c.Source.DSN.Reveal(), Slot: c.Source.Slot, Publication: c.Source.Publication, Encoding: cdc.Encoding(c.Source.Encoding), Log: zerolog.Nop()}, Rules: rules,
	}
	if o.Queue, err = s.connectQueue(ctx, nil); err != nil {
		return "", err
	}
	r, err := bridge.Recover(ctx, o)
	if errors.Is(err, bridge.ErrNothingToRecover) || errors.Is(err, bridge.ErrNeverRead) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; changes that committed %s are missing", strings.TrimSuffix(r.Gap.Detail, "."), r.Gap.Between()), nil
}

// printReport prints the findings for people, the problems last.
func printReport(cmd *cobra.Command, r *doctor.Report) error {
	l, _ := language.From(cmd.Context())
	var b strings.Builder
	for i := range r.Findings {
		f := &r.Findings[i]
		said := translated(l, f.Finding)
		severity := string(f.Severity)
		if f.Snoozed != nil {
			severity = "snoozed"
		}
		where := f.Where
		if len(f.Sources) > 0 {
			if f.Severity == cdc.SeverityOK || f.Severity == cdc.SeveritySkipped {
				continue // of hundreds of sources; they are counted
			}
			where = names(f.Sources) + ": " + where
		}
		fmt.Fprintf(&b, "%-8s %s: %s: %s\n", l.Translate("cli.severity", severity), f.ID, where, said.Title)
		if f.Snoozed != nil {
			until := fmt.Sprintf("%s until %s: %s", f.Severity, f.Snoozed.Until.Format("2006-01-02"), f.Snoozed.Reason)
			b.WriteString("         " + l.Translate("cli.label", until) + "\n")
			continue
		}
		printDetails(&b, l, &said, f.Managed)
	}
	var counts []string
	for _, s := range []cdc.Severity{cdc.SeverityProblem, cdc.SeverityWarning, cdc.SeverityNote} {
		counts = append(counts, l.Translate("cli.count", plural(int64(r.Count(s)), string(s))))
	}
	snoozed := 0
	for i := range r.Findings {
		if r.Findings[i].Snoozed != nil {
			snoozed++
		}
	}
	rest := fmt.Sprintf("%d ok, %d skipped, %d snoozed", r.Count(cdc.SeverityOK), r.Count(cdc.SeveritySkipped), snoozed)
	fmt.Fprintf(&b, "\n%s; %s\n", strings.Join(counts, ", "), l.Translate("cli.label", rest))
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

// printDetails prints what a finding means and what to do about it.
func printDetails(b *strings.Builder, l *language.Language, f *cdc.Finding, managed []doctor.Managed) {
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(b, "         %s: %s\n", l.Translate("cli.label", name), text)
		}
	}
	line("why", f.Why)
	for _, s := range cdc.Gather(f.Statements) {
		line("run as "+s.Who.String(), s.SQL)
		line("undo", s.Undo)
	}
	if len(f.Statements) > 0 {
		line("then", strings.TrimPrefix(f.Remedy, l.Text("cli.label.and")+" "))
	} else {
		line("fix", f.Remedy)
	}
	for _, m := range managed {
		line("on "+m.Service, l.Translate("cli.finding", m.How))
	}
}
