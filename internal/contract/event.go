package contract

import (
	"cmp"
	"slices"
	"strings"

	"gancho/internal/jsonschema"
	"gancho/mapping"
)

// Event is an event that rules make.
type Event struct {
	Name, Group, Title, Description string
	// Sources are the tables and operations that cause it, such as cobrancas (update).
	Sources []string
	// Variants are what it holds, by operations.
	Variants []Variant
	sample   sampler
}

// Variant is what an event holds for some operations.
type Variant struct {
	Ops []string
	// Data is the schema of data, Previous that of previous; nil: there is none.
	Data, Previous *jsonschema.Schema
	// PreviousAlways: every such event has previous.
	PreviousAlways bool
	// LeftOut and Failing are the paths that unchanged and errors may name.
	LeftOut, Failing []string
	Tenant           mapping.Presence
}

// Events describes the events of rules. The types are those of the rules.
func Events(types []mapping.EventType, payloads []mapping.Payload) []Event {
	var out []Event
	for _, t := range types {
		e := Event{Name: t.Name, Group: t.Group, Title: t.Title, Description: t.Description, sample: sampler{hidden: map[string]bool{}}}
		for _, r := range t.Rules {
			if text := cmp.Or(r.Table, r.Schedule) + " (" + r.On + ")"; !slices.Contains(e.Sources, text) {
				e.Sources = append(e.Sources, text)
			}
		}
		for _, p := range payloads {
			if p.Event == t.Name {
				e.add(p)
			}
		}
		e.Variants = joined(e.Variants)
		out = append(out, e)
	}
	return out
}

// add adds what a rule makes of an operation.
func (e *Event) add(p mapping.Payload) {
	for _, path := range p.Hidden {
		e.sample.hidden[path] = true
	}
	v := Variant{
		Ops: []string{p.Op.String()}, Data: p.Data, Previous: p.Previous, PreviousAlways: p.Previous != nil,
		LeftOut: sorted(p.LeftOut), Failing: sorted(p.Failing), Tenant: p.Tenant,
	}
	i := slices.IndexFunc(e.Variants, func(o Variant) bool { return o.Ops[0] == v.Ops[0] })
	if i < 0 {
		e.Variants = append(e.Variants, v)
		return
	}
	// Several rules make it of the same operation.
	o := &e.Variants[i]
	o.Data = jsonschema.Any(o.Data, v.Data)
	o.PreviousAlways = o.PreviousAlways && v.PreviousAlways
	switch {
	case o.Previous == nil:
		o.Previous = v.Previous
	case v.Previous != nil:
		o.Previous = jsonschema.Any(o.Previous, v.Previous)
	}
	o.LeftOut, o.Failing = sorted(slices.Concat(o.LeftOut, v.LeftOut)), sorted(slices.Concat(o.Failing, v.Failing))
	if o.Tenant != v.Tenant {
		o.Tenant = mapping.Sometimes
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// joined makes one variant of those that differ in their operations only.
func joined(list []Variant) []Variant {
	var out []Variant
	for _, v := range list {
		i := slices.IndexFunc(out, func(o Variant) bool { return o.same(v) })
		if i < 0 {
			out = append(out, v)
		} else {
			out[i].Ops = append(out[i].Ops, v.Ops...)
		}
	}
	return out
}

func (v Variant) same(o Variant) bool {
	equal := func(a, b *jsonschema.Schema) bool { return a == b || a != nil && b != nil && a.Equal(b) }
	return equal(v.Data, o.Data) && equal(v.Previous, o.Previous) && v.PreviousAlways == o.PreviousAlways && v.Tenant == o.Tenant &&
		slices.Equal(v.LeftOut, o.LeftOut) && slices.Equal(v.Failing, o.Failing)
}

// suffix tells the definitions of a variant apart from those of others.
func (e *Event) suffix(v *Variant) string {
	if len(e.Variants) == 1 {
		return ""
	}
	return "." + strings.Join(v.Ops, "-")
}

// heading is the event's title, or its name.
func (e *Event) heading() string {
	if e.Title != "" {
		return e.Title
	}
	return e.Name
}
