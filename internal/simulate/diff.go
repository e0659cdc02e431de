package simulate

import (
	"maps"
	"slices"
	"strings"

	"gancho/internal/jsontext"
)

// What the other rules make of an event, or of a change that these park.
const (
	Same    = "same"
	Changed = "changed" // the event is another
	Added   = "new"     // these rules make no such event
	Gone    = "gone"    // the other rules make no such event
	Parked  = "parked"  // the other rules park the change
	Fixed   = "fixed"   // these rules park the change
)

const (
	// maxFields is how many fields of an event are counted.
	maxFields = 200
	// maxExamples is how many examples of each kind are kept for an event.
	maxExamples = 3
)

// EventDiff is what becomes of an event with the other rules.
type EventDiff struct {
	Event   string `json:"event"`
	Same    int64  `json:"same"`
	Changed int64  `json:"changed"`
	Added   int64  `json:"new"`
	Gone    int64  `json:"gone"`
	Parked  int64  `json:"parked"`
	Fixed   int64  `json:"fixed"`
	// Fields are those that differ in changed events, by how many; (tenant), (key) and (op)
	// are the event's.
	Fields   map[string]int64 `json:"fields,omitempty"`
	Examples []DiffExample    `json:"examples,omitempty"`
}

// DiffExample is a change of which the two rules make something else.
type DiffExample struct {
	Kind string `json:"kind"`
	// Change is the commit's LSN and the change's number, or the webhook-id of what was sent; empty: of an existing row.
	Change string      `json:"change"`
	Rule   string      `json:"rule"` // file:line, of the rule that makes the event
	Fields []FieldDiff `json:"fields,omitempty"`
	// Reason is why the change is parked, or was.
	Reason string `json:"reason,omitempty"`
}

// FieldDiff is a field that differs. Was and Is are JSON, masked; empty: it is not there.
type FieldDiff struct {
	Field string `json:"field"`
	Was   string `json:"was,omitempty"`
	Is    string `json:"is,omitempty"`
}

// diff compares what two sides make of the same changes.
type diff struct {
	main, other *side
	events      map[string]*EventDiff
	differs     func(was, now *event) // is told of events of the other side that are not the same, was may be nil; nil: nobody is
}

func newDiff(main, other *side) *diff {
	return &diff{main: main, other: other, events: map[string]*EventDiff{}}
}

func (d *diff) of(name string) *EventDiff {
	if d.events[name] == nil {
		d.events[name] = &EventDiff{Event: name, Fields: map[string]int64{}}
	}
	return d.events[name]
}

// compare compares what the sides make of one change: events by their names, tenants and keys, and then by their names,
// those that have them in common in their order.
func (d *diff) compare(mine, theirs []event) {
	pairs, paired := make([]*event, len(mine)), make([]bool, len(theirs))
	for _, alike := range []func(a, b *event) bool{
		func(a, b *event) bool { return a.name == b.name && a.tenant == b.tenant && a.key == b.key },
		func(a, b *event) bool { return a.name == b.name },
	} {
		for i := range mine {
			for j := range theirs {
				if pairs[i] == nil && !paired[j] && alike(&mine[i], &theirs[j]) { //nolint:gosec // i is of mine, j of theirs
					pairs[i], paired[j] = &theirs[j], true
				}
			}
		}
	}
	for i := range mine {
		switch {
		case pairs[i] != nil:
			d.both(&mine[i], pairs[i])
		case mine[i].reason == "": // else no event is gone
			d.count(Gone, &mine[i], nil)
		}
	}
	for i := range theirs {
		switch {
		case paired[i]:
		case theirs[i].reason != "":
			d.count(Parked, nil, &theirs[i])
		default:
			d.count(Added, nil, &theirs[i])
		}
	}
}

func (d *diff) both(a, b *event) {
	switch {
	case a.reason != "" && b.reason != "":
		d.count(Same, a, b)
	case a.reason != "":
		d.count(Fixed, a, b)
	case b.reason != "":
		d.count(Parked, a, b)
	default:
		fields := changedFields(a, b)
		if len(fields) == 0 {
			d.count(Same, a, b)
			return
		}
		of := d.count(Changed, a, b)
		for _, f := range fields {
			if _, known := of.Fields[f]; known || len(of.Fields) < maxFields {
				of.Fields[f]++
			}
		}
	}
}

// count counts what became of an event; a or b is nil where a side has none.
func (d *diff) count(kind string, a, b *event) *EventDiff {
	e, of := a, d.main
	if e == nil {
		e, of = b, d.other
	}
	out := d.of(e.name)
	counts := map[string]*int64{Same: &out.Same, Changed: &out.Changed, Added: &out.Added, Gone: &out.Gone, Parked: &out.Parked, Fixed: &out.Fixed}
	*counts[kind]++
	if d.differs != nil && kind != Same && b != nil && b.reason == "" {
		d.differs(a, b)
	}
	if kind == Same || *counts[kind] > maxExamples {
		return out
	}
	x := DiffExample{Kind: kind, Change: e.place(), Rule: e.rule}
	for _, side := range []*event{a, b} {
		if side != nil && side.reason != "" {
			x.Reason = side.reason
		}
	}
	if kind == Changed {
		x.Fields = d.fields(a, b)
	}
	if of == d.other {
		x.Rule = b.rule
	}
	out.Examples = append(out.Examples, x)
	return out
}

// fields are the differences of two events, masked.
func (d *diff) fields(a, b *event) []FieldDiff {
	was, is := d.main.masked(a).leaves(), d.other.masked(b).leaves()
	var out []FieldDiff
	for _, f := range changedFields(a, b) {
		out = append(out, FieldDiff{f, short(strings.Join(was[f], ", ")), short(strings.Join(is[f], ", "))})
	}
	return out
}

// masked is the event without what is personal.
func (s *side) masked(e *event) *event {
	m := s.masks[e.rule]
	if m == nil {
		m = &masks{}
	}
	out := *e
	out.data, out.previous, out.tenant = m.object(e.data), m.object(e.previous), m.tenant(e.tenant)
	if !m.off {
		out.key = jsontext.Redacted // keys are not sent, and may be anything
	}
	return &out
}

// short bounds a text in examples.
func short(text string) string {
	const most = 200
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// report is the result, by the events' names.
func (d *diff) report() []EventDiff {
	out := []EventDiff{}
	for _, name := range slices.Sorted(maps.Keys(d.events)) {
		out = append(out, *d.events[name])
	}
	return out
}
