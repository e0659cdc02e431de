package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"gancho/cdc"
)

//go:embed gancho/*.sql
var files embed.FS

const (
	directory = "gancho"
	// versionTable is goose's: it says what has been applied.
	versionTable = "gancho.schema_version"
	// lockID is Gancho's own, so that the legacy system's goose, if it has one,
	// never waits for it: "gancho" in ASCII.
	lockID = 0x67616e63686f
)

// ErrNewer says that the schema has been migrated by a newer version of the program.
var ErrNewer = errors.New("the schema gancho is newer than this program; install the newer gancho here, too")

// Apply brings the schema gancho of a database up to date and returns the
// names of the migrations that it applied, in order; none: it was up to date.
// Those applied before an error are returned with it, and stay.
//
// Each migration is a transaction. Processes that call it at the same time wait
// for each other. The role needs the right to create schemas in the database or,
// when the schema exists, to create in it. ErrNewer: a newer program has migrated
// it, ErrForeign: it may be another's; in both cases nothing was done.
func Apply(ctx context.Context, dsn string) ([]string, error) {
	return applyTo(ctx, dsn, math.MaxInt64)
}

// applyTo is Apply up to a version.
func applyTo(ctx context.Context, dsn string, version int64) ([]string, error) {
	db, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }() // the session's end releases the lock
	own, err := ownSession(ctx, db)
	if err != nil {
		return nil, err
	}
	if !own { // the lock and its timeout would stay in a session that others use
		missing, err := pending(ctx, db)
		if err == nil && len(missing) > 0 {
			err = errShared
		}
		return nil, err
	}
	if err := prepare(ctx, db); err != nil {
		return nil, err
	}
	source, err := fs.Sub(files, directory)
	if err != nil {
		return nil, fmt.Errorf("open migrations: %w", err)
	}
	// goose's own lock would not cover the creation of its table of versions;
	// prepare's covers everything, because there is only one connection.
	// Out of order: a step whose number is below another's may be merged after that one.
	provider, err := goose.NewProvider(goose.DialectPostgres, db, source,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithAllowOutofOrder(true))
	if err != nil {
		return nil, fmt.Errorf("open migrations: %w", err)
	}
	results, err := provider.UpTo(ctx, version)
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		results, err = partial.Applied, partial.Err
	}
	var applied []string
	for _, r := range results {
		applied = append(applied, path.Base(r.Source.Path))
	}
	if err != nil {
		return applied, fmt.Errorf("migrate the schema gancho: %w", err)
	}
	return applied, nil
}

// Pending returns the names of what Apply would apply, and changes nothing.
// ErrNewer: a newer program has migrated the schema. ErrForeign: it may be another's.
func Pending(ctx context.Context, dsn string) ([]string, error) {
	db, err := connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	return pending(ctx, db)
}

// connect returns a pool of one connection: what Apply locks is its session's.
func connect(ctx context.Context, dsn string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read state.dsn: %w", cdc.ErrDSN)
	}
	cdc.PinSession(&config.Config, map[string]string{
		"application_name": "gancho-migrate", "statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
	})
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(1)
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("connect to the state database: %w", cdc.Redacted(err))
	}
	return db, nil
}

// errShared: a migration needs a session of its own.
var errShared = errors.New("a migration needs a session of its own, and between gancho and the server is a pooler; run gancho migrate with a state.dsn that leads to the server itself")

// ownSession reports whether the session stays ours: through a pooler another
// process answers than the one that greeted us.
func ownSession(ctx context.Context, db *sql.DB) (own bool, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, fmt.Errorf("connect to the state database: %w", cdc.Redacted(err))
	}
	defer func() { _ = conn.Close() }() // back to the pool of one
	var pid uint32
	if err := conn.QueryRowContext(ctx, `select pg_backend_pid()`).Scan(&pid); err != nil {
		return false, fmt.Errorf("connect to the state database: %w", err)
	}
	err = conn.Raw(func(driver any) error {
		c, ok := driver.(*stdlib.Conn)
		own = ok && c.Conn().PgConn().PID() == pid
		return nil
	})
	return own, err
}

// prepare waits for the lock and creates the schema. CREATE SCHEMA IF NOT EXISTS
// would need a right that is not necessary when it exists.
func prepare(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, `select pg_advisory_lock($1)`, int64(lockID)); err != nil {
		return fmt.Errorf("wait for another gancho migrate: %w", err)
	}
	// While a running bridge uses a table for long, all others would wait behind us.
	if _, err := db.ExecContext(ctx, `set lock_timeout = '30s'`); err != nil {
		return fmt.Errorf("prepare the migration: %w", err)
	}
	var exists bool
	if err := db.QueryRowContext(ctx, `select to_regnamespace('gancho') is not null`).Scan(&exists); err != nil {
		return fmt.Errorf("find the schema gancho: %w", err)
	}
	if !exists {
		_, err := db.ExecContext(ctx, `create schema gancho`)
		switch {
		case cdc.FaultOf(err) == cdc.FaultDenied:
			return fmt.Errorf("create the schema gancho: %w; run CREATE SCHEMA gancho AUTHORIZATION <the role of state.dsn> as a superuser, or grant it CREATE on the database", err)
		case err != nil:
			return fmt.Errorf("create the schema gancho: %w", err)
		}
	}
	_, err := pending(ctx, db)
	return err
}

// pending compares the versions that have been applied with the files. goose's
// own check would create its table.
func pending(ctx context.Context, db *sql.DB) ([]string, error) {
	if err := checkTrust(ctx, db); err != nil {
		return nil, err
	}
	applied, err := versions(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("read the version of the schema gancho: %w", err)
	}
	entries, err := files.ReadDir(directory)
	if err != nil {
		return nil, fmt.Errorf("open migrations: %w", err)
	}
	var names []string
	for _, e := range entries {
		version, err := goose.NumericComponent(e.Name())
		if err != nil {
			return nil, fmt.Errorf("open migrations: %w", err)
		}
		if i := slices.Index(applied, version); i >= 0 {
			applied = slices.Delete(applied, i, i+1)
			continue
		}
		names = append(names, e.Name())
	}
	if len(applied) > 0 {
		return nil, ErrNewer
	}
	return names, nil
}

// versions are those that have been applied.
func versions(ctx context.Context, db *sql.DB) ([]int64, error) {
	var exists bool
	if err := db.QueryRowContext(ctx, `select to_regclass('`+versionTable+`') is not null`).Scan(&exists); err != nil || !exists {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `select version_id from `+versionTable+` where version_id > 0 and is_applied`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []int64
	for rows.Next() {
		var v int64
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
