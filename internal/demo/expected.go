package demo

import (
	"cmp"
	"maps"
	"slices"
)

// Kind is what arrivals are counted by: an event name and the tenant
// (empresas.id) that it belongs to.
type Kind struct {
	Event  string
	Tenant int
}

// Counts says how many events of each kind there are.
type Counts map[Kind]int

// Add adds the other counts to these.
func (c Counts) Add(other Counts) {
	for k, n := range other {
		c[k] += n
	}
}

// Total is the sum of all counts.
func (c Counts) Total() int { return total(c) }

func total[K comparable](counts map[K]int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

// Events is the counts by event name, over all tenants.
func (c Counts) Events() map[string]int {
	events := map[string]int{}
	for k, n := range c {
		events[k.Event] += n
	}
	return events
}

// kinds is the kinds of both counts in the order of their names.
func kinds(a, b Counts) []Kind {
	all := maps.Clone(a)
	all.Add(b)
	return slices.SortedFunc(maps.Keys(all), func(x, y Kind) int {
		return cmp.Or(cmp.Compare(x.Event, y.Event), cmp.Compare(x.Tenant, y.Tenant))
	})
}
