package mapping

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"gancho/cdc"
)

// Timer is one that is due: the position of the change that has set it, and its rule. That is what Identities has, not a
// number: numbers are those of an epoch, and a timer may wait into the next one. N is what its event, or what is parked, has as N: whatever its sink tells timers apart by.
type Timer struct {
	cdc.Position
	N    int
	Rule string
	// Key is the row's primary key, as TimerChange.Key had it.
	Key []byte
	Due time.Time
}

// TimerRule is a rule with after.
type TimerRule struct {
	Event, Place string
	MaxLate      time.Duration // 0: no timer is too late
}

// TimerRule returns the rule with an identity, if it has after.
func (rs *Ruleset) TimerRule(identity string) (TimerRule, bool) {
	if b := rs.timed[identity]; b != nil {
		return TimerRule{b.event, b.place(), b.maxLate}, true
	}
	return TimerRule{}, false
}

// TimerRules are the identities of the rules with after, in the order of the files.
func (rs *Ruleset) TimerRules() []string {
	var out []string
	for _, b := range rs.rules {
		if b.after != nil {
			out = append(out, rs.identity(b))
		}
	}
	return out
}

// indexTimed notes the rules with after by their identities.
func (rs *Ruleset) indexTimed() {
	rs.timed = map[string]*boundRule{}
	for _, b := range rs.rules {
		if b.after != nil {
			rs.timed[rs.identity(b)] = b
		}
	}
}

// Fire reads the rows of timers that are due, decides when once more, and gives the sink the events, in the order of the
// timers, with their positions and numbers: as if the row were inserted at the time that was due, which is now() and
// the event's Time. A row that is not there, or for which when is not true, makes none, and neither does a timer whose
// rule is gone. What cannot be computed is given to Park. The Mapper is one for this alone, with numbered rules and a
// source. Its errors are those of Resolve, a *SchemaError where the rule no longer fits its table, or a lookup the database or
// its privileges, under any policy, and ErrTooMuch: the rows are too large for so many timers at once.
func (m *Mapper) Fire(ctx context.Context, timers []Timer, sink Sink) error {
	m.firing = true
	rows, err := m.timedRows(ctx, timers, sink)
	if err != nil {
		return err
	}
	m.Reset()
	for i := range timers {
		t := &timers[i]
		b := m.rules.timed[t.Rule]
		row := rows[t.Rule][string(t.Key)]
		if b == nil || row == nil {
			continue
		}
		if err := m.fireOn(b, t, row, sink); err != nil {
			return err
		}
		if m.Full() {
			if err := m.Resolve(ctx, sink); err != nil {
				return err
			}
		}
	}
	return m.Resolve(ctx, sink)
}

// fireOn applies a rule to the row of a timer that is due.
func (m *Mapper) fireOn(b *boundRule, t *Timer, row []cdc.Datum, sink Sink) error {
	c := &cdc.Change{Position: t.Position, Tx: &cdc.Transaction{Commit: t.Commit, Time: t.Due}, Op: cdc.Timer, Relation: b.table.Relation, New: row}
	plan := m.timedPlan(b)
	if m.firing && plan.broken != nil {
		return plan.broken
	}
	m.load(c)
	return m.apply(plan, t.N, c, sink)
}

// FireAfter fires a timer on what changes, in order, have made of its row, for who has no table to read it from. The TimerChange is one
// that this Mapper has given a sink, with slices that are still valid.
func (m *Mapper) FireAfter(ctx context.Context, t *TimerChange, changes []*cdc.Change, sink Sink) error {
	keys := columnIndexes(t.rule.table.Relation, t.rule.table.PrimaryKey)
	is := func(row []cdc.Datum) bool {
		key, known := m.collector.appendColumns(nil, t.rule.table.Relation, keys, row)
		return known && string(key) == string(t.Key)
	}
	var row []cdc.Datum
	for _, c := range changes {
		if c.Relation.OID == t.rule.table.Relation.OID && (is(c.New) || is(c.Old) || c.Op == cdc.Truncate) {
			row = c.New
		}
	}
	if row == nil {
		return nil
	}
	if err := m.fireOn(t.rule, &Timer{t.Position, t.N, t.Rule, t.Key, t.Due}, row, sink); err != nil {
		return err
	}
	return m.Resolve(ctx, sink)
}

// EncodeKey is a primary key of these columns' texts as TimerChange.Key has it.
func EncodeKey(columns ...string) []byte {
	var key []byte
	for _, text := range columns {
		key = append(binary.AppendUvarint(key, uint64(len(text))), text...)
	}
	return key
}

// DecodeKey are the texts of the columns of a key that EncodeKey has made; nil: it has not.
func DecodeKey(key []byte) (columns []string) {
	for len(key) > 0 {
		size, n := binary.Uvarint(key)
		if n <= 0 || size > uint64(len(key)-n) {
			return nil
		}
		columns, key = append(columns, string(key[n:n+int(size)])), key[n+int(size):] // the length of a slice
	}
	return columns
}

// TimersOf returns the rules with after for a table, as Timer.Rule has them, and what their timers have as a row's key that people have written as
// KeyText reads it.
func (rs *Ruleset) TimersOf(table cdc.Name, text string) (rules []string, key []byte) {
	for _, b := range rs.byTable[table] {
		if b.after == nil {
			continue
		}
		rel := b.table.Relation
		columns := columnIndexes(rel, b.table.PrimaryKey)
		parts := splitKey(text, len(columns))
		for i := range parts {
			parts[i] = string(rs.settings.EqualText([]byte(parts[i]), rel.Columns[columns[i]].Type))
		}
		rules, key = append(rules, rs.identity(b)), EncodeKey(parts...)
	}
	return rules, key
}

// timedPlan is the plan of a rule with after for the table as the rules know it.
func (m *Mapper) timedPlan(b *boundRule) *rulePlan {
	if m.timedPlans[b] == nil {
		m.timedPlans[b] = newRulePlan(m.rules, b, b.table.Relation, false, groupWrite)
	}
	return m.timedPlans[b]
}

// timedRows reads the rows of timers, by the rule and the key.
func (m *Mapper) timedRows(ctx context.Context, timers []Timer, sink Sink) (map[string]map[string][]cdc.Datum, error) {
	wanted := map[string][]string{}
	for i := range timers {
		t := &timers[i]
		b := m.rules.timed[t.Rule]
		if b == nil {
			continue
		}
		if n := len(b.table.PrimaryKey); keyTexts(t.Key, n) == nil {
			reason := fmt.Sprintf("the primary key of the table has other columns than when the timer was set (it has %d now), so that the row is not known", n)
			if err := m.parkTimer(b, t, sink, reason); err != nil {
				return nil, err
			}
			continue
		}
		wanted[t.Rule] = append(wanted[t.Rule], string(t.Key))
	}
	out := map[string]map[string][]cdc.Datum{}
	size := 0
	for rule, keys := range wanted {
		b, found := m.rules.timed[rule], map[string][]cdc.Datum{}
		what := timersOf(b)
		read := func(part []string) error { return m.readTimed(ctx, b, part, found, &size, len(timers) > 1) }
		refused := map[string]error{}
		_, err := readInParts(ctx, m.source, what, nil, keys, read, func(key string, err error) {
			if !noSuchKey(err) {
				refused[key] = err
			}
		})
		switch {
		case isDenied(err):
			m.source.remember(what, err, timersWait)
			return nil, fmt.Errorf("read %s: %w; %s", what, withoutData(err), deniedHint(err))
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", what, withoutData(err))
		}
		m.source.forget(what)
		out[rule] = found
		for i := range timers {
			t := &timers[i]
			if failed := refused[string(t.Key)]; t.Rule == rule && failed != nil {
				if err := m.parkTimer(b, t, sink, "the row cannot be read: "+withoutData(failed).Error()); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// timersOf names what is read of a rule with after.
func timersOf(b *boundRule) string {
	return "rows whose timers are due for " + b.event + " of " + b.place()
}

// noSuchKey: the server refuses a key as none that the column's type, as it is now, can have, so that no row has it.
func noSuchKey(err error) bool {
	return slices.Contains([]string{"22003", "22007", "22008", "22P02"}, cdc.SQLState(err))
}

// parkTimer gives a timer whose row is not known to the sink.
func (m *Mapper) parkTimer(b *boundRule, t *Timer, sink Sink, reason string) error {
	return sink.Park(&Parked{
		Position: t.Position, N: t.N, Type: b.event, Rule: b.place(), Table: b.table.Relation.TableName().String(), Op: cdc.Timer, Time: t.Due, Reason: reason,
	})
}

// timedBytes is how much memory the rows of timers may take that are fired at once.
const timedBytes = 16 << 20

// readTimed reads rows by their keys, and adds to size how large they are. limited: ErrTooMuch where that is too much.
func (m *Mapper) readTimed(ctx context.Context, b *boundRule, which []string, found map[string][]cdc.Datum, size *int, limited bool) error {
	rel := b.table.Relation
	keys := columnIndexes(rel, b.table.PrimaryKey)
	columns := append([]int{}, m.timedPlan(b).needs...)
	args := make([][]byte, len(keys))
	for _, key := range which {
		for i, text := range keyTexts([]byte(key), len(keys)) {
			args[i] = appendElement(args[i], text, false)
		}
	}
	for i := range args {
		args[i] = append(args[i], '}')
	}
	sql := rowsQuery(b.table, rel, keys, columns)
	err := m.source.Query(ctx, sql, args, nil, func(values []cdc.Datum) error {
		row := make([]cdc.Datum, len(rel.Columns))
		for i, column := range columns {
			row[column] = values[i]
			row[column].Text = append([]byte(nil), values[i].Text...)
			*size += len(values[i].Text)
		}
		if limited && *size > timedBytes {
			return ErrTooMuch
		}
		key, _ := m.collector.appendColumns(nil, rel, keys, row)
		found[string(key)] = row
		return nil
	})
	if isBroken(err) {
		err = m.source.explain(ctx, timersOf(b), err, sql, m.rules.denied)
	}
	return err
}
