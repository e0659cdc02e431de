package expr_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping/expr"
)

// TestFloatDigits compares the printing of computed floats with PostgreSQL's,
// at the powers of two above all, where the shortest digits are disputed.
func TestFloatDigits(t *testing.T) {
	t.Parallel()
	n := seed(t)
	r := rand.New(rand.NewPCG(n, 1))
	var list []float64
	for e := -1074; e < 1024; e++ {
		list = append(list, math.Ldexp(1, e), -math.Ldexp(1+r.Float64(), e))
	}
	for range 2000 {
		if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) {
			list = append(list, f, float64(float32(r.NormFloat64())), math.Round(f*1e3)/1e3)
		}
	}
	list = testservers.Sample(list)
	conn := connectPlain(t, pg.Database(t, ""))
	rel := &cdc.Relation{Name: "t", Columns: []cdc.Column{{Name: "f", Type: baseType(701, "float8"), TypeMod: -1}}}
	scope := &expr.Scope{Relation: rel, New: true, Insert: true}
	machine := expr.NewMachine(scope.Settings)
	var got, want []string
	for _, src := range []string{"- f", "(- f)::real"} {
		e, err := expr.Compile(src, scope)
		if err != nil {
			t.Fatal(err)
		}
		var sql strings.Builder
		for _, f := range list {
			if src != "- f" && (math.Abs(f) > math.MaxFloat32 || f != 0 && math.Abs(f) < 1e-40) {
				continue
			}
			text := fmt.Appendf(nil, "%v", f)
			machine.Load(&cdc.Change{Op: cdc.Insert, Relation: rel, New: []cdc.Datum{{State: cdc.Present, Text: text}}})
			out, _, err := machine.AppendText(nil, e)
			if err != nil {
				t.Fatalf("%s of %s: %v", src, text, err)
			}
			got = append(got, string(out))
			fmt.Fprintf(&sql, "('%s'),", text)
		}
		rows, err := conn.Query(context.Background(), "select "+src+" from (select x::float8 as f, row_number() over () as n from (values "+strings.TrimSuffix(sql.String(), ",")+") v(x)) s order by n")
		if err != nil {
			t.Fatal(err)
		}
		part, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) { return string(r.RawValues()[0]), nil })
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, part...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("PostgreSQL - here +\n%s", diff[:min(len(diff), 3000)])
	}
}

// connectPlain connects so that every value comes as text.
func connectPlain(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func baseType(oid uint32, name string) *cdc.Type {
	return &cdc.Type{OID: oid, Schema: "pg_catalog", Name: name, Kind: cdc.KindBase, TypeMod: -1, Delim: ','}
}
