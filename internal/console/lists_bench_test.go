package console_test

import (
	"cmp"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/internal/console"
	"gancho/internal/state"
)

// BenchmarkLists measures what each page of the console takes with 10,000 endpoints and ten million attempts, of an operator and of a tenant: time, and
// processor time of the console and PostgreSQL. It fails when one in twenty costs more than a tenth of a second of processor time, which says the same on a
// machine that does other things as well. What is no list may cost two: the dashboard, which is of all endpoints, and counting what would be sent again. `make bench-console` runs it;
// GANCHO_BENCH_ATTEMPTS changes how many attempts there are.
func BenchmarkLists(b *testing.B) {
	const (
		endpoints = 10_000
		most      = 100 * time.Millisecond
		overview  = 2 * time.Second
		times     = 40
	)
	attempts := 10_000_000
	if text := os.Getenv("GANCHO_BENCH_ATTEMPTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		attempts = n
	}
	w := newBusiness(b)
	w.multiply(endpoints, attempts)
	for _, visitor := range []struct{ name, tenant string }{{"operator", ""}, {"tenant", centro.id}} {
		admin := w.as(state.Admin, visitor.tenant)
		site := admin.crawl()
		for _, r := range console.Routes() {
			pages := site.pages["GET "+r.Path]
			if r.Method != http.MethodGet || len(pages) == 0 {
				continue
			}
			addresses := slices.Sorted(maps.Keys(pages))
			name := cmp.Or(strings.TrimSuffix(strings.TrimPrefix(r.Path, "/console/"), "{$}"), "dashboard")
			b.Run(visitor.name+"/"+name, func(b *testing.B) {
				var took, cost []time.Duration
				slowest, at := time.Duration(0), ""
				for i := range times {
					address := addresses[i%len(addresses)]
					begun, used := time.Now(), servedTime(b)
					admin.open(address)
					took, cost = append(took, time.Since(begun)), append(cost, servedTime(b)-used)
					if last := cost[i]; last > slowest {
						slowest, at = last, address
					}
				}
				ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
				b.ReportMetric(ms(percentile(took, 50)), "p50-ms")
				b.ReportMetric(ms(percentile(took, 95)), "p95-ms")
				b.ReportMetric(ms(percentile(cost, 50)), "p50-cpu-ms")
				b.ReportMetric(ms(percentile(cost, 95)), "p95-cpu-ms")
				b.ReportMetric(0, "ns/op")
				limit := most
				if r.Screen == "dashboard" || name == "deliveries/resend" {
					limit = overview
				}
				if p95 := percentile(cost, 95); p95 > limit {
					b.Errorf("%s: p95 %s of processor time, more than %s; %s is the dearest: %s", name, p95, limit, at, slowest)
				}
			})
		}
	}
}
