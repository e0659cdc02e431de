package demo

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gancho/migrations"
)

//go:embed rows.sql
var rows string

// Load fills an empty database with the legacy system's: schema, seed, the demo's
// rows, and what a DBA sets up for Gancho.
func Load(ctx context.Context, conn *pgx.Conn) error { return load(ctx, conn, rows) }

// loadSeed is Load without the demo's rows, whose ids are those of the scenes.
func loadSeed(ctx context.Context, conn *pgx.Conn) error { return load(ctx, conn, "") }

func load(ctx context.Context, conn *pgx.Conn, rows string) error {
	schema, seed, identity := migrations.Legacy()
	for _, script := range []struct{ name, sql string }{
		{"schema", schema}, {"seed", seed}, {"rows", rows}, {"identity", identity},
	} {
		if _, err := conn.Exec(ctx, script.sql); err != nil {
			return fmt.Errorf("load the legacy %s: %w", script.name, err)
		}
	}
	return nil
}
