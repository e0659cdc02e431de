package bridge_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/bridge"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// The whole way: a row that is committed becomes a webhook.
func ExampleRun() {
	if err := deliverOneRow(); err != nil {
		fmt.Println(err)
	}
	// Output: {"id":7,"valor":10.50}
}

func deliverOneRow() error {
	postgres, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		return err
	}
	defer postgres.Close()
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		return err
	}
	defer redis.Close()
	dir, err := os.MkdirTemp("", "gancho-example-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	rules := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(rules, []byte("rules: [{event: pagamento.novo, table: pagamentos, on: insert, columns: [id, valor]}]"), 0o600); err != nil {
		return err
	}
	if err := postgres.Exec(context.Background(), "postgres", "create table pagamentos (id int primary key, valor numeric(12,2))"); err != nil {
		return err
	}
	arrived := make(chan []byte, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- body
	}))
	defer receiver.Close()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- bridge.Run(ctx, bridge.Options{
			Source:    cdc.Options{DSN: postgres.DSN("postgres"), Slot: "gancho", Publication: "gancho", Create: true},
			LookupDSN: postgres.DSN("postgres"), Location: time.UTC, TransactionMemory: 64 << 20, LagWarning: 1 << 30,
			Queue:   queue.Options{URL: redis.URL()},
			Capture: true, Deliver: true, Listen: "127.0.0.1:0", Shutdown: 5 * time.Second, Log: zerolog.Nop(),
			Load: func() (*bridge.Definitions, error) {
				parsed, err := mapping.Parse(mapping.Options{Files: []string{rules}, Publication: "gancho"})
				return &bridge.Definitions{Rules: parsed, Endpoints: []*endpoint.Endpoint{{
					Name: "crm", URL: receiver.URL, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
					Format: endpoint.FormatBare,
				}}}, err
			},
		})
	}()
	// The slot has what is committed after its creation.
	for {
		err := postgres.Exec(ctx, "postgres", "do $$ begin if not exists (select from pg_replication_slots where active) then raise 'not yet'; end if; end $$")
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			return err
		default:
		}
	}
	if err := postgres.Exec(ctx, "postgres", "insert into pagamentos values (7, 10.5)"); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case body := <-arrived:
		fmt.Println(string(body))
	}
	stop()
	return <-ended
}
