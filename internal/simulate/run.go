package simulate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/retry"
	"gancho/mapping"
)

// Live applies the rules to the live changes of the source, read by a temporary slot, until
// the context ends or, unless it is 0, so long after the stream began. With a recorder it
// records them, and leaves no file if the stream does not begin. The error of a source that is not ready is a *cdc.SetupError. After a lost
// connection the report has what was seen until then.
func (s *Simulation) Live(ctx context.Context, lasts time.Duration, record func(*cdc.Source) (*Recorder, error)) (*Report, error) {
	o := s.options.Source
	o.Temporary, o.Create = true, false
	source, err := cdc.Prepare(ctx, o, s.needs())
	if err != nil {
		return nil, err
	}
	if record != nil {
		if s.recorder, err = record(source); err != nil {
			return nil, err
		}
	}
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	reader := cdc.NewReader(o, source)
	var from time.Time
	s.ctx, s.confirm = reading, reader.Confirm
	s.began = func() {
		from = time.Now()
		o.Log.Info().Msg("the stream has begun")
		if lasts > 0 {
			time.AfterFunc(lasts, cancel)
		}
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchSlot(reading)
	}()
	failed := reader.Run(reading, s)
	to := time.Now()
	cancel()
	<-watched
	if failed == nil {
		failed = s.end(ctx)
	}
	switch {
	case s.recorder == nil:
	case from.IsZero(): // created early, so that what stands in its way is known before the wait
		failed = errors.Join(failed, s.recorder.discard())
	default:
		failed = errors.Join(failed, s.recorder.Close())
	}
	if from.IsZero() && failed == nil {
		failed = fmt.Errorf("ended before the stream began, which waits for transactions that are running: %w", context.Cause(ctx))
	}
	if from.IsZero() {
		return nil, failed
	}
	return s.Report(OverLive, from, to), failed
}

const (
	// measureEvery is the time between two measurements of the slot.
	measureEvery = 2 * time.Second
	// complainEvery is how often WAL that is held is logged.
	complainEvery = time.Minute
)

// watchSlot says, until the context ends, that the source holds WAL for the slot: while
// lookups are slow, or a transaction is long, the stream is not read.
func (s *Simulation) watchSlot(ctx context.Context) {
	o := &s.options.Source
	gauge := cdc.NewSlotGauge(o.DSN, o.Slot)
	defer gauge.Close(context.WithoutCancel(ctx))
	var complained time.Time
	for retry.Wait(ctx, measureEvery) == nil {
		slot, err := gauge.Measure(ctx)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, cdc.ErrNoSlot) { // it is not there before the stream begins
				o.Log.Debug().Err(err).Msg("slot not measured")
			}
			continue
		}
		strain := slot.Strain(s.options.LagWarning, "the simulation will end early", "end the simulation (Ctrl-C), which drops the slot, or see why it is slow (lookups? a long transaction?)")
		if strain != "" && time.Since(complained) >= complainEvery {
			complained = time.Now()
			o.Log.Error().Str("slot", o.Slot).Msg(strain)
		}
	}
}

// needs are the tables of all rules.
func (s *Simulation) needs() []cdc.TableNeed {
	var out []cdc.TableNeed
	for _, side := range s.sides() {
		for _, n := range side.rules.Tables() {
			i := slices.IndexFunc(out, func(o cdc.TableNeed) bool { return o.Schema == n.Schema && o.Name == n.Name })
			if i < 0 {
				out = append(out, n)
				continue
			}
			o := &out[i]
			o.Insert, o.Update, o.Delete, o.Truncate = o.Insert || n.Insert, o.Update || n.Update, o.Delete || n.Delete, o.Truncate || n.Truncate
		}
	}
	return out
}

// Replay applies the rules to a recording. Its error is a *RecordingError where the file
// is not whole.
func (s *Simulation) Replay(ctx context.Context, r *Recording) (*Report, error) {
	s.ctx = ctx
	err := r.play(&bounded{s})
	if err == nil {
		err = s.end(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.Report(OverRecording, r.Started, r.trailer.Ended), nil
}

// bounded ends a replay with the context.
type bounded struct{ *Simulation }

func (b *bounded) Change(c *cdc.Change) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	return b.Simulation.Change(c)
}

// ErrNoRule is wrapped by the error for a table of which no rule takes rows.
var ErrNoRule = errors.New("no rule takes rows of the table")

// Rows applies the rules to existing rows of a table. where is an SQL condition, with the
// word where or without; empty: all rows.
func (s *Simulation) Rows(ctx context.Context, table cdc.Name, where string, limit int64) (*Report, error) {
	from := time.Now()
	s.ctx = ctx
	var columns []int
	var of *cdc.Table
	for _, side := range s.sides() {
		t := side.rules.Table(table)
		if t == nil {
			continue
		}
		of = t
		side.rows = mapping.NewRowMapper(side.rules, t, side.source)
		columns = append(columns, side.rows.Columns()...)
	}
	for _, side := range s.sides() {
		if side.rows == nil || len(side.rows.Rules()) == 0 {
			return nil, fmt.Errorf("%w %s; the rules, or those of --diff, are for %s, where a child's rows (children) are changes of its parent", ErrNoRule, table, names(side.rules.TableNames()))
		}
	}
	slices.Sort(columns)
	where = strings.TrimSpace(where)
	if len(where) > 5 && strings.EqualFold(where[:5], "where") && strings.ContainsAny(where[5:6], " \t\n(") {
		where = where[5:]
	}
	reader := mapping.NewSource(s.options.LookupDSN, s.options.Source.Encoding, s.options.Source.Log)
	defer reader.Close(ctx)
	query := mapping.RowQuery{Table: of, Columns: slices.Compact(columns), Where: where, Limit: limit}
	unreadable, err := reader.Rows(ctx, s.main.rules, query, func(row []cdc.Datum) error { return s.row(from, row) })
	if err == nil {
		err = s.Flush()
	}
	if err != nil {
		return nil, err
	}
	out := s.Report(OverRows, from, time.Now())
	if len(unreadable) > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("the role that reads may not read %s, so that nothing is known of them", strings.Join(unreadable, ", ")))
	}
	if s.tally.rows == limit {
		out.Notes = append(out.Notes, fmt.Sprintf("only %d rows were read, because of --limit; there may be more", limit))
	}
	return out, nil
}

// row applies the rules to a row.
func (s *Simulation) row(at time.Time, row []cdc.Datum) error {
	tx := &cdc.Transaction{Commit: 1, Time: at}
	for _, side := range s.sides() {
		if err := side.rows.Map(tx, uint64(s.tally.rows), row, side); err != nil {
			return err
		}
	}
	s.tally.rows++
	return s.relieve()
}

func names(all []cdc.Name) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = n.String()
	}
	return strings.Join(texts, ", ")
}
