//go:build !race

package expr_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/mapping/expr"
)

const timeDDL = `
alter table o alter v type varchar, alter dn type numeric;
alter table n alter v type varchar, alter dn type numeric;
create function repeated(e text, n int) returns void language plpgsql as $$
declare r text;
begin
  for i in 1..n loop
    execute 'select (' || e || ')::text from n as new join o as old on old.id = new.id' into r;
  end loop;
end $$`

// TestBound: no expression over a large row takes more than 20 times the processor time
// of PostgreSQL. It allows three times that, because processors are shared. With
// GANCHO_BOUND=<seconds> it also tries random expressions over random rows for so long.
func TestBound(t *testing.T) {
	const bound = 3 * 20
	r := rand.New(rand.NewPCG(seed(t), 3))
	s := openSource(t, "C.UTF-8", r, 1)
	if _, err := s.conn.Exec(context.Background(), timeDDL); err != nil {
		t.Fatal(err)
	}
	s.relation = describe(t, s.conn, "o")
	b := &bounded{source: s, scope: s.scope(t)}
	b.load(t, largestRow)
	for _, src := range []string{
		"cardinality(new.ai)", "new.ai[1]", "new.ai[60000]", "new.i4 = any(new.ai)", "new.i4 <> all(new.ai)", "new.i4 > any(new.ai)", "new.ai = old.ai", "new.ai <> old.ai",
		"0.5 = any(new.an)", "'' = any(new.at)", "cardinality(coalesce(new.ai, old.ai))",
		"new.n / old.n", "old.n / new.n", "new.n / new.n", "mod(new.n, old.n)", "div(new.n, old.n)", "new.n / 7", "7 / new.n", "new.n > old.n", "new.n > 12345678901234567890123", "new.n + 12345678901234567890123", "mod(2.5 / nullif(new.dn, 0.3), new.n)", "2 / new.dn < new.n", "new.dn / new.n", "new.n + old.n",
	} {
		if ours, theirs, ok := b.measure(t, src); !ok {
			t.Errorf("%s: not evaluated", src)
		} else if ours > bound*theirs {
			t.Errorf("%s: took %v, PostgreSQL %v", src, ours, theirs)
		}
	}
	seconds, _ := strconv.Atoi(os.Getenv("GANCHO_BOUND"))
	g := &generator{r: r, made: map[string]int{}}
	for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
		b.load(t, func(rel *cdc.Relation) []cdc.Datum { return largeRow(r, rel) })
		for range 100 {
			src := g.expression().sql
			if ours, theirs, ok := b.measure(t, src); ok && ours > bound/3*theirs {
				t.Errorf("%s: took %v, PostgreSQL %v", src, ours, theirs)
			}
		}
	}
}

// bounded measures expressions here and in PostgreSQL.
type bounded struct {
	source *source
	scope  *expr.Scope
	change *cdc.Change
}

// load makes the only row of the source, old and new.
func (b *bounded) load(t *testing.T, row func(rel *cdc.Relation) []cdc.Datum) {
	t.Helper()
	rel := b.source.relation
	b.change = &cdc.Change{Op: cdc.Update, Relation: rel, Tx: &cdc.Transaction{Time: commitTime}}
	for table, to := range map[string]*[]cdc.Datum{"o": &b.change.Old, "n": &b.change.New} {
		var values []string
		for i, d := range row(rel) {
			v := "null"
			if i == 0 {
				v = "0"
			} else if len(d.Text) > 0 {
				v = quote(string(d.Text))
			}
			values = append(values, v)
		}
		if _, err := b.source.conn.Exec(context.Background(), "truncate "+table+"; insert into "+table+" values ("+strings.Join(values, ",")+")"); err != nil {
			t.Fatal(err)
		}
		*to = readRows(t, b.source.conn, table)[0]
	}
}

// measure returns the least processor time of a few evaluations here and in PostgreSQL. It
// is not ok when it is refused or fails.
func (b *bounded) measure(t *testing.T, src string) (ours, theirs time.Duration, ok bool) {
	t.Helper()
	e, err := expr.Compile(src, b.scope)
	if err != nil {
		return 0, 0, false
	}
	const times, repeated = 3, 4
	ours, theirs = math.MaxInt64, math.MaxInt64
	for range times {
		before := backendTime(t, b.source)
		if _, err := b.source.conn.Exec(context.Background(), "select repeated("+quote(src)+", "+strconv.Itoa(repeated)+")"); err != nil {
			return 0, 0, false
		}
		theirs = min(theirs, (backendTime(t, b.source)-before)/repeated)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	machine := expr.NewMachine(b.scope.Settings)
	var out []byte
	for range times {
		before := threadTime(t)
		for range repeated {
			machine.Load(b.change)
			if out, _, err = machine.AppendText(out[:0], e); err != nil {
				return 0, 0, false
			}
		}
		ours = min(ours, (threadTime(t)-before)/repeated)
	}
	return ours, theirs, true
}

// backendTime is the processor time that the connection's backend has taken.
func backendTime(t *testing.T, s *source) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", s.conn.PgConn().PID()))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n)
}

// largestRow is a row of arrays and numerics as large as they are in practice, and larger.
func largestRow(rel *cdc.Relation) []cdc.Datum {
	list := func(form string, first int) string {
		var b strings.Builder
		for i := range 80_000 {
			fmt.Fprintf(&b, ","+form, first+i)
		}
		return "{" + b.String()[1:] + "}"
	}
	values := map[string]string{
		"i4": "-1", "ai": list("%d", 1), "an": list("%d.25", 1), "at": list("x%d", 1), "n": strings.Repeat("7193", 32_000), "dn": "0." + strings.Repeat("3", 16_000),
	}
	row := make([]cdc.Datum, len(rel.Columns))
	for i, c := range rel.Columns {
		row[i] = cdc.Datum{State: cdc.Present, Text: []byte(values[c.Name])}
	}
	return row
}
