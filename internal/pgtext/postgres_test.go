package pgtext_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
	_ "time/tzdata" // the programs embed it; so do their tests

	"github.com/jackc/pgx/v5"

	"gancho/internal/pgtext"
	"gancho/internal/testservers"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

// try evaluates an expression, and makes errors and nulls comparable.
const try = `create function try(q text) returns text language plpgsql as $$
declare r text;
begin
	execute 'select (' || q || ')::text' into r;
	return coalesce(r, 'NULL');
exception when others then
	return 'ERROR ' || sqlstate;
end $$`

// connect opens a session like that of the replication stream, but for its time zone.
func connect(t testing.TB, dsn, zone string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["timezone"] = zone
	config.RuntimeParams["datestyle"] = "ISO"
	config.RuntimeParams["intervalstyle"] = "postgres"
	config.RuntimeParams["extra_float_digits"] = "3"
	config.RuntimeParams["bytea_output"] = "hex"
	config.RuntimeParams["jit"] = "off"
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// random returns a generator with the seed GANCHO_TEST_SEED, or the same for each
// run.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(20261121)
	if s := os.Getenv("GANCHO_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("read GANCHO_TEST_SEED: %v", err)
		}
	}
	t.Logf("GANCHO_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// rounds is how often a random test tries, $GANCHO_ROUNDS (1) times its own number.
func rounds(t testing.TB, n int) int {
	t.Helper()
	s := os.Getenv("GANCHO_ROUNDS")
	if s == "" {
		return n
	}
	times, err := strconv.Atoi(s)
	if err != nil || times < 1 {
		t.Fatalf("GANCHO_ROUNDS: want a number from 1, not %q", s)
	}
	return n * times
}

// probe is an SQL expression and the result of the same in Go.
type probe struct{ sql, got string }

// outcome is a result as try returns it; a nil slice is null.
func outcome(b []byte, err error) string {
	if err != nil {
		var e *pgtext.Error
		if !errors.As(err, &e) {
			return "unexpected error " + err.Error()
		}
		return "ERROR " + e.Code
	}
	if b == nil {
		return "NULL"
	}
	return string(b)
}

// compare evaluates the probes in PostgreSQL and reports every difference.
func compare(t *testing.T, conn *pgx.Conn, probes []probe) {
	t.Helper()
	const batch = 2000
	failures := 0
	for len(probes) > 0 {
		part := probes[:min(batch, len(probes))]
		probes = probes[len(part):]
		sql := make([]string, len(part))
		for i, p := range part {
			sql[i] = p.sql
		}
		rows, err := conn.Query(context.Background(), "select try(q) from unnest($1::text[]) with ordinality u(q, n) order by n", sql)
		if err != nil {
			t.Fatal(err)
		}
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range part {
			if p.got == want[i] {
				continue
			}
			t.Errorf("%s\n got %s\nwant %s", p.sql, p.got, want[i])
			if failures++; failures > 20 {
				t.Fatal("too many differences")
			}
		}
	}
}

func quote(s string) string {
	out := make([]byte, 0, len(s)+2)
	out = append(out, '\'')
	for i := range len(s) {
		if s[i] == '\'' {
			out = append(out, '\'')
		}
		out = append(out, s[i])
	}
	return string(append(out, '\''))
}

// randomTimestamp is near now, in the last centuries, or anywhere; now and
// then on a whole hour, day or month, or infinite.
func randomTimestamp(r *rand.Rand) int64 {
	const (
		day     = 86_400_000_000
		minimum = -211_813_488_000_000_000
		end     = 9_223_371_331_200_000_000
	)
	var ts int64
	switch r.IntN(20) {
	case 0:
		return pgtext.Infinity
	case 1:
		return pgtext.NegInfinity
	case 2, 3:
		ts = minimum + r.Int64N(end/2)*2
	case 4, 5, 6: // around the turn of the era and before
		ts = -730_119*day + r.Int64N(4000*365*day) - 2000*365*day
	case 7, 8, 9, 10, 11:
		ts = r.Int64N(400*365*day) - 200*365*day
	default:
		ts = r.Int64N(60*365*day) - 30*365*day
	}
	switch r.IntN(6) {
	case 0:
		ts -= ts % day
	case 1:
		ts -= ts % 3_600_000_000
	case 2:
		ts -= ts % 1_000_000
	case 3:
		ts -= ts % 1000
	}
	return min(max(ts, minimum), end-1)
}

func randomInterval(r *rand.Rand) pgtext.Interval {
	var i pgtext.Interval
	if r.IntN(2) == 0 {
		i.Months = int32(r.IntN(60) - 30)
	}
	if r.IntN(2) == 0 {
		i.Days = int32(r.IntN(100) - 50)
	}
	if r.IntN(2) == 0 {
		i.Micros = r.Int64N(400_000_000_000) - 200_000_000_000
		if r.IntN(2) == 0 {
			i.Micros -= i.Micros % 1_000_000
		}
	}
	switch r.IntN(15) {
	case 0:
		i.Months = int32(r.Uint32()) / 4
	case 1:
		i.Days = int32(r.Uint32())
	case 2:
		i.Micros = r.Int64() - 1<<62
	}
	return i
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// tsText is a timestamp as an SQL literal.
func tsText(ts int64) string {
	return fmt.Sprintf("timestamp '%s'", pgtext.AppendTimestamp(nil, ts))
}

func tstzText(ts int64) string {
	return fmt.Sprintf("timestamptz '%s'", pgtext.AppendTimestampTZ(nil, ts, nil))
}

func intervalText(i pgtext.Interval) string {
	return fmt.Sprintf("interval '%s'", pgtext.AppendInterval(nil, i))
}
