package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/migrations"
)

const (
	applicationName = "gancho-state"
	// askTimeout bounds what everything waits for: reading the endpoints.
	askTimeout = 10 * time.Second
	// patience is longer than the server works on a statement (statement_timeout): a
	// connection that is silent for so long is dead, as after the failover of a
	// host. TCP itself would notice after a quarter of an hour.
	patience = 2 * time.Minute
)

// Pool is the share that one use of the state has of the server, which is often the
// legacy system's: its most connections, and how long the server works on one of its
// statements.
type Pool struct {
	// Name is in the application_name of its connections, behind gancho-state-.
	Name        string
	Connections int32
	Timeout     time.Duration
}

// mainPool is of the Store that Open returns: the log's writer, the endpoints, and one
// to spare.
var mainPool = Pool{Connections: 4, Timeout: time.Minute}

// Options are what a Store needs.
type Options struct {
	DSN string
	// Keyring encrypts endpoints and secrets. Without one they cannot be read
	// or stored (ErrKeys); everything else can.
	Keyring *Keyring
	Logger  zerolog.Logger
}

// Store is the state in PostgreSQL. It is safe for concurrent use. Its errors
// are ErrNotFound, ErrConflict, ErrLimit, ErrSchema, ErrUnreachable (try again), *KeyError,
// or others, wrapped; they hold neither secrets nor row data.
type Store struct {
	pool   *pgxpool.Pool
	dsn    string
	keys   *Keyring
	logger zerolog.Logger
	text   encoding
	limits Limits
	source string       // see Of
	fields *knownFields // of those that Of and Apart return, too
	// forgets is how often somebody had been forgotten when what is written was read; nil: it
	// does not matter. See Intake.
	forgets *int64
}

// Open connects to the state database and checks its schema: ErrUnreachable,
// or ErrSchema when migrations are pending or a newer program has applied some
// (then it is migrations.ErrNewer, too).
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := poolConfig(o.DSN, mainPool)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", explain(err))
	}
	s := &Store{pool: pool, dsn: o.DSN, keys: o.Keyring, logger: o.Logger, fields: &knownFields{}}
	if err := s.begin(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// begin checks the server's encoding, the role's rights and the schema.
func (s *Store) begin(ctx context.Context) error {
	var server, grant string
	var temporary bool
	err := s.pool.QueryRow(ctx, `select current_setting('server_encoding'), has_database_privilege(current_database(), 'TEMPORARY'),
		format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user)`).Scan(&server, &temporary, &grant)
	if err != nil {
		return fmt.Errorf("connect to the state database: %w", explain(err))
	}
	if !temporary { // fail now, and not when the first delivery is logged
		return fmt.Errorf("open the state database: its role may not create temporary tables, through which the log is written; run %s", grant)
	}
	s.text = encodingOf(server)
	pending, err := migrations.Pending(ctx, s.dsn)
	switch {
	case errors.Is(err, migrations.ErrNewer):
		return fmt.Errorf("%w: %w", ErrSchema, err)
	case err != nil:
		return explain(err)
	case len(pending) > 0:
		return fmt.Errorf("%w (%d steps, the first is %s)", ErrSchema, len(pending), pending[0])
	}
	return nil
}

// Apart returns the same state over a pool of its own, so that those who use one wait
// for nobody who uses the other. It connects when it is used. Both are to be closed.
func (s *Store) Apart(p Pool) (*Store, error) {
	config, err := poolConfig(s.dsn, p)
	if err != nil {
		return nil, err
	}
	out := *s
	if out.pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		return nil, fmt.Errorf("connect to the state database: %w", explain(err))
	}
	return &out, nil
}

// Close closes the connections, when they are idle.
func (s *Store) Close() { s.pool.Close() }

// KeyIDs are the ids of the keys, the one that encrypts first; nil without keys.
func (s *Store) KeyIDs() []string {
	if s.keys == nil {
		return nil
	}
	return s.keys.IDs()
}

// poolConfig pins what the settings of a role or database could change.
func poolConfig(dsn string, p Pool) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read state.dsn: %w", cdc.ErrDSN)
	}
	config.MaxConns = p.Connections
	name := applicationName
	if p.Name != "" {
		name += "-" + p.Name
	}
	config.MaxConnIdleTime = 5 * time.Minute
	cdc.PinSession(&config.ConnConfig.Config, map[string]string{
		"application_name":                    name,
		"statement_timeout":                   strconv.FormatInt(p.Timeout.Milliseconds(), 10),
		"lock_timeout":                        "10s",
		"idle_in_transaction_session_timeout": "60s",
		"default_transaction_isolation":       "read committed",
		"default_transaction_read_only":       "off",
		// Filters differ from call to call: no generic plan fits them all.
		"plan_cache_mode": "force_custom_plan",
		// Over the partitions of many days it compiles for 0.3 s what then takes 10 ms.
		"jit": "off",
	})
	return config, nil
}

// write runs f in a transaction; what is the beginning of its errors.
func (s *Store) write(ctx context.Context, what string, f func(pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := pgx.BeginFunc(ctx, s.pool, f); err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return nil
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, s *Store, what, sql string, args []any, scan pgx.RowToFunc[T]) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rows, _ := s.pool.Query(ctx, sql, args...) // CollectRows returns its error
	out, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, explain(err))
	}
	return out, nil
}

// collectOne reads the only row of a query: ErrNotFound.
func collectOne[T any](ctx context.Context, s *Store, what, sql string, args []any, scan pgx.RowToFunc[T]) (T, error) {
	rows, err := collect(ctx, s, what, sql, args, scan)
	if err == nil && len(rows) == 0 {
		err = fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	if err != nil {
		return *new(T), err
	}
	return rows[0], nil
}

// leadingColumns lets a scan function read a row that has more columns before its own.
type leadingColumns struct {
	pgx.CollectableRow
	first []any
}

// Scan reads the row's first columns into first and the others into to.
func (r leadingColumns) Scan(to ...any) error {
	return r.CollectableRow.Scan(append(append([]any{}, r.first...), to...)...)
}

// moment is a time as it is stored: null when it is not set.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// orNil is a text that is null when it is empty.
func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// utc reads it back.
func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// allNew is the conflict of rows of which none should exist: if one does, isTaken, and
// nothing was written.
const allNew = ""

// copyIn writes n rows to a table by COPY. Those that exist are treated as conflict, the
// clause of ON CONFLICT, says. Because COPY itself cannot do that, it goes to a temporary
// table, which the session keeps, unless they are allNew. days are the times that decide about the rows'
// partitions; nil: the table has none.
func (s *Store) copyIn(ctx context.Context, name, columns, conflict string, days []time.Time, n int, row func(int) []any) error {
	if n == 0 {
		return nil
	}
	return s.copyDays(ctx, name, columns, conflict, days, copyValues(n, row))
}

// copyDays is copyIn of what copies rows itself.
func (s *Store) copyDays(ctx context.Context, name, columns, conflict string, days []time.Time, rows copier) error {
	what := "write " + strings.TrimPrefix(name, "gancho.")
	if err := s.ensureDays(ctx, name, days); err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	copyRows := func(kept bool) error {
		return s.write(ctx, what, func(tx pgx.Tx) error {
			if err := s.checkForgets(ctx, tx); err != nil {
				return err
			}
			if kept {
				if err := keepDays(ctx, tx, name, days); err != nil {
					return err
				}
			}
			return copyOnce(ctx, tx, name, columns, conflict, rows)
		})
	}
	err := copyRows(false)
	if cdc.SQLState(err) == cdc.CodeCheckViolation { // Maintain, in another process, has dropped an old day between the two
		err = copyRows(true)
	}
	return err
}

func copyOnce(ctx context.Context, tx pgx.Tx, name, columns, conflict string, rows copier) error {
	if conflict == allNew {
		return rows(ctx, tx, strings.Split(name, "."), columns)
	}
	stage := "gancho_" + strings.TrimPrefix(name, "gancho.")
	_, err := tx.Exec(ctx, fmt.Sprintf(`create temporary table if not exists %s on commit delete rows as select %s from %s with no data`, stage, columns, name))
	if err != nil {
		return err
	}
	if err = rows(ctx, tx, pgx.Identifier{"pg_temp", stage}, columns); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`insert into %[1]s (%[2]s) select %[2]s from pg_temp.%[3]s on conflict %[4]s`, name, columns, stage, conflict))
	return err
}

// Errors that the caller acts on.
var (
	// ErrNotFound: the row does not exist, or belongs to another tenant.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the name is taken, or the row has changed since it was read.
	ErrConflict = errors.New("it was changed or taken meanwhile")
	// ErrSchema: the schema gancho is missing or older than this program.
	ErrSchema = errors.New("the schema gancho is missing or out of date; run gancho migrate")
	// ErrUnreachable: the database does not answer, or not now. Try again.
	ErrUnreachable = errors.New("the state database is unreachable")
	// ErrSlow is the ErrUnreachable of a statement that the server works on for longer
	// than its Pool allows.
	ErrSlow = fmt.Errorf("%w, or a statement takes too long", ErrUnreachable)
	// ErrBusy is the ErrUnreachable of a statement that another session is in the way of: it has
	// locked a row, or each waits for the other.
	ErrBusy error = busyError{}
	// ErrForgotten: since Intake somebody was forgotten, and what is to be stored may be of
	// whom. Read it again.
	ErrForgotten = errors.New("somebody was forgotten meanwhile")
	// ErrKeys: an endpoint is to be stored or read, and there is no key to encrypt it with.
	ErrKeys = errors.New("state.key is not set")
)

// busyError is ErrBusy, whose text does not say that nobody answers.
type busyError struct{}

func (busyError) Error() string {
	return "another session of the state database is in the way (see pg_stat_activity); try again"
}

func (busyError) Unwrap() error { return ErrUnreachable }

// explain wraps an error of the database in the one that the caller acts on.
func explain(err error) error {
	err = cdc.Redacted(err)
	switch fault := cdc.FaultOf(err); {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case cdc.SQLState(err) == cdc.CodeQueryCanceled:
		return fmt.Errorf("%w: %w", ErrSlow, err)
	case fault == cdc.FaultTransient && cdc.SQLState(err) != cdc.CodeReadOnly:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case fault.Passing(), cdc.SQLState(err) == cdc.CodeReadOnly: // until the failover is done
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case fault == cdc.FaultSchema:
		return fmt.Errorf("%w: %w", ErrSchema, err)
	}
	return err
}

// isTaken reports whether a unique value exists already.
func isTaken(err error) bool { return cdc.SQLState(err) == cdc.CodeUniqueViolation }
