package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// messages is a recorder that takes messages, too.
type messages struct {
	*recorder
	rows chan []string
}

func (m *messages) Message(tx *cdc.Transaction, message cdc.Message) error {
	if message.Prefix != "linhas" {
		return nil
	}
	out := []string{}
	err := m.reader.DecodeRows(context.Background(), tx, message.Content, func(c *cdc.Change) error {
		if int(c.Ordinal) != len(out) || c.Commit != tx.Commit {
			return fmt.Errorf("row %d has the position %v", len(out), c.Position)
		}
		out = append(out, render(c))
		return nil
	})
	m.rows <- out
	return err
}

// TestRowsThroughStream: rows that are read and written into the WAL look as they did when
// they were inserted, whatever their key, its collation and their types.
func TestRowsThroughStream(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", `create type cor as enum ('azul', 'verde')`,
		`create table simples (id int primary key, c char(5), f float8, n numeric, z timestamptz, b bytea, i interval, cor cor, a text[], j jsonb, ok bool)`,
		`create table composta (nome text collate "C", sub text, n bigint, v text, primary key (nome, sub, n))`,
		`create table partida (id int, mes int, v text, primary key (mes, id)) partition by list (mes)`,
		`create table p1 partition of partida for values in (1)`, `create table p2 partition of partida for values in (2)`,
		`create table "Mãe" (id int primary key, v text)`, `create table filha (primary key (id)) inherits ("Mãe")`)
	tables := []string{"simples", "composta", "partida", `"Mãe"`}
	needs := append(allOps("simples", "composta", "partida"), cdc.TableNeed{Schema: "public", Name: "Mãe", Insert: true})
	o := optionsFor(dsn)
	source := prepare(t, o, needs)
	rec := &messages{newRecorder(), make(chan []string, 100)}
	reader := cdc.NewReader(o, source)
	rec.reader = reader
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, rec) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn := dial(t, dsn)
	do(t, conn, `insert into simples select n, case when n % 4 > 0 then 'ab' end, 1e23 / n, n / 3.0, '2026-01-02 03:04:05.678901+03'::timestamptz + n * interval '1 day', decode(to_hex(n + 16), 'hex'),
			n * interval '1 day 2 hours', case n % 2 when 0 then 'azul'::cor else 'verde' end, array['x', null, 'a,"b' || n], jsonb_build_object('k', n), n % 2 = 0 from generate_series(1, 30) n`,
		`insert into composta select x || y, y || x, n, 'v' from unnest(array['a', 'B', 'é', 'É', '', '"']) x, unnest(array['b', 'Z', 'ç']) y, generate_series(-1, 1) n`,
		`insert into partida select n / 2, 1 + n % 2, 'v' || n from generate_series(1, 20) n`,
		`insert into "Mãe" select n, 'm' from generate_series(1, 5) n`, `insert into filha select n, 'f' from generate_series(6, 9) n`)
	var inserted []string
	for range tables {
		tx := rec.wait(t)
		inserted = append(inserted, tx.Changes...)
	}
	rows, err := cdc.OpenRows(t.Context(), o, "public")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close(t.Context())
	for _, name := range tables {
		q := &cdc.RowQuery{}
		parsed, err := cdc.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		if q.Table, err = cdc.LoadTable(t.Context(), conn, "", "public", parsed.Name); err != nil {
			t.Fatal(err)
		}
		for _, c := range q.Table.Relation.Columns {
			q.Columns = append(q.Columns, c.Name)
		}
		var got []string
		var after [][]byte
		for {
			chunk, text, err := rows.Read(t.Context(), q, after, 7, nil)
			if err != nil {
				t.Fatal(err)
			}
			if chunk.Read == 0 {
				rows.Discard(t.Context())
				break
			}
			if err := rows.Emit(t.Context(), cdc.Message{Prefix: "linhas", Content: text}); err != nil {
				t.Fatal(err)
			}
			if committed, err := rows.Committed(t.Context(), chunk.XID); !committed || err != nil {
				t.Errorf("the transaction of a chunk: %v, %v", committed, err)
			}
			got = append(got, await(t, rec.rows, "the rows of a chunk")...)
			after = chunk.Last
		}
		var want []string
		for _, line := range inserted {
			if strings.HasPrefix(line, "insert public."+name+" ") {
				want = append(want, "read"+strings.TrimPrefix(line, "insert"))
			}
		}
		slices.Sort(want)
		slices.Sort(got) // their order is the server's business
		if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
			t.Errorf("rows of %s (-inserted +read):\n%s", name, diff)
		}
	}
}

// wait returns the next transaction.
func (r *recorder) wait(t *testing.T) committed {
	t.Helper()
	return await(t, r.transactions, "a transaction")
}

// TestRowReader: what a filter leaves out, what is not read, and what cannot be.
func TestRowReader(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table contas (id int primary key, nome text, foto bytea)", "insert into contas select n, 'n' || n, 'x' from generate_series(1, 10) n",
		"create table sem_chave (n int)")
	o, ctx := optionsFor(dsn), t.Context()
	conn := dial(t, dsn)
	table := func(name string) *cdc.Table {
		t.Helper()
		loaded, err := cdc.LoadTable(ctx, conn, "", "public", name)
		if err != nil {
			t.Fatal(err)
		}
		return loaded
	}
	rows, err := cdc.OpenRows(ctx, o, "public")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close(ctx)
	if _, _, err := rows.Read(ctx, &cdc.RowQuery{Table: table("sem_chave")}, nil, 1, nil); !errors.Is(err, cdc.ErrNoKey) {
		t.Errorf("a table without a key: %v", err)
	}
	q := &cdc.RowQuery{Table: table("contas"), Columns: []string{"nome"}, Where: "new.id % 2 = 0 or nome = 'n3'"}
	chunk, text, err := rows.Read(ctx, q, [][]byte{[]byte("1")}, 4, nil)
	if err != nil || chunk.Read != 4 || chunk.Rows != 3 || string(chunk.Last[0]) != "5" {
		t.Fatalf("read %+v, %v", chunk, err)
	}
	rows.Discard(ctx)
	if committed, err := rows.Committed(ctx, chunk.XID); committed || err != nil {
		t.Errorf("a discarded chunk was committed: %v, %v", committed, err)
	}
	var running string // one that hangs
	do(t, conn, "begin")
	if err := conn.QueryRow(ctx, "select pg_current_xact_id()::text").Scan(&running); err != nil {
		t.Fatal(err)
	}
	_, err = rows.Committed(ctx, running)
	do(t, conn, "rollback")
	fault := new(cdc.RunningError)
	if err != nil && (!errors.As(err, &fault) || fault.PID == "unknown" || !strings.Contains(err.Error(), "pg_terminate_backend("+fault.PID+")") || cdc.FaultOf(err) != cdc.FaultTransient) || err == nil {
		t.Errorf("a transaction that runs: %v", err)
	}
	if committed, err := rows.Committed(ctx, "4000000000"); committed || err != nil {
		t.Errorf("a transaction that the server has lost was committed: %v, %v", committed, err)
	}
	var got []string
	err = cdc.NewReader(o, &cdc.Source{}).DecodeRows(ctx, &cdc.Transaction{}, text, func(c *cdc.Change) error {
		got = append(got, render(c))
		return nil
	})
	want := []string{"read public.contas new(id=2 nome=n2 foto=<missing>)", "read public.contas new(id=3 nome=n3 foto=<missing>)", "read public.contas new(id=4 nome=n4 foto=<missing>)"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("rows (-want +got): %v\n%s", err, diff)
	}
	for i := range text {
		_ = cdc.NewReader(o, &cdc.Source{}).DecodeRows(ctx, &cdc.Transaction{}, text[:i], func(*cdc.Change) error { return nil }) // it does not panic
	}
	if _, _, err := rows.Read(ctx, &cdc.RowQuery{Table: q.Table, Where: "nome::int = 1"}, nil, 4, nil); err == nil || strings.Contains(err.Error(), "n1") {
		t.Errorf("an expression that fails: %v, want an error without the value", err)
	}
	do(t, conn, "alter table contas alter nome type varchar(9)")
	if _, _, err := rows.Read(ctx, q, nil, 4, nil); !errors.Is(err, cdc.ErrAltered) {
		t.Errorf("an altered table: %v", err)
	}
	if n, err := cdc.Count(ctx, conn, q.Table, "5s"); n != 10 || err != nil {
		t.Errorf("counted %d, %v", n, err)
	}
	do(t, conn, "vacuum analyze contas")
	if n, err := cdc.Estimate(ctx, conn, q.Table); n != 10 || err != nil {
		t.Errorf("estimated %d, %v", n, err)
	}
}
