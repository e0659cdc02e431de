package testservers_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestTemplate: copies have what was prepared once, and nothing of each other.
func TestTemplate(t *testing.T) {
	t.Parallel()
	pg, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Close)
	prepared := 0
	for range 2 {
		dsn := pg.Database(t, pg.Template(t, "ready", func(ctx context.Context, _ string) ([]string, error) {
			prepared++
			return nil, pg.Exec(ctx, "ready", "create table t (id int); insert into t values (1)")
		}))
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := conn.QueryRow(t.Context(), "with more as (insert into t values (2)) select count(*) from t").Scan(&n); err != nil || n != 1 || prepared != 1 {
			t.Errorf("%d rows, %v, prepared %d times; want 1 row, prepared once", n, err, prepared)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
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

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	c, err := testservers.StartCluster(testservers.ClusterOptions{Masters: 3, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addresses()})
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before := owner(t, c, "k")
	// Only what the replica has can survive.
	if n, err := redisClient(t, before).Wait(t.Context(), 1, 0).Result(); n != 1 || err != nil {
		t.Fatalf("%d replicas have it, %v", n, err)
	}
	before.Kill()
	eventually(t, "another master", func() bool { return owner(t, c, "k") != before })
	if err := before.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the value", func() bool { v, _ := client.Get(t.Context(), "k").Result(); return v == "v" })
	to := owner(t, c, "other")
	if to == owner(t, c, "k") {
		to = owner(t, c, "a")
	}
	if err := c.MoveSlot(t.Context(), "k", to); err != nil {
		t.Fatal(err)
	}
	if got := owner(t, c, "k"); got != to {
		t.Error("the slot was not moved")
	}
	if v, err := redisClient(t, to).Get(t.Context(), "k").Result(); v != "v" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
}

func owner(t *testing.T, c *testservers.Cluster, key string) *testservers.Redis {
	t.Helper()
	r, err := c.Owner(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func redisClient(t *testing.T, r *testservers.Redis) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for %s", what)
		}
	}
}

func TestSentinelFailsOver(t *testing.T) {
	t.Parallel()
	s, err := testservers.StartSentinel(testservers.SentinelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	master := func() *testservers.Redis {
		r, err := s.Master(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := master()
	before.Kill()
	eventually(t, "another master", func() bool { return master() != before })
	if err := before.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old master to be a replica", func() bool {
		v, err := redisClient(t, before).Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(v, "role:slave")
	})
}

// TestSweep: what a process left that was killed goes with the next server's start.
func TestSweep(t *testing.T) {
	t.Parallel()
	killed := exec.Command("true")
	if err := killed.Run(); err != nil {
		t.Fatal(err)
	}
	first, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	left := filepath.Join(filepath.Dir(first.Dir()), fmt.Sprintf("gancho-redis-%d-1", killed.Process.Pid))
	if filepath.Dir(left) == filepath.Clean(os.TempDir()) {
		t.Skip("no room in memory: nothing is kept there")
	}
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	second, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
	if _, err := os.Stat(first.Dir()); err != nil {
		t.Errorf("a running server's directory: %v", err)
	}
}
