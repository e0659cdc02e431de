package mapping_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

const benchRules = `
rules:
  - event: cliente.ativado
    table: clientes
    on: update
    when: old.situacao <> 'AT' and new.situacao = 'AT' and new.ativo = 'S'
    tenant: empresa_id
    columns: [id, empresa_id, codigo, nome, cpf_cnpj, email, situacao, ativo, saldo, dt_cadastro]
`

// discard is a sink that counts.
type discard struct{ events, bytes int }

func (d *discard) Event(e *mapping.Event) error {
	d.events++
	d.bytes += len(e.Data)
	return nil
}

func (d *discard) Park(*mapping.Parked) error { return nil }

func benchChanges(b testing.TB) (m *mapping.Mapper, match, miss *cdc.Change) {
	b.Helper()
	conn := connect(b)
	rel := relation(b, conn, "", "clientes")
	m = mapping.NewMapper(bind(b, conn, mapping.Options{Location: saoPaulo(b)}, benchRules), nil)
	after := with(client(), values{"nome": "João Gilberto do Prado Pereira de Oliveira", "email": "joao@example.com"})
	before := with(after, values{"situacao": "VI"})
	return m, change(rel, cdc.Update, before, after), change(rel, cdc.Update, after, after)
}

func BenchmarkMap(b *testing.B) {
	for _, c := range []struct {
		name  string
		match bool
	}{{"match", true}, {"miss", false}} {
		b.Run(c.name, func(b *testing.B) {
			m, change, miss := benchChanges(b)
			if !c.match {
				change = miss
			}
			var sink discard
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Map(change, &sink); err != nil {
					b.Fatal(err)
				}
			}
			if (sink.events > 0) != c.match {
				b.Fatalf("%d events", sink.events)
			}
		})
	}
}

// In a steady state a change costs no allocation, whether it matches or not.
func TestMapAllocatesNothing(t *testing.T) {
	m, match, miss := benchChanges(t)
	var sink discard
	for _, c := range []*cdc.Change{match, miss} {
		n := testing.AllocsPerRun(200, func() {
			if err := m.Map(c, &sink); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations per change", n)
		}
	}
	if sink.events == 0 {
		t.Error("no event")
	}
}

// BenchmarkDelegate resolves transactions of one row and of 1,000, with an expression of the
// language and with one that PostgreSQL evaluates. Mapping is a small part of capture: the
// rate of the whole is in docs/performance.md.
func BenchmarkDelegate(b *testing.B) {
	for _, c := range []struct{ name, expression string }{{"local", "saldo * 2"}, {"PostgreSQL", "(select saldo * 2)"}} {
		for _, rows := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/%d", c.name, rows), func(b *testing.B) {
				l := newLab(b, pg, mapping.Options{}, benchRules+"    data: {dobro: \""+c.expression+"\"}\n")
				_, changes := thousand(relation(b, l.conn, "", "clientes"))
				var sink discard
				var took []time.Duration
				for b.Loop() {
					start := time.Now()
					for _, change := range changes[:rows] {
						if err := l.mapper.Map(change, &sink); err != nil {
							b.Fatal(err)
						}
					}
					if err := l.mapper.Resolve(context.Background(), &sink); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/change")
				if sink.events != b.N*rows {
					b.Fatalf("%d events", sink.events)
				}
			})
		}
	}
}
