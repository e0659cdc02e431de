package mapping_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/mapping"
)

const timedSchema = `
create table pedidos (id int primary key, situacao text, total numeric, vence date, espera interval);
alter table pedidos replica identity full;`

// TestTimers: what changes set, move and cancel.
func TestTimers(t *testing.T) {
	t.Parallel()
	const rules = `
rules:
  - {event: abandonado, table: pedidos, on: [insert, update], when: situacao = '00', after: 1h, columns: [id]}
  - {event: parado, table: pedidos, on: [insert, update], when: situacao = '01', after: 30s, restart: true, columns: [id]}
  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '02', after: vence + interval '3 days', columns: [id]}
  - {event: novo, table: pedidos, on: insert, when: situacao = '03', after: espera, columns: [id]}
`
	l := startLive(t, timedSchema, rules)
	timer := func(n int, text string) got { return got{N: n, Type: "timer", Row: text} }
	for _, c := range []struct {
		sql  string
		want []got
	}{
		{"insert into pedidos values (1, '00')", []got{timer(4, `"\x011" set`)}},
		{"update pedidos set total = 5", nil},
		{"update pedidos set situacao = '09'", []got{timer(4, `"\x011" canceled`)}},
		{"update pedidos set situacao = '08'", nil},
		{"update pedidos set situacao = '00'", []got{timer(4, `"\x011" set`)}},
		{"update pedidos set id = 2", []got{timer(4, `"\x012" was "\x011" set`)}},
		{"delete from pedidos", []got{timer(4, `"\x012" canceled`)}},
		{"insert into pedidos values (3, '01')", []got{timer(5, `"\x013" set`)}},
		{"update pedidos set total = 6", []got{timer(5, `"\x013" set`)}},
		{"update pedidos set situacao = '02'", []got{timer(5, `"\x013" canceled`)}},
		{"update pedidos set vence = '2026-03-01'", []got{timer(6, `"\x013" set`)}},
		{"update pedidos set total = 7", nil},
		{"update pedidos set vence = '2026-04-01'", []got{timer(6, `"\x013" set`)}},
		{"update pedidos set vence = 'infinity'", []got{timer(6, `"\x013" canceled`)}},
		{"update pedidos set vence = null", nil},
		{"update pedidos set situacao = '03', espera = '1 day'", nil}, // on insert alone
		{"update pedidos set espera = '2 days'", []got{timer(7, `"\x013" moved`)}},
		{"delete from pedidos", []got{timer(7, `"\x013" canceled`)}},
		{"insert into pedidos values (4, '03', null, null, '1 month')", []got{timer(7, `"\x014" set`)}},
		{"truncate pedidos", []got{timer(4, "all canceled"), timer(5, "all canceled"), timer(6, "all canceled"), timer(7, "all canceled")}},
	} {
		diff(t, c.sql, l.do(c.sql), c.want)
	}
	l.do("insert into pedidos values (5, '02', null, '2096-03-01')")
	if want := time.Date(2096, 3, 4, 0, 0, 0, 0, time.UTC); !l.due.Equal(want) {
		t.Errorf("due %s, want %s", l.due, want)
	}
	before := time.Now().Add(-time.Minute)
	if l.do("insert into pedidos values (6, '02', null, '-infinity')"); l.due.Before(before) || l.due.After(time.Now().Add(time.Minute)) {
		t.Errorf("what was due long ago is due at %s", l.due)
	}
}

// parseAndBind returns the mistakes of rules.
func parseAndBind(t *testing.T, conn *pgx.Conn, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err == nil {
		_, err = rules.Bind(context.Background(), conn)
	}
	return err
}

// TestAfterMistakes: what a rule with after cannot be.
func TestAfterMistakes(t *testing.T) {
	t.Parallel()
	conn := connect(t, "drop table pedidos cascade", timedSchema, "create table soltos (id int, nome text); alter table soltos replica identity full", "create table leves (id int primary key, nome text)")
	const head = "rules:\n  - {event: a, table: pedidos, on: [insert, update], columns: [id], "
	for rule, want := range map[string]string{
		head + "after: 1h, watch: [total]}":         "cannot have both after and watch",
		head + "after: 1h, collapse: id}":           "cannot have both after and collapse",
		head + "after: 1h, previous: true}":         "no previous row",
		head + "restart: true}":                     "the rule has none",
		head + "max_late: 1d}":                      "the rule has none",
		head + "after: 3 bananas}":                  `"3 bananas" is no interval; write such as 30s`,
		head + "after: total}":                      "after is of type numeric",
		head + "after: 'vence + 1', restart: true}": "after is a time",
		head + "after: 1h, when: old.total > 3}":    "no OLD row",
		head + "after: 1h, when: changed(total)}":   "changed",
		"rules:\n  - {event: a, table: pedidos, on: [insert, delete], columns: [id], after: 1h}":          "a deleted one is not there",
		"rules:\n  - {event: a, table: soltos, on: insert, columns: [id], key: id, after: 1h}":            "after needs a primary key",
		"rules:\n  - {event: a, table: leves, on: insert, columns: [id], when: nome = 'x', after: 1h}":    `after needs the old value of column "nome"`,
		head + "after: 1h}\n  - {event: a, table: public.pedidos, on: update, columns: [id], after: 2h}":  "rules.yaml:2 has after, too, for this event and table",
		head + "lookup: {c: select nome from clientes where id = new.id}, after: 1h, when: c.nome = 'x'}": "it can name no lookup",
	} {
		err := parseAndBind(t, conn, rule)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
}

// TestFire: rows whose timers are due make events as they are now.
func TestFire(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table vendas (a int, b text, situacao text, total numeric, primary key (a, b)); alter table vendas replica identity full",
		"insert into vendas values (1, 'x', '00', 10.50), (2, 'y,z', '00', 20), (3, 'w', '09', 30)", "create table nomes (id int, nome text)", "insert into nomes values (1, 'Ana')")
	rs := bind(t, conn, mapping.Options{}, `
rules:
  - {event: outra, table: vendas, on: insert, columns: [a]}
  - event: abandonada
    table: vendas
    on: [insert, update]
    when: situacao = '00'
    after: 1h
    lookup: {n: select nome from nomes where id = new.a}
    data: {a: a, total: total, nome: n.nome, quando: now()}
`)
	rs.Number([]int{4, 7})
	source := mapping.NewSource(conn.Config().ConnString(), "", zerolog.Nop())
	defer source.Close(context.Background())
	m := mapping.NewMapper(rs, nil, mapping.WithSource(source), mapping.WithPast())
	due := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const rule = "public.vendas 0 abandonada"
	diff(t, "rules", rs.TimerRules(), []string{rule})
	timer := func(lsn cdc.LSN, rule, key string) mapping.Timer { // the number is that of another epoch
		return mapping.Timer{Position: cdc.Position{Commit: lsn}, N: 2, Rule: rule, Key: []byte(key), Due: due}
	}
	var r recorder
	err := m.Fire(t.Context(), []mapping.Timer{
		timer(9, rule, "\x012\x03y,z"), timer(8, rule, "\x011\x01x"), timer(7, rule, "\x013\x01w"), timer(6, rule, "\x014\x01w"),
		timer(5, "public.vendas 0 outra", "\x011\x01x"), timer(4, "public.vendas 0 gone", "\x011\x01x"),
		timer(3, rule, "\x012"), timer(2, rule, "\x012\x03y,z\x011"), // the primary key has had other columns
	}, &r)
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, e := range r.all {
		events = append(events, strings.TrimSpace(e.Type+" "+e.Key+" "+e.Data+e.Parked))
	}
	const otherKey = "abandonada  the primary key of the table has other columns than when the timer was set (it has 2 now), so that the row is not known"
	diff(t, "fired", events, []string{
		otherKey, otherKey,
		`abandonada 2,y,z {"a":2,"total":20,"nome":null,"quando":"2026-03-01T12:00:00+00:00"}`,
		`abandonada 1,x {"a":1,"total":10.50,"nome":"Ana","quando":"2026-03-01T12:00:00+00:00"}`,
	})
}

// timerVerdicts collects what the rules are told to have made of changes.
type timerVerdicts struct{ all []mapping.Verdict }

func (v *timerVerdicts) Observe(o *mapping.Observation) { v.all = append(v.all, o.Verdicts...) }

// TestTimerVerdicts: why a change has no event is told of rules with after, too.
func TestTimerVerdicts(t *testing.T) {
	t.Parallel()
	conn := connect(t, "drop table pedidos cascade", timedSchema)
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: a, table: pedidos, on: [insert, update], when: situacao = '00' and total > 3, after: 1h, columns: [id]}")
	rel := relation(t, conn, "public", "pedidos")
	var told timerVerdicts
	m := mapping.NewMapper(rs, nil, mapping.WithObserver(&told))
	with := func(situacao, total string) []cdc.Datum {
		return row(rel, map[string]any{"id": "1", "situacao": situacao, "total": total})
	}
	l := &live{}
	for i, c := range []cdc.Change{
		{Op: cdc.Insert, New: with("00", "3")},
		{Op: cdc.Update, Old: with("00", "3"), New: with("00", "4")},
		{Op: cdc.Update, Old: with("00", "4"), New: with("00", "5")},
		{Op: cdc.Update, Old: with("00", "5"), New: with("09", "5")},
		{Op: cdc.Delete, Old: with("09", "5")},
	} {
		c.Position, c.Tx, c.Relation = cdc.Position{Commit: cdc.LSN(1 + i)}, &cdc.Transaction{Commit: cdc.LSN(1 + i), Time: time.Now()}, rel
		if err := m.Map(&c, l); err != nil {
			t.Fatal(err)
		}
	}
	n := told.all[0].Rule
	diff(t, "verdicts", told.all, []mapping.Verdict{
		{Rule: n, Outcome: mapping.False, Conjunct: 1}, {Rule: n, Outcome: mapping.TimerSet}, {Rule: n, Outcome: mapping.TimerWaits}, {Rule: n, Outcome: mapping.TimerCanceled},
	})
}

// TestTimersOfOneChange: what several rules say of a change comes in the order of their numbers, which is not that of the files, and
// rules without after stand between them.
func TestTimersOfOneChange(t *testing.T) {
	t.Parallel()
	conn := connect(t, "drop table pedidos cascade", timedSchema)
	rs := bind(t, conn, mapping.Options{OnSchemaChange: mapping.Park}, `
rules:
  - {event: a, table: pedidos, on: update, when: old.situacao = 'x', columns: [id]}
  - {event: b, table: pedidos, on: [insert, update], when: situacao = '00', after: 1h, columns: [id]}
  - {event: c, table: pedidos, on: [insert, update], when: situacao = '00', after: 2h, columns: [id]}
`)
	rs.Number([]int{9, 7, 3})
	rel := relation(t, conn, "public", "pedidos")
	l := &numbered{}
	m := mapping.NewMapper(rs, nil)
	for i, c := range []cdc.Change{
		{Op: cdc.Insert, New: row(rel, map[string]any{"id": "1", "situacao": "00"})},
		{Op: cdc.Update, New: row(rel, map[string]any{"id": "1", "situacao": "00"})}, // the row before is not known: all park it
	} {
		c.Position, c.Tx, c.Relation = cdc.Position{Commit: cdc.LSN(1 + i)}, &cdc.Transaction{Commit: cdc.LSN(1 + i), Time: time.Now()}, rel
		if err := m.Map(&c, l); err != nil {
			t.Fatal(err)
		}
	}
	diff(t, "in order", l.all, []string{"timer 3", "timer 7", "parked 3", "parked 7", "parked 9"})
}

// numbered notes the numbers of what it is given.
type numbered struct{ all []string }

func (l *numbered) Event(e *mapping.Event) error {
	l.all = append(l.all, fmt.Sprint("event ", e.N))
	return nil
}
func (l *numbered) Park(p *mapping.Parked) error {
	l.all = append(l.all, fmt.Sprint("parked ", p.N))
	return nil
}
func (l *numbered) Timer(c *mapping.TimerChange) error {
	l.all = append(l.all, fmt.Sprint("timer ", c.N))
	return nil
}
