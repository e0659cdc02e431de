package bridge_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/mapping"
)

const verdictRules = `
rules:
  - {event: cobranca.paga, table: cobrancas, on: update, when: "old.status <> 'L' and new.status = 'L'", tenant: empresa_id, columns: [id]}
  - {event: cobranca.nova, table: cobrancas, on: insert, tenant: empresa_id, columns: [id]}
`

// verdictLab is a table with rules.
func verdictLab(t testing.TB) (*mapping.Ruleset, *cdc.Relation) {
	t.Helper()
	bind, rel := verdictBinder(t)
	return bind(7, 9), rel
}

// verdictBinder is a table, and what binds the rules to it, with numbers.
func verdictBinder(t testing.TB) (bind func(numbers ...int) *mapping.Ruleset, rel *cdc.Relation) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.Database(t, "", "create table cobrancas (id int primary key, empresa_id int, status text, valor int, obs text); alter table cobrancas replica identity full"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(verdictRules), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	bind = func(numbers ...int) *mapping.Ruleset {
		bound, err := rules.Bind(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		bound.Number(numbers)
		return bound
	}
	table, err := cdc.LoadTable(t.Context(), conn, "", "", "cobrancas")
	if err != nil {
		t.Fatal(err)
	}
	return bind, table.Relation
}

var verdictStart = time.Date(2026, 11, 28, 14, 0, 0, 0, time.UTC)

// charge is a row of cobrancas.
func charge(id, tenant, status string) []cdc.Datum {
	var out []cdc.Datum
	for _, v := range []string{id, tenant, status, "10", strings.Repeat("observação ", 10)} {
		out = append(out, cdc.Datum{State: cdc.Present, Text: []byte(v)})
	}
	return out
}

// update is a change of a row; n is its commit, in seconds after verdictStart.
func update(rel *cdc.Relation, n int, id, tenant, before, after string) *cdc.Change {
	tx := &cdc.Transaction{Commit: 1<<51 + cdc.LSN(n), Time: verdictStart.Add(time.Duration(n) * time.Second)}
	return &cdc.Change{Position: cdc.Position{Commit: tx.Commit}, Tx: tx, Op: cdc.Update, Relation: rel, Old: charge(id, tenant, before), New: charge(id, tenant, after)}
}

type nowhere struct{}

func (nowhere) Event(*mapping.Event) error { return nil }
func (nowhere) Park(*mapping.Parked) error { return nil }

// TestVerdicts: of the newest changes it is known what became of them, and from when on; a
// tenant sees its own rows; a change that is read again is told once; what was decided and
// offered by rules and endpoints of then stays so.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	if bridge.RecordSize != 64 || bridge.RecordSize*(bridge.VerdictsKept+bridge.ReadsKept) > 16<<20 {
		t.Errorf("a record has %d bytes, all have %d", bridge.RecordSize, bridge.RecordSize*(bridge.VerdictsKept+bridge.ReadsKept))
	}
	bind, rel := verdictBinder(t)
	rules := bind(7, 9)
	const kept = 2048
	v := bridge.NewVerdicts(kept)
	v.Use(rules, endpoint.Endpoint{Name: "crm", Tenants: []string{"1"}}, endpoint.Endpoint{Name: "bi", Events: []string{"cliente.*"}}, endpoint.Endpoint{Name: "velho", State: endpoint.Inactive})
	v.Began(verdictStart)
	m := mapping.NewMapper(rules, nil, mapping.WithObserver(v))
	apply := func(c *cdc.Change) {
		t.Helper()
		if err := m.Map(c, nowhere{}); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(q control.WhyQuestion) control.WhyView {
		t.Helper()
		q.Table = "cobrancas"
		view, err := v.Answer(q)
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	story := func(q control.WhyQuestion) (out []string) {
		t.Helper()
		for _, c := range ask(q).Changes {
			line := fmt.Sprintf("%d %s", int(c.Time.Sub(verdictStart).Seconds()), c.Op)
			for _, r := range c.Rules {
				line += fmt.Sprintf(" %s %s %s%s", strings.TrimLeft(filepath.Base(r.Rule), "."), r.Outcome, r.Conjunct, strings.TrimPrefix(r.WebhookID, fmt.Sprint(1 << 51)[:12]))
				for _, e := range r.Endpoints {
					line += " " + e.Endpoint + ":" + e.Refused
				}
				if r.EndpointsUnknown {
					line += " ?"
				}
			}
			out = append(out, line)
		}
		return out
	}
	expect := func(what string, q control.WhyQuestion, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, story(q)); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}
	one, two := "1", "2"
	for range 2 { // read again after a rewind
		apply(update(rel, 1, "5", "1", "P", "L"))
		apply(update(rel, 2, "5", "1", "L", "P"))
		other := update(rel, 2, "6", "2", "P", "L")
		other.Ordinal = 1
		apply(other)
	}
	v.Use(rules, endpoint.Endpoint{Name: "crm", State: endpoint.Inactive})
	apply(update(rel, 3, "5", "1", "P", "L"))
	first, second, third := "1 update rules.yaml:3 event 5249-0-7 crm: bi:event velho:inactive", "2 update rules.yaml:3 when_false old.status <> 'L'", "3 update rules.yaml:3 event 5251-0-7 crm:inactive"
	expect("a row", control.WhyQuestion{Key: "5"}, first, second, third)
	expect("from a time on", control.WhyQuestion{Key: "5", From: verdictStart.Add(2 * time.Second)}, second, third)
	expect("its tenant", control.WhyQuestion{Key: "5", Tenant: &one}, first, second, third)
	expect("another tenant", control.WhyQuestion{Key: "5", Tenant: &two})
	expect("another row", control.WhyQuestion{Key: "7"})
	if view := ask(control.WhyQuestion{Key: "5"}); view.Overwritten || !view.Since.Equal(verdictStart) || view.Table != "public.cobrancas" || len(view.Rules) != 2 {
		t.Errorf("%+v", view)
	}
	if tally, since := v.Tally(); !cmp.Equal(tally, map[int]control.RuleTally{7: {Changes: 7, Events: 5, False: 2}}) || !since.Equal(verdictStart) { // three were read twice
		t.Errorf("the rules' changes are %+v since %s", tally, since)
	}
	flap := func(times int) {
		for n := range times {
			v.Offer(endpoint.Endpoint{Name: "crm", State: []endpoint.State{endpoint.Paused, endpoint.Active}[n%2]})
			apply(update(rel, 4, "9", "1", "P", "P"))
		}
	}
	flap(40)
	expect("endpoints of before", control.WhyQuestion{Key: "5"}, first, second, third)
	flap(bridge.RostersKept)
	expect("endpoints that are forgotten", control.WhyQuestion{Key: "5"}, "1 update rules.yaml:3 event 5249-0-7 ?", second, "3 update rules.yaml:3 event 5251-0-7 ?")
	for range bridge.RulesKept + 1 { // preparations of the same rules
		v.Use(bind(7, 9))
		apply(update(rel, 4, "9", "1", "P", "P"))
	}
	expect("rules that were prepared again", control.WhyQuestion{Key: "5"}, "1 update rules.yaml:3 event 5249-0-7 ?", second, "3 update rules.yaml:3 event 5251-0-7 ?")
	for n := range bridge.RulesKept + 1 { // reloads
		v.Use(bind(7, 10+n))
		apply(update(rel, 4, "9", "1", "P", "P"))
	}
	expect("rules that are forgotten", control.WhyQuestion{Key: "5"}, "1 update  event 5249-0-7 ?", "2 update  when_false ", "3 update  event 5251-0-7 ?")
	// Room is made, oldest first.
	for n := 4; n < 4+kept-1-40-bridge.RostersKept-2*(bridge.RulesKept+1); n++ {
		apply(update(rel, n, "8", "1", "P", "P"))
	}
	expect("what has not made room", control.WhyQuestion{Key: "5"}, "3 update  event 5251-0-7 ?")
	if view := ask(control.WhyQuestion{Key: "8"}); !view.Overwritten || !view.Since.Equal(verdictStart.Add(2*time.Second)) || len(view.Changes) != control.MaxWhyChanges || !view.More {
		t.Errorf("since %s, overwritten %v, %d changes, more %v", view.Since, view.Overwritten, len(view.Changes), view.More)
	}
	if _, err := v.Answer(control.WhyQuestion{Table: "cobranca", Key: "1"}); err == nil || !strings.Contains(err.Error(), "did you mean cobrancas?") {
		t.Errorf("a table without rules: %v", err)
	}
}

// TestReadVerdicts: of rows that backfills have read it is known for which job, endpoint and
// tenant that was; the newest of them are kept, and push out no change.
func TestReadVerdicts(t *testing.T) {
	t.Parallel()
	rules, rel := verdictLab(t)
	v := bridge.NewVerdicts(bridge.ChunkRecords)
	v.Use(rules, endpoint.Endpoint{Name: "crm"}, endpoint.Endpoint{Name: "bi"})
	v.Began(verdictStart)
	m := mapping.NewMapper(rules, nil, mapping.WithObserver(v))
	read := func(n int, id, tenant string) {
		t.Helper()
		c := update(rel, n, id, tenant, "P", "L")
		c.Op, c.Old = cdc.Read, nil
		if err := m.Read(c, func(string) bool { return true }, nowhere{}); err != nil {
			t.Fatal(err)
		}
	}
	story := func(key string) string {
		t.Helper()
		view, err := v.Answer(control.WhyQuestion{Table: "cobrancas", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, c := range view.Changes {
			line := fmt.Sprintf("%s %d", c.Op, c.Job)
			for _, r := range c.Rules {
				line += " " + r.Event + " " + r.Outcome
				for _, e := range r.Endpoints {
					line += " " + e.Endpoint + ":" + e.Refused
				}
			}
			out = append(out, line)
		}
		if !view.ReadsSince.IsZero() {
			out = append(out, fmt.Sprint("rows since ", view.ReadsSince.Sub(verdictStart)))
		}
		return strings.Join(out, "; ")
	}
	expect := func(key, want string) {
		t.Helper()
		if got := story(key); got != want {
			t.Errorf("row %s: %s; want %s", key, got, want)
		}
	}
	two := "2"
	if err := m.Map(update(rel, 1, "1", "1", "P", "L"), nowhere{}); err != nil {
		t.Fatal(err)
	}
	v.Read(7, "", nil)
	read(2, "1", "1")
	v.Read(8, "bi", &two)
	read(3, "2", "2")
	read(4, "3", "1")
	change, all := "update 0 cobranca.paga event crm: bi:", "read 7 cobranca.nova event crm: bi:"
	expect("1", change+"; "+all)
	expect("2", "read 8 cobranca.nova event crm:backfill bi:")
	expect("3", "read 8 cobranca.nova other_tenant")
	if tally, _ := v.Tally(); !cmp.Equal(tally, map[int]control.RuleTally{7: {Changes: 1, Events: 1}}) {
		t.Errorf("rows that were read count as changes: %+v", tally)
	}
	for n := range bridge.ChunkRecords {
		read(5+n, "9", "2")
	}
	expect("1", change+"; rows since 4s")
	expect("2", "rows since 4s")
}

// TestSearchesHoldUpNobody: a search looks at nothing while capture cannot go on, and ends
// although that does.
func TestSearchesHoldUpNobody(t *testing.T) {
	t.Parallel()
	const kept = 2048
	v := bridge.NewVerdicts(kept)
	one := mapping.Observation{Verdicts: make([]mapping.Verdict, 1)}
	for range kept + kept/2 {
		v.Observe(&one)
	}
	seen := 0
	v.Each(func() {
		seen++
		v.Observe(&one)
	})
	if seen < kept-2*bridge.ChunkRecords || seen > kept {
		t.Errorf("a search beside capture has seen %d of %d records", seen, kept)
	}
}

// BenchmarkObserveBesideSearches reports the longest that capture waits for searches of a
// full memory.
func BenchmarkObserveBesideSearches(b *testing.B) {
	v := bridge.NewVerdicts(bridge.VerdictsKept)
	one := mapping.Observation{Verdicts: make([]mapping.Verdict, 1)}
	for range bridge.VerdictsKept {
		v.Observe(&one)
	}
	for _, searches := range []int{0, 1, 4} {
		b.Run(fmt.Sprint(searches), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			var searching sync.WaitGroup
			for range searches {
				searching.Go(func() {
					for ctx.Err() == nil {
						v.Each(func() {})
					}
				})
			}
			var longest time.Duration
			for b.Loop() {
				began := time.Now()
				v.Observe(&one)
				longest = max(longest, time.Since(began))
			}
			cancel()
			searching.Wait()
			b.ReportMetric(float64(longest.Microseconds()), "longest-us")
		})
	}
}

// BenchmarkVerdicts compares, per change, applying rules without and with verdicts; the
// ratio is of the two, run alternately.
func BenchmarkVerdicts(b *testing.B) {
	rules, rel := verdictLab(b)
	v := bridge.NewVerdicts(bridge.VerdictsKept)
	v.Use(rules)
	for _, c := range []struct {
		name   string
		change *cdc.Change
	}{{"event", update(rel, 1, "5", "1", "P", "L")}, {"none", update(rel, 1, "5", "1", "P", "P")}} {
		b.Run(c.name, func(b *testing.B) {
			plain, observed := mapping.NewMapper(rules, nil), mapping.NewMapper(rules, nil, mapping.WithObserver(v))
			measure := func(m *mapping.Mapper) time.Duration {
				const n = 1000
				began := time.Now()
				for range n {
					if err := m.Map(c.change, nowhere{}); err != nil {
						b.Fatal(err)
					}
				}
				return time.Since(began) / n
			}
			measure(plain)
			measure(observed)
			runtime.GC()
			var without, with time.Duration
			for b.Loop() {
				without += measure(plain)
				with += measure(observed)
			}
			b.ReportMetric(float64(without.Nanoseconds())/float64(b.N), "ns/change")
			b.ReportMetric(float64((with-without).Nanoseconds())/float64(b.N), "more-ns/change")
		})
	}
}

// TestTableOf: a name without its schema means the rules' table, not one that a query reads.
func TestTableOf(t *testing.T) {
	t.Parallel()
	ruled, read, item := cdc.Name{Schema: "public", Name: "clientes"}, cdc.Name{Schema: "other", Name: "clientes"}, cdc.Name{Schema: "public", Name: "pedido item"}
	texts := []mapping.RuleText{{Table: ruled, OID: 7}}
	for name, want := range map[string]cdc.Name{"clientes": ruled, "public.clientes": ruled, "other.clientes": read, "pedido item": item} {
		table, oid, err := bridge.TableOf(texts, name, read, item, ruled)
		if err != nil || table != want || (oid == 7) != (want == ruled) {
			t.Errorf("%s is %v, %d, %v; want %v", name, table, oid, err, want)
		}
	}
	if _, _, err := bridge.TableOf(nil, "clientes", read, ruled); err == nil || !strings.Contains(err.Error(), "several tables") {
		t.Errorf("one of two that queries read: %v", err)
	}
	if _, _, err := bridge.TableOf(texts, "pedidos item", read, item); err == nil {
		t.Error("a table of nobody is found")
	}
}
