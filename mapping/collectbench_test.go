package mapping_test

import (
	"context"
	"strconv"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

const perTransaction = "    collapse: id\n"

// BenchmarkTransaction maps transactions of 1,000 rows that all make an event,
// by a rule that streams and by one that waits for the commit.
func BenchmarkTransaction(b *testing.B) {
	for _, c := range []struct{ name, rule string }{
		{"plain", ""},
		{"collapse", perTransaction},
		{"group", "    collapse: [empresa_id, id, situacao]\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			conn := connect(b)
			rel := relation(b, conn, "", "clientes")
			m := mapping.NewMapper(bind(b, conn, mapping.Options{Location: saoPaulo(b)}, benchRules+c.rule), nil)
			tx, changes := thousand(rel)
			var sink discard
			b.ReportAllocs()
			for b.Loop() {
				transact(b, m, tx, changes, &sink)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(changes)), "ns/change")
			if sink.events != b.N*len(changes) {
				b.Fatalf("%d events of %d transactions", sink.events, b.N)
			}
		})
	}
}

func thousand(rel *cdc.Relation) (*cdc.Transaction, []*cdc.Change) {
	tx := &cdc.Transaction{Commit: 0x16B3748}
	changes := make([]*cdc.Change, 1000)
	for i := range changes {
		after := with(client(), values{"id": strconv.Itoa(i), "nome": "João Gilberto do Prado Pereira de Oliveira", "email": "joao@example.com"})
		changes[i] = change(rel, cdc.Update, with(after, values{"situacao": "VI"}), after)
		changes[i].Ordinal, changes[i].Tx = uint64(i), tx
	}
	return tx, changes
}

func transact(t testing.TB, m *mapping.Mapper, tx *cdc.Transaction, changes []*cdc.Change, sink mapping.Sink) {
	m.Begin(tx)
	for _, c := range changes {
		if err := m.Map(c, sink); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Commit(context.Background(), tx, sink); err != nil {
		t.Fatal(err)
	}
}

// In a steady state what waits for the commit costs no allocation either.
func TestTransactionAllocatesNothing(t *testing.T) {
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{Location: saoPaulo(t)}, benchRules+perTransaction), nil)
	tx, changes := thousand(rel)
	var sink discard
	if n := testing.AllocsPerRun(20, func() { transact(t, m, tx, changes, &sink) }); n > 10 {
		t.Errorf("%v allocations per transaction of %d changes", n, len(changes))
	}
	if sink.events != 21*len(changes) {
		t.Errorf("%d events", sink.events)
	}
}
