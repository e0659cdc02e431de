package bridge_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/bridge"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/migrations"
)

// manyYAML is endpoints as gancho.yaml has them: one for each unit of a chain, with a key and a header of its own.
func manyYAML(from, to int) []byte {
	var b strings.Builder
	for i := from; i < to; i++ {
		_, _ = fmt.Fprintf(&b, "- {name: unidade-%05d, url: \"https://crm-%d.example.com/hooks\", secret: \"segredo-da-unidade-%05d-%05d\", tenants: [%d], events: ['*.criado'], headers: {X-Api-Key: \"chave-%d\"}}\n", i, i, i, i, i, i)
	}
	return []byte(b.String())
}

// addStored stores the same endpoints. The database is migrated.
func addStored(t *testing.T, dsn string, keys *state.Keyring, from, to int) {
	t.Helper()
	store, err := state.Open(t.Context(), state.Options{DSN: dsn, Keyring: keys, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	d := strictyaml.Parse("gancho.yaml", manyYAML(from, to), nil)
	adding, ctx := errgroup.WithContext(t.Context())
	adding.SetLimit(4)
	for _, e := range endpoint.DecodeList(d.Root()) {
		adding.Go(func() error {
			_, err := store.AddEndpoint(ctx, "teste", state.Endpoint{Name: e.Name, Tenants: e.Tenants, Document: e.Document(), Public: e.Public()}, e.Secrets)
			return err
		})
	}
	if err := errors.Join(adding.Wait(), d.Errors().Err()); err != nil {
		t.Fatal(err)
	}
}

// chain is the servers of a bridge, its endpoints, and how many there are.
type chain struct {
	options bridge.Options
	redis   *testservers.Redis
	yaml    []byte // the endpoints of the file
	n       int
}

// heap runs a bridge, and returns the heap of the process once the bridge has all endpoints: the first that is not above most, or the least of five seconds.
func (c *chain) heap(t *testing.T, most int64) int64 {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- bridge.Run(ctx, c.options) }()
	client := redis.NewClient(&redis.Options{Addr: c.redis.Addr()})
	defer func() { _ = client.Close() }()
	queuetest.Eventually(t, "all endpoints to have an owner", func() bool {
		select {
		case err := <-ended:
			t.Fatal("the bridge has ended: ", err)
		default:
		}
		return client.ZCard(ctx, "gancho:leases").Val() == int64(c.n)+1 // and the process
	})
	used := int64(math.MaxInt64)
	for until := time.Now().Add(5 * time.Second); ; { // the start, and each measurement of the queues, take more for a moment
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools keep goes with the second
		runtime.ReadMemStats(&m)
		if used = min(used, int64(m.HeapAlloc)); used <= most || time.Now().After(until) {
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return used
}

// TestEndpointsAreCheapInTheProcess: what all parts of a bridge together keep of an idle endpoint, beside one that has
// some: what the first ones bring with them, such as the buffers of more connections, is no endpoint's own. It runs alone, because others would be counted.
func TestEndpointsAreCheapInTheProcess(t *testing.T) { //nolint:paralleltest // as it says
	testservers.Whole(t)
	const some, many, inFile, stored = 500, 2500, 3200, 3500 // endpoints, and the most bytes of each
	keys, err := state.ParseKeys("a:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rules, []byte("rules: [{event: pedido.criado, table: pedidos, on: insert, tenant: loja, columns: [id]}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(slot, dsn string, with *bridge.StateOptions) *chain {
		c := &chain{redis: queuetest.StartRedis(t)}
		c.options = bridge.Options{
			Source:    cdc.Options{DSN: dsn, Slot: slot, Publication: "gancho", Create: true},
			LookupDSN: dsn, Location: time.UTC, TransactionMemory: 64 << 20, LagWarning: 1 << 30, Queue: queue.Options{URL: c.redis.URL()}, State: with,
			Capture: true, Deliver: true, Listen: "127.0.0.1:0", Shutdown: 10 * time.Second, Log: zerolog.Nop(),
			Load: func() (*bridge.Definitions, error) {
				parsed, err := mapping.Parse(mapping.Options{Files: []string{rules}, Publication: "gancho"})
				d := strictyaml.Parse("gancho.yaml", c.yaml, nil)
				endpoints := endpoint.DecodeList(d.Root())
				return &bridge.Definitions{Rules: parsed, Endpoints: endpoints}, errors.Join(err, d.Errors().Err())
			},
		}
		return c
	}
	const table = "create table pedidos (id int primary key, loja int)"
	check := func(what string, few, all, most int64) {
		t.Helper()
		each := (all - few) / (many - some)
		t.Logf("%s: %d bytes of heap for each endpoint", what, each)
		if each > most {
			t.Errorf("%s: an idle endpoint takes %d bytes of the process, want at most %d", what, each, most)
		}
	}

	file := open("cheap_file", pg.Database(t, "", table), nil)
	file.yaml, file.n = manyYAML(0, some), some
	few := file.heap(t, 0)
	file.yaml, file.n = manyYAML(0, many), many
	check("in gancho.yaml", few, file.heap(t, few+inFile*(many-some)), inFile)

	dsn := pg.Database(t, "", table)
	if _, err := migrations.Apply(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	store := open("cheap_stored", dsn, &bridge.StateOptions{DSN: dsn, Keyring: keys, KeepLog: time.Hour})
	store.yaml, store.n = []byte("[]"), some
	addStored(t, dsn, keys, 0, some)
	few = store.heap(t, 0)
	addStored(t, dsn, keys, some, many)
	store.n = many
	check("stored", few, store.heap(t, few+stored*(many-some)), stored)
}
