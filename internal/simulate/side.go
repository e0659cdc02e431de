package simulate

import (
	"context"
	"errors"
	"iter"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/mapping"
)

// side is a set of rules and what it makes of the changes. It is a sink that keeps what it
// gets until the two sides are compared.
type side struct {
	rules  *mapping.Ruleset
	source *mapping.Source
	mapper *mapping.Mapper
	rows   *mapping.RowMapper // of existing rows, in place of the mapper
	masks  map[string]*masks  // by rule
	done   bool               // with the change at hand, which the other has asked for again
	waits  waits
	// kept are the events that wait for their comparison, of so many bytes.
	kept  []event
	bytes int
}

func newSide(rules *mapping.Ruleset, o *Options, observer mapping.Observer) *side {
	numbers := make([]int, rules.Len())
	for i := range numbers {
		numbers[i] = i
	}
	rules.Number(numbers)
	s := &side{rules: rules, masks: map[string]*masks{}, waits: waits{}}
	for _, r := range rules.Rules() {
		s.masks[r.Place] = &masks{names: rules.ShownNames(r.Place), off: o.Unmasked}
	}
	s.source = mapping.NewSource(o.LookupDSN, o.Source.Encoding, o.Source.Log)
	options := []mapping.MapperOption{mapping.WithSource(s.source), mapping.WithTransactionMemory(o.TransactionMemory)}
	if observer != nil {
		options = append(options, mapping.WithObserver(observer))
	}
	if o.Past {
		options = append(options, mapping.WithPast())
	}
	s.mapper = mapping.NewMapper(rules, func(e *mapping.SchemaError) {
		o.Source.Log.WithLevel(zerolog.WarnLevel).Err(e).Msg("a rule does not fit the changes")
	}, options...)
	return s
}

func (s *side) Event(e *mapping.Event) error {
	s.keep(eventOf(e))
	return nil
}

func (s *side) Park(p *mapping.Parked) error {
	s.keep(parkedOf(p))
	return nil
}

func (s *side) keep(e event) {
	s.kept = append(s.kept, e)
	s.bytes += e.size()
}

// taken hands out what is kept.
func (s *side) taken() []event {
	out := s.kept
	s.kept, s.bytes = nil, 0
	return out
}

// change maps a change, once, however often it is given again because of its types.
func (s *side) change(c *cdc.Change) error {
	if s.done {
		return nil
	}
	err := s.mapper.Map(c, s)
	s.done = err == nil
	return err
}

// full reports whether so much waits that it should be resolved.
func (s *side) full() bool {
	const most, mostBytes = 1000, 1 << 20
	if s.rows != nil {
		return s.rows.Full() || len(s.kept) >= most || s.bytes >= mostBytes
	}
	return s.mapper.Full() || len(s.kept) >= most || s.bytes >= mostBytes
}

// resolve gives the sink what is pending.
func (s *side) resolve(ctx context.Context, sink mapping.Sink) error {
	if s.rows != nil {
		return s.rows.Resolve(ctx, sink)
	}
	return s.mapper.Resolve(ctx, sink)
}

// errStopped ends a producer whose events nobody wants any more.
var errStopped = errors.New("stopped")

// yielding is a sink that gives each event away.
type yielding func(event) bool

func (y yielding) Event(e *mapping.Event) error { return y.give(eventOf(e)) }
func (y yielding) Park(p *mapping.Parked) error { return y.give(parkedOf(p)) }

func (y yielding) give(e event) error {
	if !y(e) {
		return errStopped
	}
	return nil
}

// events are what is kept and what more produces, in the order of their positions. The
// error is set when they have ended.
func (s *side) events(more func(mapping.Sink) error, failed *error) iter.Seq[event] {
	return func(yield func(event) bool) {
		kept := s.kept
		defer func() {
			clear(kept)
			s.kept, s.bytes = kept[:0], 0
		}()
		for _, e := range kept {
			if !yield(e) {
				return
			}
		}
		if err := more(yielding(yield)); !errors.Is(err, errStopped) {
			*failed = err
		}
	}
}
