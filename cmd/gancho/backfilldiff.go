package main

import (
	"context"
	"errors"

	"gancho/delivery/webhook"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/simulate"
	"gancho/internal/state"
)

// checkDiff refuses what does not go with --diff.
func (f *backfillFlags) checkDiff(job *jobFlags) error {
	switch {
	case !f.diff:
		return nil
	case job.dryRun, job.wait, job.perSecond != "":
		return usageError{errors.New("--diff sends nothing; leave out --dry-run, --wait and --rate")}
	case f.endpoint != "":
		return usageError{errors.New("--diff compares with what was sent to any endpoint: of kept events it is not known to which; leave out --endpoint")}
	}
	return nil
}

// diffBackfill compares what a backfill would send with what was last sent.
func (s *session) diffBackfill(ctx context.Context, f state.Filter) error {
	if s.local.Store == nil {
		return control.ErrNoState
	}
	if s.config.State.KeepEvents == 0 {
		return errors.New(s.kept() + "; without them there is nothing to compare with")
	}
	r, err := s.readRules(ctx)
	if err != nil {
		return err
	}
	defer r.close(ctx)
	sent := simulate.NewSent(r.rules, simulate.Options{LookupDSN: s.lookupDSN(), Source: r.options})
	defer sent.Close(ctx)
	rows := sent.Rows(s.local.Store.LastKept)
	read, events, err := bridge.MapRows(ctx, r.options, r.rules, r.lookup, &f, rows)
	if err != nil {
		return err
	}
	notes := []string{s.kept() + "; what was sent before, or still waits, counts as not sent"}
	if f.Where == "" {
		err = s.local.Store.EachLast(ctx, state.Filter{Events: events, Tenant: f.Tenant}, func(m *webhook.Message) {
			if s.config.SourceName == "" || control.SourceOf(m.Tenant) == s.config.SourceName {
				rows.Last(m)
			}
		})
	} else {
		notes = append(notes, "what is gone was not looked for: that needs all rows, without --where")
	}
	if err != nil {
		return err
	}
	report := sent.Report(read, notes...)
	if err := s.report(report, sentText(speech(s.cmd), report, plural(read, "row"), "Compared with what was last sent of the same event and key:")); err != nil {
		return err
	}
	if report.Worse() {
		return findingsError{errors.New("events differ from what was last sent: see above")}
	}
	return nil
}

// sentText is a comparison with what was sent, for people.
func sentText(l *language.Language, r *simulate.SentReport, read, title string) string {
	w := &simulateWriter{report: &simulate.Report{Notes: r.Notes}, language: l}
	w.line(0, "%s read; %s, and %s would be parked. Nothing was sent.", w.said(read), w.count(r.Events, "event"), w.count(r.Parked, "change"))
	w.differences(title, r.Diff)
	w.notes()
	return w.text.String()
}
