package bridge

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
	"gancho/internal/api"
	"gancho/internal/console"
	"gancho/internal/language"
	"gancho/internal/presets"
	"gancho/internal/servercert"
	"gancho/mapping"
)

// ConsoleOptions are what the bridge needs for the pages for people.
type ConsoleOptions struct {
	Listen string
	// Certificate is the listener's; nil: it speaks plain HTTP.
	Certificate *servercert.Certificate
	// PublicURL is the origin under which browsers reach it; empty: http://, with a certificate https://, and the listener's address.
	PublicURL string
	Language  language.Code
	// Embed are the origins whose pages may have it in a frame.
	Embed []string
	Brand console.Brand
	// TenantsSQL reads ids and names of tenants by the role of LookupDSN, for TenantsFor; empty: they are Tenants.
	TenantsSQL string
	TenantsFor time.Duration
	Tenants    []console.Tenant
	// Screens are the vendors' screens for tenants.
	Screens []presets.Screen
}

// edge is what programs and people reach over HTTP: the API, and the console where there is a listener for it.
type edge struct{ api, console http.Handler }

// edge returns both. While the bridge waits for its servers, they answer that.
func (b *bridge) edge(listening net.Listener) (edge, error) {
	var waiting http.Handler
	var err error
	if listening != nil {
		scheme := "http"
		if b.Console.Certificate != nil {
			scheme = "https"
		}
		b.consoleAt = cmp.Or(b.Console.PublicURL, scheme+"://"+listening.Addr().String())
		if waiting, err = console.Unavailable(b.consoleOptions(), b.noConsole()); err != nil {
			return edge{}, fmt.Errorf("make the console: %w", err)
		}
	}
	if b.State == nil {
		return edge{console: waiting}, nil
	}
	parts := sync.OnceValue(func() edge {
		service := b.service()
		programs := b.api(service)
		e := edge{api: programs, console: waiting}
		if listening == nil {
			return e
		}
		o := b.consoleOptions()
		o.Control, o.Sessions, o.Admit = service, b.consoleStore, programs.Admit
		if pages, err := console.New(o); err != nil {
			b.Log.Error().Err(err).Msg("console not served")
		} else {
			e.console = pages
		}
		return e
	})
	programs := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := b.health.starting(); err != nil {
			api.Unavailable(w, "Gancho is "+err.Error()+".")
			return
		}
		parts().api.ServeHTTP(w, r)
	})
	people := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.health.starting() != nil {
			waiting.ServeHTTP(w, r)
			return
		}
		parts().console.ServeHTTP(w, r)
	})
	return edge{api: programs, console: people}, nil
}

// noConsole is why there are no pages yet, or at all.
func (b *bridge) noConsole() console.Reason {
	if b.State == nil {
		return console.NoState
	}
	return console.Starting
}

// screens are the vendors' screens, with or without pages.
func (b *bridge) screens() []presets.Screen {
	if b.Console == nil {
		return nil
	}
	return b.Console.Screens
}

// consoleMux is what the console's listener answers: the console and the API, neither metrics nor health.
func (e *edge) consoleMux() http.Handler {
	mux := http.NewServeMux()
	if e.api != nil {
		mux.Handle("/api/v1/", e.api)
		mux.Handle("/api/v1", e.api)
	}
	mux.Handle("/", e.console)
	return mux
}

func (b *bridge) consoleOptions() console.Options {
	c := b.Console
	o := console.Options{
		PublicURL: b.consoleAt, Language: c.Language, Embed: c.Embed, Brand: c.Brand, Vendors: c.Screens, Zone: b.Location, TenantsFor: c.TenantsFor,
		Hold: holdConnection, Logger: b.Log, Version: b.Version,
	}
	switch {
	case c.TenantsSQL != "":
		o.Tenants = b.readTenants
	case len(c.Tenants) > 0:
		o.Tenants = func(context.Context) ([]console.Tenant, error) { return c.Tenants, nil }
	}
	return o
}

// maxTenants bounds the rows of console.tenants.sql.
const maxTenants = 10_000

// readTenants reads the names of tenants as lookups of rules are read: by their role, in a read-only transaction, along their
// search_path. A process that does not capture has no such path: there the query has to name schemas.
func (b *bridge) readTenants(ctx context.Context) ([]console.Tenant, error) {
	source := mapping.NewSource(b.LookupDSN, b.Source.Encoding, b.Log)
	if b.capture != nil {
		source = b.capture.newLookup().In(b.capture.bound.Load().Path())
	}
	defer source.Close(ctx)
	var list []console.Tenant
	err := source.Query(ctx, b.Console.TenantsSQL, nil, func(columns []pgconn.FieldDescription) error {
		if len(columns) != 2 {
			return fmt.Errorf("the query returns %d columns; it has to return two, id and name", len(columns))
		}
		return nil
	}, func(row []cdc.Datum) error {
		if len(list) == maxTenants {
			return fmt.Errorf("the query returns more than %d rows", maxTenants)
		}
		if row[0].State == cdc.Present {
			list = append(list, console.Tenant{ID: string(row[0].Text), Name: string(row[1].Text)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read console.tenants.sql: %w", cdc.Redacted(err))
	}
	return list, nil
}
