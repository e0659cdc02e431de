package expr_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/mapping"
	"gancho/mapping/expr"
)

// delegatedExpressions is how many the default run has: each is a query of its own.
const delegatedExpressions = 150

// TestDelegated has PostgreSQL evaluate, as rules do what the language lacks, random
// expressions that the language has: the value here, there, and in a plain query are one.
func TestDelegated(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed(t), 7))
	s := openSource(t, "C.UTF-8", r, rowsPerSource)
	d := newDifferential(t, s)
	g := &generator{r: r, made: map[string]int{}}
	var accepted []*expr.Expr
	var sources []string
	var want [][]*string
	for len(accepted) < delegatedExpressions {
		var batch []string
		for range 100 {
			batch = append(batch, g.expression().sql)
		}
		for i, results := range s.evaluate(t, batch) {
			failed := true
			for _, w := range results {
				failed = failed && w != nil && (*w)[0] == '!' // which a rule may not be loaded with
			}
			if e, err := expr.Compile(batch[i], d.scope); err == nil && !failed && len(accepted) < delegatedExpressions {
				accepted, sources, want = append(accepted, e), append(sources, batch[i]), append(want, results)
			}
		}
	}
	lacking, lackingWant := lacking(t, s, d, g)
	sources, want = append(sources, lacking...), append(want, lackingWant...)
	got := delegated(t, s, sources)
	for i := range sources {
		if i < len(accepted) {
			d.compare(t, sources[i], accepted[i], want[i])
		}
		for row, w := range want[i] {
			expected := "null"
			if w != nil {
				expected = (*w)[:1]
				if expected == "=" {
					expected = *w
				}
			}
			if got[i][row] != expected {
				d.failf(t, "row %d: %s\n  in a rule  %s\n  PostgreSQL %s", row, sources[i], got[i][row], expected)
			}
		}
	}
}

// lacking are expressions that show what the language leaves to the source, with PostgreSQL's results.
func lacking(t *testing.T, s *source, d *differential, g *generator) (sources []string, want [][]*string) {
	t.Helper()
	for _, feature := range delegatedFeatures {
		found := 0
		for tries := 0; found < wantAccepted && tries < 10; tries++ {
			var batch []string
			for range 4 * wantAccepted {
				batch = append(batch, g.showing(feature).sql)
			}
			for i, results := range s.evaluate(t, batch) {
				refused := slices.ContainsFunc(results, func(w *string) bool { return w != nil && (*w)[0] == '!' })
				if _, err := expr.Compile(batch[i], d.scope); err != nil && !refused && found < wantAccepted {
					sources, want = append(sources, batch[i]), append(want, results)
					found++
				}
			}
		}
		if found < wantAccepted {
			t.Errorf("%s: %d expressions that the language refuses and PostgreSQL evaluates", feature, found)
		}
	}
	return sources, want
}

// delegated returns what rules give for each expression on each row: "=text", "null", or "!"
// for a parked change.
func delegated(t *testing.T, s *source, sources []string) [][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // what is retried for ever ends
	defer cancel()
	var rules strings.Builder
	rules.WriteString("rules:\n")
	for i, src := range sources {
		// The language has no subqueries, and so refuses it.
		fmt.Fprintf(&rules, "  - event: e%d\n    table: o\n    on: update\n    key: id\n    data:\n      v: %s\n", i,
			jsonText(t, "(select case when v is null then null else '=' || format('%s', v) end from (select ("+src+")) s(v))"))
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var xid uint32
	if _, err := s.conn.Exec(ctx, "alter table o replica identity full"); err != nil {
		t.Fatal(err)
	}
	if err := s.conn.QueryRow(ctx, "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	dsn := s.conn.Config().ConnString()
	conn, err := cdc.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{file}, Location: location})
	if err != nil {
		t.Fatal(err)
	}
	bound, err := parsed.Bind(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	table, err := cdc.LoadTable(ctx, conn, "", "public", "o")
	if err != nil {
		t.Fatal(err)
	}
	reader := mapping.NewSource(dsn, "", zerolog.New(zerolog.NewTestWriter(t)))
	defer reader.Close(ctx)
	m := mapping.NewMapper(bound, nil, mapping.WithSource(reader))
	sink := answers{}
	tx := &cdc.Transaction{Commit: 1 << 51, XID: xid, Time: commitTime}
	for row, c := range s.changes {
		change := *c
		change.Relation, change.Tx, change.Position = table.Relation, tx, cdc.Position{Commit: tx.Commit, Ordinal: uint64(row)}
		if err := m.Map(&change, sink); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Resolve(ctx, sink); err != nil {
		t.Fatal(err)
	}
	out := make([][]string, len(sources))
	for i := range out {
		for row := range s.changes {
			out[i] = append(out[i], sink[fmt.Sprintf("e%d %d", i, row)])
		}
	}
	return out
}

func jsonText(t *testing.T, s string) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// answers is a sink: the value of each event, by its type and the number of its change.
type answers map[string]string

func (a answers) Event(e *mapping.Event) error {
	var data struct{ V *string }
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	value := "null"
	if data.V != nil {
		value = *data.V
	}
	a[fmt.Sprintf("%s %d", e.Type, e.Ordinal)] = value
	return nil
}

func (a answers) Park(p *mapping.Parked) error {
	a[fmt.Sprintf("%s %d", p.Type, p.Ordinal)] = "!"
	return nil
}
