package mapping_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// turnedClocks are moments around those at which a zone's clocks are turned, in UTC.
var turnedClocks = map[string][]string{
	// Midnight of 4 November 2018 did not exist, and the hour before that of 18 February existed twice.
	"America/Sao_Paulo": {
		"2018-11-03 03:00:00", "2018-11-04 02:59:59", "2018-11-04 03:00:00", "2018-11-04 12:00:00", "2018-11-05 02:00:00",
		"2018-02-17 02:00:00", "2018-02-18 01:30:00", "2018-02-18 02:30:00", "2018-02-18 03:00:00", "2018-02-19 02:59:59",
	},
	// 02:00 to 03:00 of 8 March 2026 does not exist, and 01:00 to 02:00 of 1 November exists twice.
	"America/New_York": {
		"2026-03-07 07:30:00", "2026-03-08 06:59:59", "2026-03-08 07:00:00", "2026-03-09 03:59:59",
		"2026-11-01 03:59:59", "2026-11-01 05:30:00", "2026-11-01 06:30:00", "2026-11-02 05:00:00",
	},
	"Australia/Lord_Howe": {"2026-04-04 14:45:00", "2026-04-04 15:15:00", "2026-10-03 15:29:59", "2026-10-03 15:30:00"}, // by half an hour
}

// timesOfClocks are expressions of the time. The last ones PostgreSQL evaluates.
var timesOfClocks = map[string]string{
	"agora": "now()", "hoje": "current_date", "relogio": "localtimestamp", "amanha": "current_date + 1", "texto": "now()::text", "dia": "date_trunc('day', now())",
	"ontem": "now() - interval '1 day'", "horas": "now() - interval '24 hours'", "manha": "(current_date + interval '1 day 02:30')::timestamptz",
	"madrugada": "(current_date + interval '30 minutes')::timestamptz", "mes": "now() + interval '1 month'", "idade": "age(now(), timestamptz '2017-10-15 03:00:00+00')::text",
	"hora": "extract(hour from now())", "meianoite": "current_date::timestamptz", "igual": "localtimestamp::timestamptz",
	"la": "(select current_date)", "lugar": "(select (now() - interval '1 day')::text)",
}

// inZone is what PostgreSQL makes of the expressions at a time in a session of a zone, as JSON.
func inZone(t *testing.T, conn *pgx.Conn, zone, at string, expressions map[string]string) (out map[string]any) {
	t.Helper()
	now := "(timestamptz '" + at + "+00')"
	var list []string
	for name, text := range expressions {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "now()", now), "current_date", now+"::date")
		list = append(list, fmt.Sprintf("'%s', %s", name, strings.ReplaceAll(text, "localtimestamp", now+"::timestamp")))
	}
	var row []byte
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select set_config('TimeZone', $1, true)", zone)
		if err == nil {
			err = tx.QueryRow(t.Context(), "select json_build_object("+strings.Join(list, ", ")+")").Scan(&row)
		}
		return err
	})
	if err == nil {
		err = json.Unmarshal(row, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameTimes compares what an event has with PostgreSQL's answer.
func sameTimes(t *testing.T, what string, got got, want map[string]any) {
	t.Helper()
	var data map[string]any
	if err := json.Unmarshal([]byte(got.Data), &data); err != nil || got.Parked != "" {
		t.Fatalf("%s: %v, parked: %s", what, err, got.Parked)
	}
	for name, wanted := range want {
		if has := data[name]; fmt.Sprint(has) != fmt.Sprint(wanted) {
			t.Errorf("%s: %s, %s, is %v, and PostgreSQL says %v", what, name, timesOfClocks[name], has, wanted)
		}
	}
}

// TestTurnedClocks: where clocks are turned, the time in the data of a timer and of a schedule, and in its query, is what PostgreSQL makes
// of it in a session of the source's zone, and a timer is due when PostgreSQL says, whichever of them evaluates it.
func TestTurnedClocks(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	conn := connect(t, "create table vendas (id int primary key, vence timestamp, dia date); insert into vendas values (1)", "alter table vendas replica identity full")
	dsn := conn.Config().ConnString()
	var leaves, columns, names []string
	for name, text := range timesOfClocks {
		leaves = append(leaves, name+`: "`+text+`"`)
		if !strings.HasPrefix(text, "(select") { // which a subquery of the rule's own would be
			columns, names = append(columns, text+" as "+name), append(names, name)
		}
	}
	for name, moments := range turnedClocks {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		rs := bind(t, conn, mapping.Options{Location: zone}, `
rules:
  - {event: a, table: vendas, on: insert, after: 1h, data: {`+strings.Join(leaves, ", ")+`}}
  - {event: em.um.dia, table: vendas, on: insert, when: vence is null and dia is null, after: 1 day, columns: [id]}
  - {event: em.horas, table: vendas, on: insert, when: vence is null and dia is null, after: 24h, columns: [id]}
  - {event: no.horario, table: vendas, on: insert, after: vence, columns: [id]}
  - {event: no.dia, table: vendas, on: insert, after: "dia + interval '02:30'", columns: [id]}
  - {event: q, schedule: hourly, query: "select `+strings.Join(columns, ", ")+`", columns: [`+strings.Join(names, ", ")+`]}
  - {event: d, schedule: hourly, query: select 1 as um, data: {`+strings.Join(slices.DeleteFunc(slices.Clone(leaves), func(l string) bool { return strings.Contains(l, "(select") }), ", ")+`}}
`)
		rs.Number([]int{1, 2, 3, 4, 5})
		source := mapping.NewSource(dsn, "", zerolog.Nop())
		defer source.Close(context.Background())
		m := mapping.NewMapper(rs, nil, mapping.WithSource(source), mapping.WithPast())
		for _, at := range moments {
			due, err := time.Parse(time.DateTime, at)
			if err != nil {
				t.Fatal(err)
			}
			want := inZone(t, conn, name, at, timesOfClocks)
			var r recorder
			if err := m.Fire(t.Context(), []mapping.Timer{{Rule: "public.vendas 0 a", Key: mapping.EncodeKey("1"), Due: due}}, &r); err != nil {
				t.Fatal(err)
			}
			sameTimes(t, "the timer of "+at+" in "+name, r.all[0], want)
			for _, name := range []string{"la", "lugar"} {
				delete(want, name)
			}
			for _, s := range rs.Schedules() {
				events, _ := scheduled(t, dsn, s, due)
				sameTimes(t, s.Event()+", scheduled for "+at+" in "+name, events[0], want)
			}
			dueInZone(t, conn, rs, name, due)
		}
	}
}

// dueInZone compares when timers are due that are set by a commit of a time with what PostgreSQL makes of their after.
func dueInZone(t *testing.T, conn *pgx.Conn, rs *mapping.Ruleset, zone string, at time.Time) {
	t.Helper()
	rel := relation(t, conn, "public", "vendas")
	set := func(row []cdc.Datum, commit time.Time) dueTimes {
		all := dueTimes{}
		c := cdc.Change{Op: cdc.Insert, New: row, Relation: rel, Tx: &cdc.Transaction{Commit: 1, Time: commit}, Position: cdc.Position{Commit: 1}}
		if err := mapping.NewMapper(rs, nil).Map(&c, all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	text := at.Format(time.DateTime)
	got := set(row(rel, map[string]any{"id": "1"}), at)
	for rule, after := range map[string]string{"em.um.dia": "1 day", "em.horas": "24 hours"} {
		want := inZone(t, conn, zone, text, map[string]string{"x": "extract(epoch from now() + interval '" + after + "')"})["x"]
		if due := got["public.vendas 0 "+rule]; float64(due.Unix()) != want {
			t.Errorf("what is set at %s in %s is due at %s, and PostgreSQL says %v", text, zone, due, want)
		}
	}
	for hours := range 27 { // each hour of the day, also one that does not exist
		clock := at.Truncate(24 * time.Hour).Add(time.Duration(hours)*time.Hour - 2*time.Hour + 30*time.Minute)
		local, day := clock.Format(time.DateTime), clock.Format(time.DateOnly)
		got = set(row(rel, map[string]any{"id": "1", "vence": local, "dia": day}), at.AddDate(-1, 0, 0))
		for rule, after := range map[string]string{"no.horario": "timestamp '" + local + "'", "no.dia": "date '" + day + "' + interval '02:30'"} {
			want := inZone(t, conn, zone, text, map[string]string{"x": "extract(epoch from (" + after + ")::timestamptz)"})["x"]
			if due := got["public.vendas 0 "+rule]; float64(due.Unix()) != want {
				t.Errorf("%s of %s in %s is due at %s, and PostgreSQL says %v", rule, local, zone, due, want)
			}
		}
	}
}

// dueTimes are when timers are due, by their rules.
type dueTimes map[string]time.Time

func (dueTimes) Event(*mapping.Event) error { return nil }
func (dueTimes) Park(*mapping.Parked) error { return nil }
func (d dueTimes) Timer(c *mapping.TimerChange) error {
	d[c.Rule] = c.Due
	return nil
}
