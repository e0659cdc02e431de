package mapping_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
	"gancho/mapping"
)

// What random transactions make is what a comparison of the tables before and
// after them shows, in memory and through the temporary file.
func TestNetEffectOfRandomTransactions(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for name, options := range map[string][]mapping.MapperOption{"memory": nil, "file": {mapping.WithTransactionMemory(400)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTransactions(t, `
rules:
  - {event: criada, table: cobrancas, on: insert, collapse: id, columns: [id, status, valor]}
  - {event: mudada, table: cobrancas, on: update, collapse: id, columns: [id, status, valor]}
  - {event: removida, table: cobrancas, on: delete, collapse: id, columns: [id, status, valor]}
  - {event: familia, table: cobrancas, on: [insert, update, delete], columns: [id], children: {table: cobrancas_itens, parent: cobranca_id}}
  - {event: raiz, table: categorias, on: delete, root_only: pai_id, columns: [id]}
  - {event: grupo, table: cobrancas, on: [insert, update, delete], collapse: valor, key: valor, data: {fixo: 1}}
`)
			run, stop := s.live(t, options...)
			defer stop()
			random := rand.New(rand.NewPCG(seed(t), 2))
			before := s.state(t)
			for range 150 {
				sql := randomTransaction(random)
				lines := run(sql)
				after := s.state(t)
				slices.Sort(lines)
				if want := netEffect(before, after); !slices.Equal(lines, want) {
					diff(t, sql, lines, want)
					return
				}
				before = after
			}
		})
	}
}

func randomTransaction(r *rand.Rand) string {
	id := func() int { return 1 + r.IntN(5) }
	valor := func() int { return r.IntN(3) }
	status := func() string { return string("PLI"[r.IntN(3)]) }
	ops := []func() string{
		func() string {
			return fmt.Sprintf("insert into cobrancas values (%d, 1, '%s', %d) on conflict do nothing", id(), status(), valor())
		},
		func() string {
			return fmt.Sprintf("update cobrancas set status = '%s', valor = %d where id = %d", status(), valor(), id())
		},
		func() string { return fmt.Sprintf("update cobrancas set valor = valor where id = %d", id()) },
		func() string { return fmt.Sprintf("delete from cobrancas where id = %d", id()) },
		func() string {
			return fmt.Sprintf("insert into cobrancas_itens select id, %d, 'x', %d from cobrancas where id = %d on conflict do nothing", r.IntN(2), valor(), id())
		},
		func() string { return fmt.Sprintf("delete from cobrancas_itens where cobranca_id = %d", id()) },
		func() string {
			return fmt.Sprintf("update cobrancas_itens set valor = %d where cobranca_id = %d", valor(), id())
		},
		func() string {
			a, b := id(), id()
			return fmt.Sprintf(`update cobrancas_itens i set cobranca_id = c.id from cobrancas c where i.cobranca_id = %d and c.id = %d
				and not exists (select from cobrancas_itens o where o.cobranca_id = %[2]d and o.seq = i.seq)`, a, b)
		},
		func() string {
			return fmt.Sprintf("insert into categorias select %d, 1, (select min(id) from categorias where id <> %[1]d and id %% 2 = %d), 'c' on conflict do nothing", id(), r.IntN(2))
		},
		func() string { return fmt.Sprintf("delete from categorias where id = %d", id()) },
	}
	// The transaction always has a change, or the stream would not show it.
	parts := []string{"begin; delete from fim; insert into contas select count(*) from contas; insert into categorias values (100 + (select count(*) from categorias), 1, null, 'z') on conflict do nothing; delete from categorias where id >= 100"}
	for i := range 1 + r.IntN(9) {
		op := ops[r.IntN(len(ops))]()
		if r.IntN(6) == 0 {
			op = fmt.Sprintf("savepoint s%d; %s; rollback to s%[1]d", i, op)
		}
		parts = append(parts, op)
	}
	return strings.Join(parts, "; ") + "; commit"
}

// state is the content of the tables: by table and key.
func (s *source) state(t *testing.T) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for table, sql := range map[string]string{
		"cobrancas":  "select id::text, format('{\"id\":%s,\"status\":\"%s\",\"valor\":%s}', id, status, valor) from cobrancas",
		"itens":      "select cobranca_id::text, string_agg(seq || ' ' || valor, ',' order by seq) from cobrancas_itens group by 1",
		"categorias": "select id::text, coalesce(pai_id::text, '') from categorias",
		"valores":    "select id::text, valor::text from cobrancas",
	} {
		rows, err := s.conn.Query(context.Background(), sql)
		if err != nil {
			t.Fatal(err)
		}
		out[table] = map[string]string{}
		var key, value string
		if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error { out[table][key] = value; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// netEffect is what must come of the difference, sorted.
func netEffect(before, after map[string]map[string]string) []string {
	var want []string
	groups := map[string]string{}
	for i := 1; i <= 5; i++ {
		id := fmt.Sprint(i)
		was, is := before["cobrancas"][id], after["cobrancas"][id]
		event, row := "mudada", is
		switch {
		case was == "" && is != "":
			event = "criada"
		case was != "" && is == "":
			event, row = "removida", was
		}
		if was != is {
			want = append(want, event+" "+id+" "+row)
			groups[cmp.Or(after["valores"][id], before["valores"][id])] = id
		}
		if was != is || is != "" && before["itens"][id] != after["itens"][id] {
			want = append(want, fmt.Sprintf(`familia %s {"id":%[1]s}`, id))
		}
		parent, existed := before["categorias"][id]
		_, exists := after["categorias"][id]
		_, had := before["categorias"][parent]
		_, has := after["categorias"][parent]
		if existed && !exists && !(had && !has) {
			want = append(want, fmt.Sprintf(`raiz %s {"id":%[1]s}`, id))
		}
	}
	for valor := range groups {
		want = append(want, "grupo "+valor+` {"fixo":1}`)
	}
	slices.Sort(want)
	return want
}
