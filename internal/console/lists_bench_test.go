package console_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/endpoint"
	"gancho/internal/console"
	"gancho/internal/state"
)

// BenchmarkLists measures how long each page of the console takes with 10,000 endpoints and two million attempts. It fails when one in twenty takes
// longer than a tenth of a second; the dashboard, which is of all endpoints and no list, may take two. `make bench-console` runs it;
// GANCHO_BENCH_ATTEMPTS changes how many attempts there are.
func BenchmarkLists(b *testing.B) {
	const (
		endpoints = 10_000
		most      = 100 * time.Millisecond
		overview  = 2 * time.Second
		times     = 40
	)
	attempts := 2_000_000
	if text := os.Getenv("GANCHO_BENCH_ATTEMPTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		attempts = n
	}
	w := newBusiness(b)
	w.multiply(endpoints, attempts)
	admin := w.as(state.Admin, "")
	site := admin.crawl()
	for _, r := range console.Routes() {
		pages := site.pages["GET "+r.Path]
		if r.Method != http.MethodGet || len(pages) == 0 {
			continue
		}
		addresses := slices.Sorted(maps.Keys(pages))
		name := strings.TrimSuffix(strings.TrimPrefix(r.Path, "/console/"), "{$}")
		b.Run(cmp.Or(name, "dashboard"), func(b *testing.B) {
			var took []time.Duration
			for i := range times {
				begun := time.Now()
				admin.open(addresses[i%len(addresses)])
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			p95 := took[times*95/100]
			b.ReportMetric(float64(took[times/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(p95.Microseconds())/1000, "p95-ms")
			b.ReportMetric(0, "ns/op")
			limit := most
			if r.Screen == "dashboard" {
				limit = overview
			}
			if p95 > limit {
				b.Errorf("/%s: p95 %s, more than %s; the slowest: %v", name, p95, limit, took[times*9/10:])
			}
		})
	}
}

// multiply adds endpoints of as many units, and copies the attempts that there are, in the database.
func (w *world) multiply(endpoints, attempts int) {
	w.t.Helper()
	ctx := context.Background()
	of, err := w.store.Endpoint(ctx, "erp-fiscal")
	if err != nil {
		w.t.Fatal(err)
	}
	var adding errgroup.Group
	adding.SetLimit(8)
	for i := range endpoints {
		adding.Go(func() error {
			e := state.Endpoint{Name: fmt.Sprintf("unidade-%06d", i), Tenants: []string{strconv.Itoa(i)}, State: of.State, Document: of.Document, Public: of.Public}
			_, err := w.store.AddEndpoint(ctx, "cli:teste", e, []endpoint.Secret{of.Secrets[0].Secret})
			return err
		})
	}
	if err := adding.Wait(); err != nil {
		w.t.Fatal(err)
	}
	db, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close(ctx) }()
	tag, err := db.Exec(ctx, `
		INSERT INTO gancho.attempts
		SELECT (a.t).time - n * interval '7 milliseconds', 'unidade-' || lpad((n % 10000)::text, 6, '0'), (a.t).entry || '-' || n, (a.t).number, (a.t).webhook_id || '-' || n,
			(a.t).event, (n % 10000)::text, (a.t).key, (a.t).committed, (a.t).outcome, (a.t).class, (a.t).status, (a.t).error, (a.t).micros, (a.t).replay, (a.t).detail, (a.t).tags
		FROM (SELECT t FROM gancho.attempts t ORDER BY time DESC LIMIT 100) a, generate_series(1, $1 / 100) n
		WHERE (a.t).time - n * interval '7 milliseconds' >= date_trunc('day', (a.t).time AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'`, attempts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%d attempts", tag.RowsAffected())
	if _, err := db.Exec(ctx, `ANALYZE`); err != nil {
		w.t.Fatal(err)
	}
}
