package expr_test

import (
	"testing"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// charge is a table like the legacy system's cobrancas, with an update that
// settles one charge.
func charge(t testing.TB) (*expr.Scope, *cdc.Change) {
	t.Helper()
	column := func(name string, oid uint32, typ string, mod int32) cdc.Column {
		return cdc.Column{Name: name, Type: baseType(oid, typ), TypeMod: mod}
	}
	rel := &cdc.Relation{Schema: "public", Name: "cobrancas", ReplicaIdentity: 'f', Columns: []cdc.Column{
		column("id", 23, "int4", -1), column("empresa_id", 23, "int4", -1), column("cliente_id", 23, "int4", -1), column("valor", 1700, "numeric", 786438),
		column("valor_pago", 1700, "numeric", 786438), column("dt_vencimento", 1082, "date", -1), column("dt_estorno", 1114, "timestamp", -1),
		column("forma", 1042, "bpchar", 6), column("status", 1042, "bpchar", 5), column("documento", 1043, "varchar", 24),
	}}
	row := func(values ...string) []cdc.Datum {
		out := make([]cdc.Datum, len(values))
		for i, v := range values {
			if v != "-" {
				out[i] = cdc.Datum{State: cdc.Present, Text: []byte(v)}
			} else {
				out[i].State = cdc.Null
			}
		}
		return out
	}
	scope := &expr.Scope{Relation: rel, Old: true, New: true, Update: true, Settings: expr.Settings{Collation: "pt_BR.UTF-8", CType: "pt_BR.UTF-8", Encoding: "UTF8"}}
	return scope, &cdc.Change{Op: cdc.Update, Relation: rel, Tx: &cdc.Transaction{Time: commitTime},
		Old: row("71", "1", "815", "129.90", "-", "2026-11-20", "-", "PX", "P", "A-71"),
		New: row("71", "1", "815", "129.90", "129.90", "2026-11-20", "2026-11-21 10:00:00", "PX", "L", "A-71")}
}

// BenchmarkWhen evaluates conditions of three comparisons.
func BenchmarkWhen(b *testing.B) {
	for _, src := range []string{
		"old.status <> 'L' and new.status = 'L' and empresa_id = 1",
		"old.status in ('P','I') and new.status = 'L' and valor > 100.00",
		"became(status, 'L') and valor_pago is not null and dt_vencimento >= date '2026-01-01'",
		"changed(valor) or changed(dt_vencimento) or changed(documento)",
		"coalesce(valor_pago, 0) * 2 >= valor and upper(documento) like 'A%' and round(valor, 1) <> 0",
	} {
		b.Run(src, func(b *testing.B) {
			scope, change := charge(b)
			e, err := expr.CompileBool(src, scope)
			if err != nil {
				b.Fatal(err)
			}
			m := expr.NewMachine(scope.Settings)
			b.ReportAllocs()
			for b.Loop() {
				m.Load(change)
				if _, _, err := m.Bool(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPayload writes a payload of ten columns as JSON.
func BenchmarkPayload(b *testing.B) {
	scope, change := charge(b)
	var list []*expr.Expr
	for _, c := range scope.Relation.Columns {
		e, err := expr.Compile(c.Name, scope)
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, e)
	}
	m := expr.NewMachine(scope.Settings)
	o := &pgtext.JSONOptions{}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		m.Load(change)
		buf = buf[:0]
		for _, e := range list {
			var err error
			if buf, err = m.AppendJSON(buf, e, o); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestSteadyStateDoesNotAllocate holds the benchmark's promise in go test.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	scope, change := charge(t)
	scope.Settings.Secrets = map[string][]byte{"k": []byte("0123456789abcdef")}
	for _, src := range []string{
		"old.status <> 'L' and new.status = 'L' and empresa_id = 1",
		"old.status in ('P','I') and valor > 100.00 and dt_vencimento < date '2027-01-01'",
		"became(status, 'L') or changed(dt_estorno)",
		"coalesce(valor_pago, 0) * 2 >= valor and upper(trim(documento)) like 'A%' and substr(documento, 1, 2) || 'x' <> 'y'",
		"hmac(documento, 'k') <> mask_cpf(documento) and last4(documento) = '****'",
		"case forma when 'PX' then valor_pago - valor else valor / 2 end = 0",
	} {
		e, err := expr.CompileBool(src, scope)
		if err != nil {
			t.Fatal(err)
		}
		m := expr.NewMachine(scope.Settings)
		if n := testing.AllocsPerRun(100, func() {
			m.Load(change)
			if v, null, err := m.Bool(e); err != nil || null || !v {
				t.Fatalf("%s: %v, %v, %v; want true", src, v, null, err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want none", src, n)
		}
	}
}
