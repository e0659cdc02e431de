package testservers_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"gancho/internal/testservers"
)

func TestPostgresSurvivesStopAndKill(t *testing.T) {
	t.Parallel()
	pg, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Close)
	dsn := pg.Database(t, "", "create table t (id int)", "insert into t values (1)")
	for _, end := range []func(){pg.Kill, func() { pg.Stop("fast") }, func() { pg.Stop("immediate") }} {
		end()
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		var level string
		var n int
		if err := conn.QueryRow(context.Background(), "select current_setting('wal_level'), count(*) from t").Scan(&level, &n); err != nil {
			t.Fatal(err)
		}
		if level != "logical" || n != 1 {
			t.Fatalf("wal_level %s, %d rows; want logical, 1", level, n)
		}
		if err := conn.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRedisSurvivesStop(t *testing.T) {
	t.Parallel()
	r, err := testservers.StartRedis(testservers.RedisOptions{Settings: map[string]string{"appendfsync": "always"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	client := redis.NewClient(&redis.Options{Addr: r.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Set(context.Background(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){r.Kill, r.Stop} {
		end()
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		if got, err := client.Get(context.Background(), "k").Result(); err != nil || got != "v" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}
