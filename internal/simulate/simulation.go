package simulate

import (
	"context"
	"errors"
	"iter"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/mapping"
)

// Options are what a simulation needs besides the rules.
type Options struct {
	// Source is the database of live changes, and says how its text is encoded. Its slot's
	// name is that of the temporary slot.
	Source cdc.Options
	// Name is the source's, of several, with which the tenants of its events begin; "": there is one.
	Name string
	// LookupDSN leads to where rules look things up, and existing rows are read.
	LookupDSN string
	// LagWarning is the WAL held for the temporary slot, in bytes, from which on it is
	// logged.
	LagWarning int64
	// TransactionMemory is that of the bridge, in bytes.
	TransactionMemory int64
	// Endpoints are those of the configuration.
	Endpoints []*endpoint.Endpoint
	// Unmasked shows personal values in samples.
	Unmasked bool
	// Past: all changes are of an earlier time.
	Past bool
}

// Simulation applies rules to changes, and gathers what they make of them.
type Simulation struct {
	options Options
	main    *side
	other   *side // nil: nothing is compared
	tally   *tally
	diff    *diff

	recorder *Recorder // nil: nothing is recorded
	inside   int       // changes of the open transaction
	// handler's: ctx ends what waits, began is called when changes begin, confirm is told
	// how far they are read.
	ctx     context.Context //nolint:containedctx // cdc.Handler has none, and the handler lives as long as one run
	began   func()
	confirm func(cdc.LSN)
}

// New returns a simulation of the rules, and, unless it is nil, its comparison with what
// other rules make of the same changes. It numbers the rules.
func New(rules, other *mapping.Ruleset, o Options) *Simulation {
	s := &Simulation{options: o, began: func() {}, confirm: func(cdc.LSN) {}}
	s.tally = newTally(rules, &s.options)
	s.main = newSide(rules, &s.options, s.tally)
	s.tally.masks = s.main.masks
	if other != nil {
		s.other = newSide(other, &s.options, nil)
		s.diff = newDiff(s.main, s.other)
	}
	return s
}

// Close closes what lookups have opened.
func (s *Simulation) Close(ctx context.Context) {
	for _, side := range s.sides() {
		side.source.Close(ctx)
	}
}

func (s *Simulation) sides() []*side {
	if s.other == nil {
		return []*side{s.main}
	}
	return []*side{s.main, s.other}
}

// Begin implements cdc.Handler.
func (s *Simulation) Begin(tx *cdc.Transaction) error {
	s.inside = 0
	for _, side := range s.sides() {
		side.mapper.Begin(tx)
	}
	if s.recorder != nil {
		return s.recorder.begin(tx)
	}
	return nil
}

// Change implements cdc.Handler.
func (s *Simulation) Change(c *cdc.Change) error {
	for _, side := range s.sides() {
		if err := side.change(c); err != nil {
			return err
		}
	}
	for _, side := range s.sides() {
		side.done = false
	}
	s.inside++
	s.tally.change(c)
	if s.recorder != nil {
		if err := s.recorder.change(c); err != nil {
			return err
		}
	}
	return s.relieve()
}

// relieve gathers if much waits.
func (s *Simulation) relieve() error {
	for _, side := range s.sides() {
		if side.full() {
			return s.Flush()
		}
	}
	return nil
}

// manyChanges is from how many changes on the events that a transaction has at its commit
// are gathered one by one: there may be as many.
const manyChanges = 1000

// Commit implements cdc.Handler.
func (s *Simulation) Commit(tx *cdc.Transaction) error {
	if err := s.complete(tx); err != nil {
		return err
	}
	s.tally.transactions++
	if s.recorder != nil {
		if err := s.recorder.commit(tx); err != nil {
			return err
		}
	}
	s.confirm(tx.End)
	return nil
}

// complete has the sides end a transaction.
func (s *Simulation) complete(tx *cdc.Transaction) error {
	if s.inside < manyChanges {
		for _, side := range s.sides() {
			if err := side.mapper.Commit(s.ctx, tx, side); err != nil {
				return err
			}
		}
		return s.relieve()
	}
	return s.gather(func(side *side, sink mapping.Sink) error {
		if err := side.resolve(s.ctx, sink); err != nil {
			return err
		}
		if err := side.mapper.Commit(s.ctx, tx, sink); err != nil {
			return err
		}
		return side.resolve(s.ctx, sink)
	})
}

// Keepalive implements cdc.Handler.
func (s *Simulation) Keepalive(lsn cdc.LSN) error {
	s.confirm(lsn)
	return nil
}

// Flush implements cdc.Handler.
func (s *Simulation) Flush() error {
	return s.gather(func(side *side, sink mapping.Sink) error { return side.resolve(s.ctx, sink) })
}

// Reset implements cdc.Handler.
func (s *Simulation) Reset() error {
	s.began()
	return nil
}

// gather counts the events that wait, and those that more gives of a side, and compares
// those of both sides.
func (s *Simulation) gather(more func(*side, mapping.Sink) error) error {
	var failed, otherFailed error
	mine := s.main.events(func(sink mapping.Sink) error { return more(s.main, sink) }, &failed)
	if s.other == nil {
		for e := range mine {
			if err := s.tally.event(&e); err != nil {
				return err
			}
		}
		return failed
	}
	theirs := s.other.events(func(sink mapping.Sink) error { return more(s.other, sink) }, &otherFailed)
	err := s.pair(mine, theirs)
	return errors.Join(err, failed, otherFailed)
}

// pair compares the events of both sides, change by change.
func (s *Simulation) pair(mine, theirs iter.Seq[event]) error {
	return groups(mine, theirs, func(a, b []event) error {
		for i := range a {
			if err := s.tally.event(&a[i]); err != nil {
				return err
			}
		}
		s.diff.compare(a, b)
		return nil
	})
}

// endTimeout bounds the reading of lookups that are pending at the end.
const endTimeout = 30 * time.Second

// end reads what is pending, when the changes have ended, even if ctx has.
func (s *Simulation) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	s.ctx = ctx
	return s.Flush()
}
