package bridge_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// BenchmarkFleet reports what 300 databases of one cluster cost, with 200 commits a second in 5 of them: the CPU of the
// cluster with the bridge and without, that of the bridge and of Redis, all in percent of a core, how long it takes until all
// databases are taken up, the bridge's memory until then and later, the most connections that it has, the WAL that is held, and
// how long events take of a database that is read and of one that is not. GANCHO_BENCH_FLEET is how many databases, and for how many seconds.
func BenchmarkFleet(b *testing.B) {
	databases, seconds := 300, 60
	if text := os.Getenv("GANCHO_BENCH_FLEET"); text != "" {
		if _, err := fmt.Sscan(text, &databases, &seconds); err != nil {
			b.Fatal(err)
		}
	}
	const hot, rate = 5, 200
	s := newShops(b, databases)
	s.where.Streams, s.where.VisitEvery = 0, 0 // as they are by default
	span := time.Duration(seconds) * time.Second
	conns := s.dial(hot)
	load := func() float64 {
		before := treeCPU(b, s.pg.PID())
		s.commit(conns, rate, span)
		return (treeCPU(b, s.pg.PID()) - before).Seconds() / span.Seconds() * 100
	}
	without := load()
	cmd := s.fleetProcess(os.Stderr)
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	began := time.Now()
	most := s.watchConnections()
	s.awaitSlots(databases)
	b.ReportMetric(time.Since(began).Seconds(), "s/taken-up")
	b.ReportMetric(peak(b, cmd.Process.Pid), "MB/taken-up")
	b.ReportMetric(float64(most()), "connections/taken-up")
	s.commit(conns, rate, 70*time.Second) // every source has been visited since
	bridge, redis := treeCPU(b, cmd.Process.Pid), treeCPU(b, s.redis.PID())
	var cold sync.WaitGroup
	cold.Go(func() {
		for i := range max(1, seconds/3) {
			<-time.After(3 * time.Second)
			name := shop(hot + 1 + (i*17)%(databases-hot-1))
			s.exec(name, "insert into pedidos (empresa, cliente, n) values (1, -1, (extract(epoch from clock_timestamp()) * 1000)::bigint % 2000000000)")
		}
	})
	most = s.watchConnections()
	sessions := s.value("select sum(sessions)::bigint from pg_stat_database")
	with := load()
	cold.Wait()
	b.ReportMetric(float64(s.value("select sum(sessions)::bigint from pg_stat_database")-sessions)/span.Seconds(), "sessions/s")
	b.ReportMetric(float64(most()), "connections")
	b.ReportMetric(without, "%cluster-alone")
	b.ReportMetric(with-without, "%cluster-more")
	b.ReportMetric((treeCPU(b, cmd.Process.Pid)-bridge).Seconds()/span.Seconds()*100, "%bridge")
	b.ReportMetric((treeCPU(b, s.redis.PID())-redis).Seconds()/span.Seconds()*100, "%redis")
	b.ReportMetric(peak(b, cmd.Process.Pid), "MB/bridge")
	b.ReportMetric(float64(s.value("select max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))::bigint >> 20 from pg_replication_slots")), "MB/held")
	<-time.After(15 * time.Second) // the last cold ones arrive
	s.mu.Lock()
	defer s.mu.Unlock()
	var hots, colds []float64
	for _, e := range s.received {
		if e.at.Before(began.Add(75 * time.Second)) {
			continue
		}
		took := e.at.Sub(e.Timestamp).Seconds()
		if source, _, _ := strings.Cut(e.Tenant, "/"); source < shop(hot) {
			hots = append(hots, took)
		} else {
			colds = append(colds, took)
		}
	}
	slices.Sort(hots)
	slices.Sort(colds)
	if len(hots) == 0 || len(colds) == 0 {
		b.Fatalf("%d hot events and %d cold ones", len(hots), len(colds))
	}
	b.ReportMetric(hots[len(hots)/2]*1000, "ms/hot-p50")
	b.ReportMetric(hots[len(hots)*99/100]*1000, "ms/hot-p99")
	b.ReportMetric(colds[len(colds)/2], "s/cold-p50")
	b.ReportMetric(colds[len(colds)-1], "s/cold-longest")
	b.ReportMetric(float64(len(colds)), "cold-events")
}

// watchConnections looks all the time how many connections the bridge has to the cluster; most ends that, and returns the most there were.
func (s *shops) watchConnections() (most func() int) {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.pg.DSN("postgres"))
	if err != nil {
		s.t.Fatal(err)
	}
	n, stop, ended := 0, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { _ = conn.Close(context.Background()) }()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			var now int
			if err := conn.QueryRow(context.Background(), `select count(*) from pg_stat_activity where application_name = 'gancho'`).Scan(&now); err == nil {
				n = max(n, now)
			}
		}
	}()
	return func() int {
		close(stop)
		<-ended
		return n
	}
}

// dial connects to the first databases.
func (s *shops) dial(databases int) []*pgx.Conn {
	s.t.Helper()
	conns := make([]*pgx.Conn, databases)
	for i := range conns {
		var err error
		if conns[i], err = pgx.Connect(context.Background(), s.pg.DSN(shop(i))); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = conns[i].Close(context.Background()) })
	}
	return conns
}

// commit commits so many rows a second, over each connection in turn.
func (s *shops) commit(conns []*pgx.Conn, rate int, span time.Duration) {
	s.t.Helper()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for began, n := time.Now(), 0; time.Since(began) < span; n++ {
		<-tick.C
		if _, err := conns[n%len(conns)].Exec(context.Background(), "insert into pedidos (empresa, cliente, n) values (1, $1, $2)", n%50, n); err != nil {
			s.t.Fatal(err)
		}
	}
}

// treeCPU is the processor time of a process, and of its children, those that have ended included.
func treeCPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	const perSecond = 100 // USER_HZ
	read := func(path string) (parent int, own, ended int64) {
		text, err := os.ReadFile(path)
		if err != nil {
			return 0, 0, 0 // it has just ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
		number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
		return int(number(1)), number(11) + number(12), number(13) + number(14)
	}
	_, own, ended := read(fmt.Sprintf("/proc/%d/stat", pid))
	total := own + ended
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		if parent, own, ended := read(path); parent == pid {
			total += own + ended
		}
	}
	return time.Duration(total) * time.Second / perSecond
}

// peak is the most memory that a process had, in MB.
func peak(t testing.TB, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if after, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
			return kb / 1024
		}
	}
	return 0
}
