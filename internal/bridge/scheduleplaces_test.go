package bridge_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

const namedRows = `
    schedule: daily 08:00
    query: select id, empresa, nome from nomes order by id
    once: [id]
    tenant: empresa
    columns: [id, nome]
`

// Schedules run on a source of another encoding, with a Redis Cluster.
func TestScheduleLatinCluster(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, everyDay)
	cluster, err := testservers.StartCluster(testservers.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w.Queue, err = queue.Open(t.Context(), queue.Options{Cluster: &queue.ClusterOptions{Addresses: cluster.Addresses()}, Endpoints: queuetest.Endpoints(w.Endpoints...), Logger: queuetest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Queue.Close() })
	if _, err := w.Queue.Claim(t.Context(), queuetest.Source(), false); err != nil {
		t.Fatal(err)
	}
	w.use(pg.Database(t, "template template0 encoding 'LATIN1' locale 'C'", "create table nomes (id int primary key, empresa int, nome text)"), namedRows)
	w.exec("insert into nomes select i, i % 2, 'João ' || i from generate_series(1, 2000) i")
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.at(eight, eight)
	one, err := w.Queue.ReplayBacklog(t.Context(), "um")
	if all := w.queued(); err != nil || all != 2000 || one != 1000 {
		t.Errorf("%d and %d events are queued, %v", all, one, err)
	}
}

// use has the rule be of another source.
func (w *scheduleWorld) use(dsn, rule string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	w.Source, w.conn = dsn, conn
	w.bind(rule)
}

// A standby serves the queries of schedules.
func TestScheduleStandby(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, everyDay)
	primary, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(primary.Close)
	standby, err := primary.StartStandby(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Close)
	single := primary.Database(t, "", "create table nomes (id int primary key, empresa int, nome text)", "insert into nomes values (1, 1, 'Ana'), (2, 2, 'Bia')")
	database := single[strings.LastIndex(single, "/")+1 : strings.LastIndex(single, "?")]
	queuetest.Eventually(t, "the standby to have the rows", func() bool {
		return standby.Exec(t.Context(), database, "select 1 / (select count(*) from nomes)") == nil
	})
	w.use(strings.Replace(testservers.HostsDSN(database, standby), "read-write", "any", 1), namedRows)
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.at(eight, eight)
	if _, data := w.sent("todos"); len(data) != 2 || data[1] != `{"id":2,"nome":"Bia"}` {
		t.Errorf("sent %q", data)
	}
}
