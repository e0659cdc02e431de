package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// ask makes an API call with a token, and returns the status and the body.
func ask(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// TestBacklogOverQuota: a tenant whose backlog is over its quota is told, everywhere, and
// gets no more on top; its own events are kept and delivered, and others notice nothing. The metrics are on a listener of their own.
func TestBacklogOverQuota(t *testing.T) {
	t.Parallel()
	const metricsToken = "a token for the metrics alone"
	s := newStateful(t, pg, nil, `create table vendas (id int primary key, empresa_id int not null)`)
	s.rules = "rules:\n  - {event: venda.criada, table: vendas, on: insert, tenant: empresa_id, columns: [id]}\n"
	s.extra += "\nquotas: {tenant: {backlog: 3}}"
	s.http = "  metrics: 127.0.0.1:0\n  metrics_token: " + metricsToken
	one, two, operator := newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil)
	s.endpoint("operador", operator.url(), "events: ['gancho.quota.*']")
	b := s.run()
	var apart struct {
		Listen string `json:"metrics_listen"`
	}
	if err := json.Unmarshal([]byte(b.waitLog("serving metrics apart")), &apart); err != nil {
		t.Fatal(err)
	}
	base := "http://" + b.listening()
	if status, _ := fetch(t, base+"/metrics"); status != http.StatusNotFound {
		t.Errorf("the metrics are on the main listener, too: %d", status)
	}
	if status, _ := fetch(t, "http://"+apart.Listen+"/metrics"); status != http.StatusUnauthorized {
		t.Errorf("the metrics without their token: %d", status)
	}
	metric := func(line string) {
		t.Helper()
		queuetest.Eventually(t, line, func() bool {
			_, text := ask(t, http.MethodGet, "http://"+apart.Listen+"/metrics", metricsToken, "")
			return strings.Contains(text, line)
		})
	}
	tokens := map[string]string{}
	for _, tenant := range []string{"1", "2"} {
		_, text, err := s.store().CreateToken(t.Context(), "test", state.Token{Name: "unit-" + tenant, Role: state.Admin, Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		tokens[tenant] = text
	}
	s.add(b, "um", one.url(), `"tenants": ["1"]`, `"state": "paused"`)
	s.add(b, "dois", two.url(), `"tenants": ["2"]`)

	s.exec("insert into vendas select n, 1 + n / 6 from generate_series(1, 7) n") // 5 of tenant 1; never over the quota: 2 of tenant 2
	metric(`gancho_endpoint_over_quota{endpoint="um"} 1`)
	metric(`gancho_endpoint_over_quota{endpoint="dois"} 0`)
	var told struct {
		Tenant      string
		Used, Limit int
		Endpoints   []string
	}
	if err := json.Unmarshal([]byte(b.waitLog("a backlog is over its quota")), &told); err != nil {
		t.Fatal(err)
	}
	if told.Tenant != "1" || told.Used != 5 || told.Limit != 3 || len(told.Endpoints) != 1 || told.Endpoints[0] != "um" {
		t.Errorf("the log tells %+v", told)
	}
	operator.waitFor(time.Minute, "an event about the quota", func(a []arrival) bool {
		return len(a) == 1 && a[0].event == "gancho.quota.exceeded" && a[0].field("tenant") == "1" && a[0].field("used") == "5"
	})
	add := func(tenant string) (int, string) {
		return ask(t, http.MethodPost, base+"/api/v1/endpoints", tokens[tenant], fmt.Sprintf(`{"name": "novo-%s", "url": "https://a.example.com"}`, tenant))
	}
	if status, text := add("1"); status != http.StatusConflict || !strings.Contains(text, "urn:gancho:problem:quota") || !strings.Contains(text, "5 queued events, and the quota is 3") {
		t.Errorf("an endpoint for the tenant that is over its quota: %d: %s", status, text)
	}
	if status, text := add("2"); status != http.StatusCreated {
		t.Errorf("an endpoint for the other tenant: %d: %s", status, text)
	}
	two.waitFor(time.Minute, "the other tenant's events", func(a []arrival) bool { return len(a) == 2 })

	for tenant, want := range map[string]bool{"1": true, "2": false} {
		if _, text := ask(t, http.MethodGet, base+"/api/v1/status", tokens[tenant], ""); strings.Contains(text, `"over_quota":["the tenant \"1\" has 5 queued events`) != want {
			t.Errorf("the status for tenant %s: %s", tenant, text)
		}
	}

	// A Redis that is full holds capture up, and /readyz says so.
	full := func(maxmemory string) {
		if err := s.redisClient().ConfigSet(t.Context(), "maxmemory", maxmemory).Err(); err != nil {
			t.Fatal(err)
		}
	}
	full("1")
	s.exec("insert into vendas values (11, 2)")
	b.waitLog("capture waits, and the source keeps its WAL")
	if status, text := fetch(t, base+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "maxmemory") {
		t.Errorf("/readyz while Redis is full: %d: %s", status, text)
	}
	full("0")

	// Nothing was lost, and all is as before.
	s.call(b, http.MethodPost, "/endpoints/um/activate", "", nil)
	one.waitFor(time.Minute, "the tenant's events", func(a []arrival) bool { return len(a) == 5 })
	two.waitFor(time.Minute, "the event that Redis had no room for", func(a []arrival) bool { return len(a) == 3 })
	metric(`gancho_endpoint_over_quota{endpoint="um"} 0`)
	b.waitLog("the backlog is within its quota again")
	if status, text := add("1"); status != http.StatusCreated {
		t.Errorf("an endpoint within the quota: %d: %s", status, text)
	}
	b.stop()
}

// TestOverflow: what a paused endpoint has no quota for moves from Redis, which would be full
// long since, to the state database; another tenant's events flow meanwhile. Its own arrive when it
// is active again, once and in the order of their keys, from a process that does not capture. A removed endpoint's are dropped, and a person's erased.
func TestOverflow(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, `create table vendas (id int primary key, empresa_id int not null, cliente int not null, nota text not null)`)
	s.rules = "rules:\n  - {event: venda.criada, table: vendas, on: insert, tenant: empresa_id, key: cliente, columns: [id, nota]}\n"
	s.extra += "\nquotas: {tenant: {backlog: 100}}"
	one, gone, two := newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil)
	b := s.run()
	s.add(b, "um", one.url(), `"tenants": ["1"]`, `"state": "paused"`)
	s.add(b, "removido", gone.url(), `"tenants": ["3"]`, `"state": "paused"`)
	s.add(b, "dois", two.url(), `"tenants": ["2"]`)
	worker := s.start("run", "--only", "deliver", "--config", s.write())
	var given struct{ Endpoint string }
	if err := json.Unmarshal([]byte(b.waitLog("endpoint given to another process")), &given); err != nil || given.Endpoint != "um" {
		t.Fatalf("the worker gets %q, %v", given.Endpoint, err)
	}
	memory, err := s.redisClient().Info(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	var used int64
	for line := range strings.Lines(memory) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			used, _ = strconv.ParseInt(text, 10, 64)
		}
	}
	if err := s.redisClient().ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(used+5<<20, 10)).Err(); err != nil {
		t.Fatal(err)
	}
	const rows, each = 1500, 10_000 // 10 MB of each paused endpoint
	for from := 0; from < rows; from += 100 {
		s.exec(fmt.Sprintf("insert into vendas select n, 1 + n %% 3, n %% 7, repeat('x', %d) from generate_series(%d, %d) n", each, from, from+99))
	}
	two.waitFor(time.Minute, "the other tenant's events", func(a []arrival) bool { return len(a) == rows/3 })
	live := func(name string) (queued, overflowed int) {
		var e struct {
			Live struct{ Queued, Overflowed int }
		}
		s.call(b, http.MethodGet, "/endpoints/"+name, "", &e)
		return e.Live.Queued, e.Live.Overflowed
	}
	for _, name := range []string{"um", "removido"} {
		queuetest.Eventually(t, "a short stream of "+name, func() bool {
			queued, overflowed := live(name)
			return queued == rows/3 && queued-overflowed <= 100
		})
	}

	var left int
	for n := range rows {
		if n%3 == 0 && n%7 != 3 {
			left++
		}
	}
	receipt := decoded[control.Receipt](&session{world: s.world, path: s.write()}, "forget", "--tenant", "1", "--key", "3", "--yes")
	if n := receipt.Erased.Queue.Queued; n != rows/3-int64(left) {
		t.Errorf("%d events of a key were erased, want %d", n, rows/3-left)
	}
	s.call(b, http.MethodDelete, "/endpoints/removido?drop_queue=true", "", nil)
	s.call(b, http.MethodPost, "/endpoints/um/activate", "", nil)
	arrivals := one.waitFor(time.Minute, "the tenant's events", func(a []arrival) bool { return len(a) == left })
	last := map[int]int{}
	for _, a := range arrivals {
		var e struct{ Data struct{ ID int } }
		if err := json.Unmarshal(a.body, &e); err != nil {
			t.Fatal(err)
		}
		if id, key := e.Data.ID, e.Data.ID%7; id < last[key] || id%3 != 0 || key == 3 {
			t.Errorf("%d has arrived after %d", id, last[key])
		} else {
			last[key] = id
		}
	}
	s.until(0, "select (select count(*) from gancho.overflow) + (select count(*) from gancho.overflow_heads)")
	worker.stop()
	b.stop()
}

// TestParkedRedriveOverQuota: a redrive of parked changes leaves those for later whose
// backlog has no room, says so in its record, as other jobs do, and maps them when it has; the others are sent meanwhile.
func TestParkedRedriveOverQuota(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newStateful(t, pg, nil, `create table vendas (id int primary key, empresa text, valor text)`)
	const rules = "rules:\n  - {event: venda.criada, table: vendas, on: insert, tenant: empresa, data: {id: id, valor: %s}}\n"
	s.rules = fmt.Sprintf(rules, "valor::int")
	s.extra += "\nquotas: {tenant: {backlog: 3}}"
	r, other := newReceiver(t, nil), newReceiver(t, nil)
	b := s.run()
	s.add(b, "crm", r.url(), `"tenants": ["1"]`, `"state": "paused"`)
	s.add(b, "outro", other.url(), `"tenants": ["2"]`)
	s.exec("insert into vendas values (0, '1', 'x'), (100, '2', 'x')")
	b.waitLogs("change parked", 2)
	s.rules = fmt.Sprintf(rules, "valor")
	s.write()
	b.signal(syscall.SIGHUP)
	b.waitLog("configuration reloaded")
	s.exec("insert into vendas select n, '1', n::text from generate_series(1, 5) n")
	b.waitMetric(`gancho_endpoint_over_quota{endpoint="crm"} 1`)
	if _, err := s.store().CreateJob(t.Context(), "test", state.Job{Kind: state.RedriveParked, Total: 2}); err != nil {
		t.Fatal(err)
	}
	b.waitLog("a job waits: the backlog")
	if sent := other.waitCount(1)[0]; sent.field("id") != "100" {
		t.Errorf("of the other tenant came %s", sent.body)
	}
	s.until(1, "select count(*) from gancho.jobs where state = 'running' and sent = 1 and waits like '%the tenant \"1\" has%'")
	if out := (&session{world: s.world, path: s.write()}).ok("resend", "list"); !strings.Contains(out, "quotas.tenant.backlog") {
		t.Errorf("the list of jobs does not say what one waits for:\n%s", out)
	}
	s.call(b, http.MethodPost, "/endpoints/crm/activate", "", nil)
	b.waitMetric(`gancho_endpoint_over_quota{endpoint="crm"} 0`)
	all := r.waitCount(6)
	if last := all[5]; !last.replay || last.field("id") != "0" {
		t.Errorf("the redrive came as %s", last.body)
	}
	s.until(1, "select count(*) from gancho.jobs where state = 'done' and sent = 2 and waits = ''")
	b.stop()
}
