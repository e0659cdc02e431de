package simulate

import (
	"cmp"
	"maps"
	"slices"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

// tally counts what changes there are, and what the rules make of them.
type tally struct {
	options      *Options
	masks        map[string]*masks
	rules        map[string]*ruleTally // by their places
	order        []string
	numbers      map[uint16]*ruleTally
	tables       map[cdc.Name]*TableReport
	router       *queue.Router
	previews     map[int]*webhook.Preview // by the endpoint's index; -1: of none
	transactions int64
	changes      int64
	rows         int64
	// observed is the last observation: of an update of a key there are two.
	observed mapping.Observation
}

// ruleTally is what is counted of one rule.
type ruleTally struct {
	RuleReport
	table     cdc.Name
	title     string // of the event
	sizes     sizes
	conjuncts []ConjunctReport
	reasons   map[string]*ParkedReport
}

func newTally(rules *mapping.Ruleset, o *Options) *tally {
	t := &tally{
		options: o, rules: map[string]*ruleTally{}, numbers: map[uint16]*ruleTally{}, tables: map[cdc.Name]*TableReport{},
		router: queue.NewRouter(o.Endpoints), previews: map[int]*webhook.Preview{-1: webhook.NewPreview(nil)},
	}
	for i := range o.Endpoints {
		t.previews[i] = webhook.NewPreview(o.Endpoints[i])
	}
	for n, name := range rules.Rules() {
		t.numbers[uint16(n)] = t.add(name, rules.Title(name.Event))
	}
	for _, text := range rules.Texts() {
		r := t.rules[text.Place]
		if r == nil || text.Child {
			continue
		}
		if r.Table == "" {
			r.table, r.Table, r.On = text.Table, text.Table.String(), text.On
			for i, c := range text.Conjuncts {
				r.conjuncts = append(r.conjuncts, ConjunctReport{Number: i + 1, Text: c})
			}
		}
		t.tableOf(text.Table).Rules++
	}
	return t
}

// add has what a rule makes be counted.
func (t *tally) add(name mapping.RuleName, title string) *ruleTally {
	r := &ruleTally{RuleReport: RuleReport{Rule: name.Place, Event: name.Event, Endpoints: map[string]int64{}}, title: title, reasons: map[string]*ParkedReport{}}
	t.rules[name.Place] = r
	t.order = append(t.order, name.Place)
	return r
}

func (t *tally) tableOf(name cdc.Name) *TableReport {
	if t.tables[name] == nil {
		t.tables[name] = &TableReport{Table: name.String()}
	}
	return t.tables[name]
}

// change counts a change.
func (t *tally) change(c *cdc.Change) {
	t.changes++
	of := t.tableOf(c.Relation.TableName())
	of.Changes++
	switch c.Op {
	case cdc.Insert:
		of.Inserts++
	case cdc.Update:
		of.Updates++
	case cdc.Delete:
		of.Deletes++
	case cdc.Truncate:
		of.Truncates++
	}
}

// Observe implements mapping.Observer: it counts why rules do not fire.
func (t *tally) Observe(o *mapping.Observation) {
	if t.observed.Position == o.Position && t.observed.Net == o.Net && slices.Equal(t.observed.Verdicts, o.Verdicts) {
		return
	}
	t.observed.Position, t.observed.Net, t.observed.Verdicts = o.Position, o.Net, append(t.observed.Verdicts[:0], o.Verdicts...)
	for _, v := range o.Verdicts {
		r := t.numbers[v.Rule]
		if r == nil {
			continue
		}
		switch v.Outcome {
		case mapping.Awaits, mapping.Commit, mapping.Child:
			continue // another verdict follows
		case mapping.Unwatched:
			r.Unwatched++
		case mapping.False, mapping.Null:
			r.Refused++
			if int(v.Conjunct) < len(r.conjuncts) && v.Outcome == mapping.False {
				r.conjuncts[v.Conjunct].False++
			} else if int(v.Conjunct) < len(r.conjuncts) {
				r.conjuncts[v.Conjunct].Null++
			}
		case mapping.Nothing, mapping.Grouped, mapping.Root:
			r.Collapsed++
		}
		r.Looked++
	}
}

// maxReasons is how many reasons of parked changes are kept for a rule.
const maxReasons = 20

// event counts an event, or a parked change.
func (t *tally) event(e *event) error {
	r := t.rules[e.rule]
	if r == nil {
		return nil
	}
	if e.reason != "" {
		r.park(e)
		t.tableOf(r.table).Parked++
		return nil
	}
	t.tableOf(r.table).Events++
	r.Events++
	message, err := e.message()
	if err != nil {
		return err
	}
	takers := t.router.Match(e.name, []byte(e.tenant))
	first := -1
	for i, index := range takers {
		r.Endpoints[t.options.Endpoints[index].Name]++
		if i == 0 {
			first = index
		}
		if err := t.sample(r, e, index); err != nil {
			return err
		}
	}
	if first < 0 {
		r.NoEndpoint++
		if err := t.sample(r, e, first); err != nil {
			return err
		}
	}
	r.sizes.add(t.previews[first].Size(message))
	return nil
}

// park counts a parked change.
func (r *ruleTally) park(e *event) {
	r.Parked++
	p := r.reasons[e.reason]
	if p == nil && len(r.reasons) < maxReasons {
		p = &ParkedReport{Reason: e.reason, First: e.place()}
		r.reasons[e.reason] = p
	}
	if p != nil {
		p.Changes++
	}
}

// sample keeps the first event of a rule for each format in which it leaves.
func (t *tally) sample(r *ruleTally, e *event, index int) error {
	s := Sample{Format: "standard"}
	if index >= 0 {
		ep := t.options.Endpoints[index]
		s.Endpoint, s.Format, s.numbers = ep.Name, ep.Format.String(), ep.StringNumbers
	}
	if slices.ContainsFunc(r.Samples, func(o Sample) bool {
		return o.Format == s.Format && o.numbers == s.numbers && (o.Endpoint == "") == (s.Endpoint == "")
	}) {
		return nil
	}
	shown := (&side{masks: t.masks}).masked(e)
	message, err := shown.message()
	if err != nil {
		return err
	}
	message.Title = r.title
	header, body := t.previews[index].Request(message)
	s.Header, s.Body = header, string(body)
	r.Samples = append(r.Samples, s)
	return nil
}

// report is what was counted.
func (t *tally) report() *Report {
	out := &Report{Transactions: t.transactions, Changes: t.changes, Rows: t.rows, Rules: []RuleReport{}, Tables: []TableReport{}}
	for _, place := range t.order {
		r := t.rules[place]
		r.Size = SizeReport{r.sizes.quantile(0.5), r.sizes.quantile(0.95), r.sizes.largest}
		r.When = slices.DeleteFunc(slices.Clone(r.conjuncts), func(c ConjunctReport) bool { return c.False+c.Null == 0 })
		r.ParkedFor = nil
		for _, reason := range slices.Sorted(maps.Keys(r.reasons)) {
			r.ParkedFor = append(r.ParkedFor, *r.reasons[reason])
		}
		out.Events += r.Events
		out.Parked += r.Parked
		out.Rules = append(out.Rules, r.RuleReport)
	}
	for _, table := range t.tables {
		out.Tables = append(out.Tables, *table)
	}
	slices.SortFunc(out.Tables, func(a, b TableReport) int {
		return cmp.Or(cmp.Compare(b.Changes, a.Changes), cmp.Compare(a.Table, b.Table))
	})
	return out
}
