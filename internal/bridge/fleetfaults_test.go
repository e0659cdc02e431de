package bridge_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/endpoint"
	"gancho/internal/bridge"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// tokens opens the state database, and returns what makes tokens of its API.
func (s *shops) tokens() func(role state.Role, tenant string) string {
	s.t.Helper()
	store, err := state.Open(s.t.Context(), state.Options{DSN: s.options.State.DSN, Keyring: s.options.State.Keyring})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Close)
	return func(role state.Role, tenant string) string {
		s.t.Helper()
		_, token, err := store.CreateToken(s.t.Context(), "cli:ana", state.Token{Name: "t" + tenant, Role: role, Tenant: tenant})
		if err != nil {
			s.t.Fatal(err)
		}
		return token
	}
}

// get asks the API.
func (s *shops) get(token, path string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.options.Listen+"/api/v1"+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// TestFleetQuestion: a question to all sources, which may take minutes, does not keep their sessions from ending.
func TestFleetQuestion(t *testing.T) {
	t.Parallel()
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	if holds, err := bridge.QuestionHolds(t.Context(), redis.URL()); err != nil || holds {
		t.Errorf("it holds the session: %t, %v", holds, err)
	}
}

// TestFleetWithoutRedis: what is asked about a source while Redis is unreachable is answered as far as it does not need Redis, and says so.
func TestFleetWithoutRedis(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	s.withState()
	s.options.Shutdown = time.Second
	s.start()
	s.awaitSlots(2)
	token := s.tokens()
	root, tenant := token(state.Admin, ""), token(state.Viewer, shop(1)+"/1")
	for i := range 2 {
		s.exec(shop(i), "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
	}
	s.await("the events", time.Minute, func([]received) bool { return s.arrived[shop(0)] == 1 && s.arrived[shop(1)] == 1 })
	s.redis.Kill()
	of := "source=" + shop(1)
	for _, c := range []struct {
		token, path string
		status      int
		has         string
	}{
		{root, "/status?" + of, 200, `"queue":`},
		{root, "/status", 200, `"queue":`},
		{root, "/why?table=pedidos&key=1&" + of, 200, `"changes":`},
		{root, "/parked?" + of, 503, ""},
		{root, "/parked/groups?" + of, 503, ""},
		{root, "/parked/4503599650841400-0?" + of, 503, ""},
		{root, "/proof?" + of, 503, ""},
		{root, "/gaps?" + of, 503, ""},
		{root, "/rules?" + of, 200, `"event":`},
		{root, "/why?table=pedidos&key=1", 200, `"changes":`},
		{root, "/changes", 200, `"table":"public.pedidos"`},
		{root, "/gaps", 503, ""},
		{root, "/parked", 503, ""},
		{root, "/parked/groups", 503, ""},
		{root, "/proof", 503, ""},
		{tenant, "/status?" + of, 200, `"queue":"it does not answer"`},
		{tenant, "/event-types/pedido.novo", 200, `"schema":`},
		{tenant, "/why?table=pedidos&key=1", 200, `"changes":`},
	} {
		if status, body := s.get(c.token, c.path); status != c.status || !strings.Contains(strings.ReplaceAll(body, `": `, `":`), c.has) {
			t.Errorf("%s: %d, want %d with %s: %s", c.path, status, c.status, c.has, body)
		}
	}
}

// TestFleetWithoutState: sources that were read before are read, and their events sent, while the state database is unreachable.
func TestFleetWithoutState(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	s.withState()
	apart, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(apart.Close)
	if err := apart.Exec(t.Context(), "postgres", "create database estado"); err != nil {
		t.Fatal(err)
	}
	s.options.State.DSN = apart.DSN("estado")
	s.options.Sources.Streams, s.options.Sources.VisitEvery = 1, 2*time.Second // each visit ends for the sake of the other source
	s.options.Shutdown = time.Second
	s.start()
	s.awaitSlots(2)
	add := func(n int) {
		for i := range 2 {
			s.exec(shop(i), fmt.Sprintf("insert into pedidos (empresa, cliente, n) values (1, 1, %d)", n))
		}
		s.await(fmt.Sprintf("the events %d", n), 45*time.Second, func([]received) bool { return s.arrived[shop(0)] == n && s.arrived[shop(1)] == n })
	}
	add(1)
	add(2)
	apart.Kill()
	add(3)
	add(4)
	s.check(map[string]int{shop(0): 4, shop(1): 4})
}

// TestFleetRestoresMarks: Redis is emptied while a source is read of which events are in the state database: before anything is appended, Redis gets to
// know again that they are there.
func TestFleetRestoresMarks(t *testing.T) {
	t.Parallel()
	s := newShops(t, 1)
	s.withState()
	s.options.Quotas.Total.Backlog = 10
	load := s.options.Load
	s.options.Load = func() (*bridge.Definitions, error) {
		d, err := load()
		if err == nil {
			d.Endpoints[0].State = endpoint.Paused
		}
		return d, err
	}
	s.start()
	s.awaitSlots(1)
	s.exec(shop(0), "insert into pedidos (empresa, cliente, n) select 1, 1, n from generate_series(1, 30) n")
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { _ = client.Close() }()
	key := "gancho:" + shop(0) + ":{crm}:"
	s.eventually("events in the state database", func() bool {
		return client.HExists(t.Context(), key+"state", "overflow").Val() && client.XLen(t.Context(), key+"q").Val() <= 10
	})
	if err := client.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	s.exec(shop(0), "insert into pedidos (empresa, cliente, n) values (1, 1, 31)")
	s.eventually("the event", func() bool { return client.XLen(t.Context(), key+"q").Val() == 1 })
	if !client.HExists(t.Context(), key+"state", "overflow").Val() {
		t.Error("an event is queued before redis has the mark again")
	}
}
