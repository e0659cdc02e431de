package bridge

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"gancho/cdc"
	"gancho/internal/control"
	"gancho/mapping"
)

// recentChanges are the newest changes that the rule at a place ("": any) has looked at.
func (b *bridge) recentChanges(rule string, n int) (control.RecentChanges, error) {
	u, err := b.remembered()
	if err != nil {
		return control.RecentChanges{}, err
	}
	out, err := u.verdicts.recent(rule, n, u.webhookID)
	out.Capturing = b.follows()
	return out, err
}

// recent are up to n changes of rows, the newest first; webhookID names the event of a rule's number. Backfills' rows are not among them.
func (v *verdicts) recent(rule string, n int, webhookID func(cdc.Position, int) (string, error)) (control.RecentChanges, error) {
	known, now := v.named()
	v.mu.Lock()
	out := control.RecentChanges{Since: v.since.UTC(), Changes: []control.RecentChange{}}
	v.mu.Unlock()
	numbers, tables := map[uint16]bool{}, map[uint32]string{}
	for i := range now.texts {
		t := &now.texts[i]
		if tables[t.OID] = t.Table.String(); t.Place == rule {
			numbers[uint16(t.Number)] = true
		}
	}
	if rule != "" && len(numbers) == 0 {
		return out, &control.InvalidError{Problems: []control.Problem{{Pointer: "/rule", Message: "there is no rule " + strconv.Quote(rule), Hint: "write the place of a rule, as the list of rules has it"}}}
	}
	looked := func(r *verdictRecord) bool {
		return rule == "" && r.n > 0 || slices.ContainsFunc(r.verdicts[:r.n], func(w mapping.Verdict) bool { return numbers[w.Rule] })
	}
	for _, c := range v.newest(n, looked) {
		if tables[c.table] == "" {
			continue // no rule is for its table any more
		}
		told, err := v.tell(&c, &known, webhookID)
		if err != nil {
			return out, err
		}
		out.Changes = append(out.Changes, control.RecentChange{Table: tables[c.table], WhyChange: told})
	}
	return out, nil
}

// newest gathers the newest changes with a record that is looked for. Their rows are known: what is decided later comes after a record with the key.
func (v *verdicts) newest(n int, looked func(*verdictRecord) bool) []remembered {
	var places []place // of the newest changes, with those that came twice
	trim := func(most int) {
		if len(places) > most {
			places = append(places[:0], places[len(places)-most:]...)
		}
	}
	v.each(&v.changes, func(r *verdictRecord) {
		if looked(r) {
			places = append(places, place{r.commit, r.ordinal})
			if len(places) > 64*n { // a change is seldom read again, and has few records
				trim(32 * n)
			}
		}
	})
	changes := map[place]*remembered{}
	for _, at := range slices.Backward(places) {
		if len(changes) < n {
			changes[at] = &remembered{place: at}
		}
	}
	v.each(&v.changes, func(r *verdictRecord) {
		if c := changes[place{r.commit, r.ordinal}]; c != nil {
			c.table, c.micros, c.op = r.table, r.micros, r.op
			c.records = append(c.records, *r)
		}
	})
	var out []remembered
	for _, c := range changes {
		if len(c.records) > 0 { // else it had to make room meanwhile
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b remembered) int {
		return cmp.Or(cmp.Compare(b.commit, a.commit), cmp.Compare(b.ordinal, a.ordinal))
	})
	return out
}

// rowOf is the hash of the key of the row that a change (16/B374D848-0) of a table is of.
func (v *verdicts) rowOf(table uint32, change string) (key uint64, err error) {
	position, number, _ := strings.Cut(change, "-")
	commit, err := cdc.ParseLSN(position)
	ordinal, numberErr := strconv.ParseUint(number, 10, 64)
	if err != nil || numberErr != nil {
		return 0, &control.InvalidError{Problems: []control.Problem{{Pointer: "/change", Message: "this names no change", Hint: "write position-ordinal, as the list of recent changes has it, such as 16/B374D848-0"}}}
	}
	v.each(&v.changes, func(r *verdictRecord) {
		if r.table == table && r.commit == uint64(commit) && r.ordinal == ordinal && key == 0 { // an update that changed the key has a record with the old one behind it
			key = r.key
		}
	})
	if key == 0 {
		return 0, &control.InvalidError{Problems: []control.Problem{{Pointer: "/change", Message: "this change is not remembered any more, or its row has no key", Hint: "ask by the row's key"}}}
	}
	return key, nil
}
