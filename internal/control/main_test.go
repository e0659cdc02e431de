package control_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/presets"
	"gancho/internal/simulate"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/migrations"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

// root may do everything.
var root = control.Actor{Name: "cli:teste", Role: state.Admin}

// gym is a service over real servers, with endpoints of two units.
type gym struct {
	*control.Service
	t        *testing.T
	dsn      string
	redis    *testservers.Redis
	receiver *httptest.Server
	made     atomic.Int64 // names that were given out
}

const testKey = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

func newGym(t *testing.T) *gym {
	t.Helper()
	ctx := context.Background()
	dsn := pg.Database(t, pg.Template(t, "state", migrations.Apply))
	keys, err := state.ParseKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(ctx, state.Options{DSN: dsn, Keyring: keys, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	queue, err := queue.Open(ctx, queue.Options{URL: redis.URL(), Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = queue.Close() })
	sender := webhook.NewSender(webhook.Options{Logger: zerolog.Nop()})
	t.Cleanup(sender.Close)
	g := &gym{t: t, dsn: dsn, redis: redis, receiver: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))}
	t.Cleanup(g.receiver.Close)
	files := []*endpoint.Endpoint{g.file("arquivo", ""), g.file("arquivo-um", "tenants: [1]")}
	screen, err := presets.OwnScreen("iset")
	if err != nil {
		t.Fatal(err)
	}
	g.Service = control.New(control.Options{
		Screens: []presets.Screen{screen},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("203.0.114.7")}, nil
		},
		Store: store, Queue: queue, Sender: sender, File: func() []*endpoint.Endpoint { return files },
		RulesInUse: func() control.RulesInUse {
			return control.RulesInUse{
				Sources: []mapping.RuleSource{{Place: "rules/a.yaml:3", File: "rules/a.yaml"}}, Files: map[string][]byte{"rules/a.yaml": nil},
				With: func(ctx context.Context, _ map[string][]byte, do func(context.Context, *mapping.Ruleset, simulate.Options) error) error {
					return do(ctx, &mapping.Ruleset{}, simulate.Options{})
				},
				Try: func(context.Context, simulate.Trial) (*simulate.Report, error) { return &simulate.Report{}, nil },
			}
		},
		Recent:      func(string, int) (control.RecentChanges, error) { return control.RecentChanges{}, nil },
		DraftTestOf: func(context.Context, control.WhyQuestion) ([]byte, error) { return []byte("tests: []\n"), nil },
		Catalogue:   func() []mapping.EventType { return []mapping.EventType{{Name: "cobranca.paga"}} },
		Slot:        func(context.Context) (cdc.Slot, error) { return cdc.Slot{Name: "gancho"}, nil },
		Version:     "test",
		Console:     "https://console.example",
		Verdicts:    verdicts,
		Backfill: func(context.Context, state.Filter, bool) (control.BackfillPlan, error) {
			return control.BackfillPlan{Tables: []control.BackfillTable{{Table: "cobrancas", Rows: 7}}, Rows: 7}, nil
		},
		Examine: func(ctx context.Context) (doctor.Report, error) {
			return doctor.Run(ctx, doctor.Options{Version: "test"}), nil
		},
	})
	for name, tenants := range map[string]string{"um": "[1]", "dois": "[2]", "todos": ""} {
		g.endpoint(name, tenants)
	}
	return g
}

// document is an endpoint that posts to the gym's receiver.
func (g *gym) document(tenants string) string {
	text := fmt.Sprintf("url: %s\nallow_http: true\nallow_private: [127.0.0.0/8]\n", g.receiver.URL)
	if tenants != "" {
		text += "tenants: " + tenants + "\n"
	}
	return text
}

func (g *gym) file(name, more string) *endpoint.Endpoint {
	g.t.Helper()
	e, err := endpoint.Parse("", []byte("name: "+name+"\n"+g.document("")+more))
	if err != nil {
		g.t.Fatal(err)
	}
	return &e
}

func (g *gym) endpoint(name, tenants string) string {
	g.t.Helper()
	if _, err := g.AddEndpoint(context.Background(), root, control.NewEndpoint{Name: name, Document: []byte(g.document(tenants))}); err != nil {
		g.t.Fatal(err)
	}
	return name
}

// name is one that nothing has yet.
func (g *gym) name() string { return fmt.Sprintf("novo-%d", g.made.Add(1)) }

// dead gives up an event of a tenant and returns the dead letter's number.
func (g *gym) dead(endpoint, tenant string) int64 {
	g.t.Helper()
	ctx := context.Background()
	handle := g.name()
	now := time.Now()
	d := state.DeadLetter{Endpoint: endpoint, DeadEvent: queue.DeadEvent{
		Handle: handle, Reason: "refused", Attempts: 3,
		Failures: queue.Failures{First: now, Last: now, Status: 400, Class: webhook.ClassStatus},
		Message:  webhook.Message{ID: handle, Type: "cobranca.paga", Tenant: tenant, Key: "7", Time: now, Sequence: "1", Data: []byte(`{"id":1}`)},
	}}
	if err := g.Store.WriteDead(ctx, []state.DeadLetter{d}); err != nil {
		g.t.Fatal(err)
	}
	found, err := g.Store.DeadLetters(ctx, state.Filter{Webhooks: []string{handle}}, 0, 1)
	if err != nil || len(found) != 1 {
		g.t.Fatal(found, err)
	}
	return found[0].ID
}

// attempt logs a delivery, and keeps its event.
func (g *gym) attempt(endpoint, tenant, key string, at time.Time) {
	g.t.Helper()
	ctx := context.Background()
	id := g.name()
	err := g.Store.WriteAttempts(ctx, []state.Attempt{{
		Time: at, Endpoint: endpoint, Entry: id, WebhookID: id, Event: "cobranca.paga", Tenant: tenant, Key: key, Committed: at, Number: 1,
		Outcome: "delivered", Class: webhook.ClassOK, Status: 200,
	}})
	if err != nil {
		g.t.Fatal(err)
	}
	m := webhook.Message{ID: id, Type: "cobranca.paga", Tenant: tenant, Key: key, Time: at, Sequence: "1", Data: []byte("1")}
	if err := g.Store.WriteEvents(ctx, []webhook.Message{m}); err != nil {
		g.t.Fatal(err)
	}
}
