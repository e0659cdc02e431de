package api_test

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// snapshot is all that is stored, in PostgreSQL and in Redis, except when
// tokens were used last.
func (w *world) snapshot() map[string][]string {
	w.t.Helper()
	ctx := w.t.Context()
	out := map[string][]string{}
	conn, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `select relname from pg_class where relnamespace = 'gancho'::regnamespace and relkind in ('r', 'p') and not relispartition order by 1`)
	if err != nil {
		w.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, table := range tables {
		rows, err := conn.Query(ctx, fmt.Sprintf(`select (to_jsonb(t) - 'last_used')::text from gancho.%s t order by 1`, pgx.Identifier{table}.Sanitize()))
		if err != nil {
			w.t.Fatal(err)
		}
		if out[table], err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			w.t.Fatal(err)
		}
	}
	out["redis"] = w.dumps()
	return out
}

// dumps are the keys of Redis with their values.
func (w *world) dumps() []string {
	w.t.Helper()
	ctx := w.t.Context()
	client := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	defer func() { _ = client.Close() }()
	keys, err := client.Keys(ctx, "*").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(keys)
	values, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, key := range keys {
			pipe.Dump(ctx, key)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = fmt.Sprintf("%s %x", key, values[i].(*redis.StringCmd).Val())
	}
	return out
}

// unchanged fails the test when anything stored is not as it was.
func (w *world) unchanged(before map[string][]string, after string) {
	w.t.Helper()
	if diff := cmp.Diff(before, w.snapshot()); diff != "" {
		w.t.Errorf("%s has changed what is stored (-before +after):\n%s", after, diff)
	}
}
