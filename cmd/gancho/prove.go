package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
)

// proveFlags are those of gancho prove.
type proveFlags struct {
	sessionFlags
	spanFlags
	fromLSN, toLSN string
}

func newProveCommand() *cobra.Command {
	var f proveFlags
	cmd := &cobra.Command{
		Use: "prove", Short: "Account for every change and every event of a span of time", Args: noArguments,
		Long: `Account for every change and every event whose commit is in a span: of each rule how many
changes it has seen, and how many of them matched, were filtered (watch, when, root_only),
collapsed into another one's event, or were parked; and of each endpoint how many events
were appended, delivered, superseded (compact), made dead letters, wait, or were dropped
(gancho forget, a removed endpoint). The sums have to agree; what does not is named, and the exit code is 3.

Counts are kept for 14 days, by hours of the commits' times, and move with the
events themselves: a crash of anything counts nothing twice and leaves nothing out. The span
is that of whole hours. By default it is today, in source.timezone.`,
		Example: "  gancho prove\n  gancho prove --from 2026-11-20 --to 2026-11-21\n  gancho prove --from-lsn 0/16B3740 --to-lsn 0/2F00000 --json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.prove(cmd) },
	}
	f.sessionFlags.register(cmd)
	f.spanFlags.register(cmd)
	cmd.Flags().StringVar(&f.fromLSN, "from-lsn", "", "from this commit `position` on, in the hours that have it")
	cmd.Flags().StringVar(&f.toLSN, "to-lsn", "", "up to this commit `position`")
	return cmd
}

func (f *proveFlags) prove(cmd *cobra.Command) error {
	var span queue.TallySpan
	for _, p := range []struct {
		flag, text string
		to         *cdc.LSN
	}{{"--from-lsn", f.fromLSN, &span.First}, {"--to-lsn", f.toLSN, &span.Last}} {
		if p.text == "" {
			continue
		}
		var err error
		if *p.to, err = cdc.ParseLSN(p.text); err != nil {
			return usageError{fmt.Errorf("%s: %q is not a position; write it as in the log, such as 0/16B3740", p.flag, p.text)}
		}
	}
	return f.run(cmd, withStore|withQueues, func(ctx context.Context, s *session) (err error) {
		zone := s.zone
		if span.From, span.To, err = f.spanFlags.read(zone); err != nil {
			return err
		}
		v, err := s.Prove(ctx, s.actor, span)
		if err != nil {
			return err
		}
		return s.proved(&v, zone)
	})
}

// proved prints what was counted; a difference is a finding.
func (s *session) proved(v *control.ProveView, zone *time.Location) error {
	if s.json {
		if err := s.print(v); err != nil {
			return err
		}
	} else if err := s.proveText(v, zone); err != nil {
		return err
	}
	if len(v.Differences) == 0 {
		return nil
	}
	why := "the sums do not agree: see the differences, and gancho why for single rows"
	if v.Moving {
		why = "the sums do not agree, and events moved while they were counted: ask again, or for a span that has ended"
	}
	return findingsError{errors.New(why)}
}

func (s *session) proveText(v *control.ProveView, zone *time.Location) error {
	at := func(t time.Time) string { return t.In(zone).Format("2006-01-02 15:04 -07:00") }
	if v.Since.IsZero() {
		return s.say("nothing is counted yet: gancho run counts what it captures\n")
	}
	var err error
	if len(v.Sources) > 1 { // each has a position of its own
		err = s.say("commits from %s to before %s, of several sources\n", at(v.From), at(v.To))
	} else {
		err = s.say("commits from %s to before %s; counted up to %s\n", at(v.From), at(v.To), orDash(v.Counted))
	}
	if err != nil {
		return err
	}
	for _, name := range v.Uncounted() {
		if err := s.say("source %s: nothing is counted yet: gancho run counts what it captures\n", name); err != nil {
			return err
		}
	}
	if v.Since.After(v.From) {
		if err := s.say("counting began at %s: events that were queued before are not complete\n", at(v.Since)); err != nil {
			return err
		}
	}
	if len(v.Rules) == 0 {
		return s.say("no rule has seen a change in it\n")
	}
	n := func(n int64) string { return strconv.FormatInt(n, 10) }
	out := s.cmd.OutOrStdout()
	sourced := func(source string, cells ...string) []string { // of several sources with which
		if v.Rules[0].Source != "" {
			return slices.Insert(cells, 0, source)
		}
		return cells
	}
	rules := newTable(out, headings(speech(s.cmd), sourced("SOURCE", "RULE", "SEEN", "MATCHED", "FILTERED", "COLLAPSED", "PARKED", "REPEATED", "BACKFILL")...)...)
	endpoints := newTable(out, headings(speech(s.cmd), sourced("SOURCE", "RULE", "ENDPOINT", "APPENDED", "DELIVERED", "SUPERSEDED", "DEAD", "WAITING", "DROPPED")...)...)
	given := 0
	for i := range v.Rules {
		r := &v.Rules[i]
		rules.row(sourced(r.Source, r.Rule, n(r.Seen), n(r.Matched), n(r.Filtered), n(r.Collapsed), n(r.Parked), n(r.Repeated), n(r.Backfill))...)
		for _, e := range r.Endpoints {
			given++
			endpoints.row(sourced(r.Source, r.Rule, e.Endpoint, n(e.Appended), n(e.Delivered), n(e.Superseded), n(e.Dead), n(e.Waiting), n(e.Dropped))...)
		}
	}
	if err := rules.end(); err != nil {
		return err
	}
	if given > 0 {
		if err := errors.Join(s.say("\n"), endpoints.end()); err != nil {
			return err
		}
	}
	if len(v.Differences) == 0 {
		return s.say("\nall sums agree\n")
	}
	return s.say("\ndifferences:\n  %s\n", strings.Join(v.Differences, "\n  "))
}
