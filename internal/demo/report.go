package demo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gancho/internal/receiver"
)

// report is what the demo found, by every count that it has.
type report struct {
	played      time.Duration
	traffic     Sum
	bridge      counters
	subscribers []subscriber
	arrivals    map[string]*arrivals
}

// print writes the summary.
func (r *report) print(s *screen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := func(name, format string, args ...any) {
		s.print(fmt.Sprintf("  %-20s %s", name, fmt.Sprintf(format, args...)))
	}
	var duplicates, unordered, invalid, delivered int
	var by []string
	var latencies, bulk receiver.Latencies
	for _, e := range r.subscribers {
		a := r.arrivals[e.Name]
		duplicates, unordered, invalid = duplicates+a.duplicates, unordered+a.unordered, invalid+a.invalid
		delivered += a.counts.Total()
		latencies.Merge(&a.latencies)
		bulk.Merge(&a.bulk)
		by = append(by, fmt.Sprintf("%s %s", e.Name, thousands(a.counts.Total())))
	}
	s.print("")
	line("traffic", "%s transactions, %s rows written, in %s", thousands(r.traffic.Transactions), thousands(int(r.traffic.Rows)), receiver.Short(r.played))
	line("changes read", "%8s", thousands(r.bridge.changes))
	line("events matched", "%8s", thousands(total(r.bridge.events)))
	line("webhooks delivered", "%8s  (%s)", thousands(delivered), strings.Join(by, ", "))
	line("duplicates", "%8s", thousands(duplicates))
	line("order violations", "%8s", thousands(unordered))
	line("bad signatures", "%8s", thousands(invalid))
	line("commit to arrival", "p50 %s, p99 %s, longest %s", receiver.Short(latencies.Quantile(.5)), receiver.Short(latencies.Quantile(.99)), receiver.Short(latencies.Longest()))
	if bulk.Count() > 0 {
		line("  of a bulk update", "p50 %s, last %s: thousands of events of one commit", receiver.Short(bulk.Quantile(.5)), receiver.Short(bulk.Longest()))
	}
	s.print("")
}

// problems are the ways in which the day did not go as it must.
func (r *report) problems() []string {
	var found []string
	problem := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, e := range r.subscribers {
		a := r.arrivals[e.Name]
		want := e.share(r.traffic.Events)
		for _, k := range kinds(want, a.counts) {
			if want[k] != a.counts[k] {
				problem("%s: %d of %s for empresa %d arrived, want %d", e.Name, a.counts[k], k.Event, k.Tenant, want[k])
			}
		}
		for _, c := range []struct {
			n    int
			what string
		}{{a.unordered, "arrived behind a later one of their key"}, {a.invalid, "had no valid signature"}, {a.unreadable, "could not be read"}} {
			if c.n > 0 {
				problem("%s: %d webhooks %s", e.Name, c.n, c.what)
			}
		}
	}
	want := r.traffic.Events.Events()
	both := maps.Clone(want)
	maps.Copy(both, r.bridge.events)
	for _, event := range slices.Sorted(maps.Keys(both)) {
		if got := r.bridge.events[event]; got != want[event] {
			problem("the bridge matched %d events %s, want %d", got, event, want[event])
		}
	}
	return found
}

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
