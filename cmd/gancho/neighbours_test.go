package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestNeighboursDoNotWait: while a tenant has as many requests in flight as it may, each a
// search with as many patterns as it may have and slow without end, those of another wait
// for none of them, and its events are delivered and logged. The rows of the first's day
// are locked, which stands for very many; what counts is not how long the other waits, but
// that nothing of the first has to end for it.
func TestNeighboursDoNotWait(t *testing.T) {
	t.Parallel()
	s := newStateful(t, ownPostgres(t, nil), nil, loadTable)
	s.rules = loadRules + "    tenant: cliente_id\n"
	r := newReceiver(t, nil)
	b := s.run()
	s.add(b, "um", r.url(), `"tenants": ["1"]`)
	s.add(b, "dois", r.url(), `"tenants": ["2"]`)
	store := s.store()
	tokens := map[string]string{}
	for _, tenant := range []string{"1", "2"} {
		_, text, err := store.CreateToken(t.Context(), "test", state.Token{Name: "unit-" + tenant, Role: state.Admin, Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		tokens[tenant] = text
	}
	call := func(ctx context.Context, method, tenant, path, body string) (int, error) {
		return request(ctx, method, "http://"+b.listening()+"/api/v1"+path, tokens[tenant], body)
	}

	day := time.Now().UTC().AddDate(0, 0, -3).Truncate(24 * time.Hour)
	old := state.Attempt{
		Time: day.Add(time.Hour), Endpoint: "um", Entry: "1", WebhookID: "1", Event: "evento.criado", Tenant: "1", Committed: day, Number: 1, Outcome: "delivered", Class: "ok", Status: 200,
	}
	if err := store.WriteAttempts(t.Context(), []state.Attempt{old}); err != nil {
		t.Fatal(err)
	}
	search := url.Values{"from": {day.Format(time.RFC3339)}, "to": {day.AddDate(0, 0, 1).Format(time.RFC3339)}}
	for i := range control.MaxPatterns {
		search.Add("event", fmt.Sprintf("*%d*criado", i))
	}
	slow := "/deliveries?" + search.Encode()
	if status, err := call(t.Context(), http.MethodGet, "1", slow, ""); err != nil || status != http.StatusOK { // the control
		t.Fatal(status, err)
	}
	locker, err := pgx.Connect(t.Context(), s.stateDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locker.Close(context.Background()) })
	var partition string
	if err := locker.QueryRow(t.Context(), `select tableoid::regclass::text from gancho.attempts where tenant = '1'`).Scan(&partition); err != nil {
		t.Fatal(err)
	}
	if _, err := locker.Exec(t.Context(), "begin; set local lock_timeout = '1min'; lock table "+partition+" in access exclusive mode"); err != nil {
		t.Fatal(err)
	}

	// Tenant 1 asks again for each answer, of whatever kind, so that its requests are never
	// fewer. One too many is refused, which shows that all others are there.
	const places = api.DefaultRequests * 5 // in flight and waiting
	var ended atomic.Int64
	var refused atomic.Bool
	var load sync.WaitGroup
	loading, stop := context.WithCancel(t.Context())
	defer load.Wait()
	defer stop()
	full := make(chan struct{})
	for range places + 1 {
		load.Go(func() {
			for loading.Err() == nil {
				status, _ := call(loading, http.MethodGet, "1", slow, "") // its other answers are not what this is about
				ended.Add(1)
				if status == http.StatusTooManyRequests && refused.CompareAndSwap(false, true) {
					close(full)
					return
				}
			}
		})
	}
	select {
	case <-full:
	case <-time.After(2 * time.Minute):
		t.Fatal("none of the first tenant's requests is refused")
	}
	s.until(1, `select least(count(*), 1) from pg_locks where not granted and relation = $1::text::regclass`, partition)

	// unhindered: an answer came and no request of tenant 1 has ended meanwhile. Those end
	// by themselves, too, every ten seconds: then it is tried again.
	unhindered := func(method, path, body string, want int) {
		t.Helper()
		for range 3 {
			if t.Failed() {
				return // each of the others would take as long
			}
			before := ended.Load()
			status, err := call(t.Context(), method, "2", path, body)
			if err != nil || status != want {
				t.Errorf("%s %s: %d, %v, not %d", method, path, status, err, want)
				return
			}
			if ended.Load() == before {
				return
			}
			if method != http.MethodGet {
				return // not again: it has changed something
			}
		}
		t.Errorf("%s %s is answered only when requests of the other tenant have ended", method, path)
	}
	today := "from=" + url.QueryEscape(time.Now().UTC().Truncate(24*time.Hour).Format(time.RFC3339))
	reads := []string{
		"/endpoints", "/endpoints/dois", "/endpoints/dois/keys", "/deliveries?" + today, "/deliveries?event=*criado&" + today, "/dead-letters", "/dead-letters?event=*criado", "/resends",
		"/event-types", "/status", "/audit", "/tokens",
	}
	for _, path := range reads {
		unhindered(http.MethodGet, path, "", http.StatusOK)
	}
	unhindered(http.MethodPatch, "/endpoints/dois", `{"rate": "100/s"}`, http.StatusOK)
	unhindered(http.MethodPost, "/endpoints/dois/test", "", http.StatusOK)
	unhindered(http.MethodPost, "/resends", `{"endpoint": "dois", "filter": {"key": "none"}}`, http.StatusAccepted)
	unhindered(http.MethodPost, "/tokens", `{"name": "novo", "role": "viewer"}`, http.StatusCreated)
	var all sync.WaitGroup
	for _, path := range reads { // as many at once as it may, and more
		all.Go(func() { unhindered(http.MethodGet, path, "", http.StatusOK) })
	}
	all.Wait()
	s.events(1, 2)
	s.until(2, `select count(*) from gancho.attempts where time > $1 and outcome = 'delivered'`, time.Now().UTC().Add(-time.Hour))

	// It was the lock.
	if _, err := locker.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	stop()
	load.Wait()
	if status, err := call(t.Context(), http.MethodGet, "1", slow, ""); err != nil || status != http.StatusOK {
		t.Errorf("the search, without the lock: %d, %v", status, err)
	}
	b.stop()
}

// request makes a request of the API and returns the answer's status.
func request(ctx context.Context, method, address, token, body string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}
