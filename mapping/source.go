package mapping

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/internal/retry"
)

const (
	// queryTimeout is the statement_timeout of the source's session, unless the
	// DSN sets one.
	queryTimeout = 30 * time.Second
	// visibleWaitMin and visibleWaitMax bound the time between two checks whether
	// a transaction is visible.
	visibleWaitMin = time.Millisecond
	visibleWaitMax = 50 * time.Millisecond
	// retryWaitMin and retryWaitMax bound the backoff between two attempts, without its jitter.
	retryWaitMin = 100 * time.Millisecond
	retryWaitMax = 5 * time.Second
	// networkTime is how long after the statement_timeout an answer may arrive.
	networkTime = 10 * time.Second
	// logEvery is how often a lasting failure is logged.
	logEvery = 30 * time.Second
)

// Source reads the source database for what a change does not carry, over a
// connection of its own, opened at the first use and again after it is lost. Its
// session is read-only, and its values have the text forms of the stream. It
// belongs to one goroutine.
type Source struct {
	dsn      string
	encoding cdc.Encoding
	log      zerolog.Logger
	conn     *pgx.Conn
	// path is the search_path, that of the rules; pathNow is the connection's.
	path, pathNow string
	// settings is the statement that a pooler makes necessary before each query,
	// in its transaction; "" on a connection of our own.
	settings string
	// identity is the database that must answer; nil: any.
	identity *cdc.Identity
	// waiting is what reading waits for, nil while it does not.
	waiting atomic.Pointer[error]
	// denied is why the server does not let us read, by what is read.
	denied   map[string]*lostPrivilege
	deniedMu sync.Mutex
	// limit is the session's statement_timeout and what the network may take.
	limit time.Duration
	// standby: the server replays the WAL of another one.
	standby bool
	// seen is the newest snapshot of this connection.
	seen snapshot
	// queries so far; waiting for a transaction counts as one.
	queries int
	// waiter is what the log says that waits while the source cannot be read; "": capture.
	waiter string
	// paused is called before every wait; tests set it.
	paused func()
}

// NewSource returns a reader of the database; nothing is opened yet. The
// database may be a replica of the one that the stream comes from, and has its
// encoding.
func NewSource(dsn string, encoding cdc.Encoding, log zerolog.Logger) *Source {
	return &Source{dsn: dsn, encoding: encoding, log: log}
}

// Of makes every connection that follows fail unless it leads to the database
// that the stream comes from, there or on a physical replica.
func (s *Source) Of(identity cdc.Identity) *Source {
	s.identity = &identity
	return s
}

// For has the log say, where it is not capture that waits while the source cannot be read, what does: timers wait for it.
func (s *Source) For(waiter string) *Source {
	s.waiter = waiter
	return s
}

// In has the names of queries found along a search_path, as those of the rules are: Ruleset.Path. Without one, queries name
// schemas.
func (s *Source) In(path string) *Source {
	s.path = path
	return s
}

// Close closes the connection. The Source may be used again.
func (s *Source) Close(ctx context.Context) {
	if s.conn != nil {
		_ = s.conn.Close(context.WithoutCancel(ctx)) // nothing is in flight
		s.conn = nil
	}
}

// connect opens the connection unless it is open.
func (s *Source) connect(ctx context.Context) error {
	if s.conn != nil && !s.conn.IsClosed() && s.path == s.pathNow {
		return nil
	}
	s.Close(ctx)
	conn, settings, err := cdc.ConnectLikeStream(ctx, s.dsn, s.encoding, s.path, map[string]string{
		"statement_timeout": strconv.FormatInt(queryTimeout.Milliseconds(), 10) + "ms",
	})
	if err != nil {
		return err
	}
	s.pathNow = s.path
	s.conn, s.settings, s.seen, s.limit = conn, settings, snapshot{}, queryTimeout
	err = s.examine(ctx)
	if err != nil {
		s.Close(ctx)
	}
	return err
}

// examine reads who answers, and how long a statement may take there.
func (s *Source) examine(ctx context.Context) error {
	replica, timeout, err := s.readPair(ctx, `select pg_is_in_recovery()::text, (extract(epoch from current_setting('statement_timeout')::interval) * 1000)::bigint::text`)
	if err != nil {
		return fmt.Errorf("prepare a session: %w", err)
	}
	ms, err := strconv.ParseInt(timeout, 10, 64)
	if err != nil {
		return fmt.Errorf("read statement_timeout: %w", err)
	}
	s.standby, s.limit = replica == "true", time.Duration(ms)*time.Millisecond+networkTime
	if ms == 0 {
		s.limit = math.MaxInt64
	}
	if s.identity == nil {
		return nil
	}
	is, err := cdc.LoadIdentity(ctx, s.conn)
	switch {
	case err != nil:
		return err
	case is.SystemID == "" || s.identity.SystemID == "":
		s.log.Warn().Msg("cannot check that source.lookup_dsn leads to the same server as source.dsn, or to a replica of it; grant EXECUTE on function pg_control_system() to their roles")
	case is.SystemID != s.identity.SystemID:
		return fmt.Errorf("%w: source.lookup_dsn leads to system %s, and the stream comes from %s; write the DSN of the same database, there or on a physical replica",
			errOtherDatabase, is.SystemID, s.identity.SystemID)
	}
	if is.Database != s.identity.Database {
		return fmt.Errorf("%w: source.lookup_dsn leads to database %q, and the stream comes from %q; write the DSN of the same database",
			errOtherDatabase, is.Database, s.identity.Database)
	}
	return nil
}

// readPair reads a row of two texts.
func (s *Source) readPair(ctx context.Context, sql string) (first, second string, err error) {
	err = s.run(ctx, []string{s.settings}, sql, nil, nil, func(row []cdc.Datum) error {
		first, second = string(row[0].Text), string(row[1].Text)
		return nil
	})
	return first, second, err
}

// Check checks that the database lets us run what the rules read, and that it is
// the right one. The error is a [*MistakesError] with all that is refused, which Denials has, too,
// or another one.
func (s *Source) Check(ctx context.Context, rs *Ruleset) error {
	s.path = rs.path
	if err := s.checkRole(ctx, rs); err != nil {
		return err
	}
	found := binder{conn: s.conn, options: Options{Encoding: s.encoding}}
	for _, q := range rs.queries() {
		err := s.try(ctx, q)
		if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && (!refused || cdc.FaultOf(err).Passing()) {
			return fmt.Errorf("%s: read for the rule with the role of source.lookup_dsn (source.dsn without it): %w", q.value.Place(), err)
		}
		if err == nil {
			continue
		}
		r, denied := words("%s", refusalHint(err)), s.explain(ctx, q.what, err, q.sql, rs.denied)
		if d, ok := errors.AsType[*denial](denied); ok {
			r = d.remedy
		}
		if isDenied(denied) {
			found.denials++
			found.lacking = append(found.lacking, q.rules...)
			s.remember(q.what, denied, q.refused())
		}
		found.propose("privilege."+q.kind, q.value, -1, r, "%s: the role of source.lookup_dsn (source.dsn without it) cannot read for the rule: %v", q.title, withoutData(err))
	}
	found.conn = s.conn
	return found.mistakes(ctx, rs)
}

// checkRole checks that names resolve as they did when the rules were bound, because
// the server skips a schema of the path that the role may not use, and that it is the
// role of which was asked then what it may read.
func (s *Source) checkRole(ctx context.Context, rs *Ruleset) error {
	if !slices.ContainsFunc(rs.readers(), func(b *boundRule) bool { return len(b.lookups) > 0 }) {
		return nil
	}
	if rs.reader != "" {
		is, err := s.Login(ctx)
		if err == nil && is != rs.reader {
			err = fmt.Errorf("lookups run as role %s, and their check for privacy.deny was made for %s; let source.lookup_dsn (source.dsn without it) always lead to the server as the same role", is, rs.reader)
		}
		if err != nil {
			return err
		}
	}
	return s.Query(ctx, `
		with named as (
			select typnamespace as space, 't' as kind, typname as name from pg_catalog.pg_type -- each table has a type
			union all select pronamespace, 'f', proname from pg_catalog.pg_proc
			union all select oprnamespace, 'o', oprname from pg_catalog.pg_operator)
		select pg_catalog.format('GRANT USAGE ON SCHEMA %s TO %I;', pg_catalog.string_agg(pg_catalog.quote_ident(n.nspname), ', ' order by n.nspname), current_user)
		from pg_catalog.pg_namespace n where n.nspname = any($1::name[]) and not pg_catalog.has_schema_privilege(n.oid, 'USAGE')
		having pg_catalog.bool_or(exists (select from named a join named b using (kind, name) join pg_catalog.pg_namespace o on o.oid = b.space
				where a.space = n.oid and b.space <> n.oid and o.nspname = any($1::name[] || 'pg_catalog'::name)))`,
		[][]byte{[]byte(rs.schemas)}, nil, func(row []cdc.Datum) error {
			return fmt.Errorf("the role of source.lookup_dsn (source.dsn without it) may not use schemas in which lookups find names, and others have the same names: run %s", row[0].Text)
		})
}

// Login returns the name of the role that has logged in, which a pooler may have chosen. What
// a lookup calls may have the rights of all roles that this one may become.
func (s *Source) Login(ctx context.Context) (role string, err error) {
	err = s.Query(ctx, "select session_user::text", nil, nil, func(row []cdc.Datum) error {
		role = string(row[0].Text)
		return nil
	})
	return role, err
}

// Role returns the name of the role that reads, which a pooler may have chosen, and
// whether it is a superuser's: no privilege and no row-level security holds for it.
func (s *Source) Role(ctx context.Context) (role string, superuser bool, err error) {
	err = s.Query(ctx, "select rolname::text, rolsuper::text from pg_catalog.pg_roles where rolname = current_user", nil, nil, func(row []cdc.Datum) error {
		role, superuser = string(row[0].Text), string(row[1].Text) == "true"
		return nil
	})
	return role, superuser, err
}

// errOtherDatabase: what is read there has nothing to do with the stream.
var errOtherDatabase = errors.New("lookups would read another database")

// Waiting returns what reading waits for, nil while it does not. Safe from any
// goroutine.
func (s *Source) Waiting() error {
	if err := s.waiting.Load(); err != nil {
		return *err
	}
	return nil
}

// Query runs one statement in a read-only transaction and calls each for every
// row of its result, and described, unless it is nil, with the result's columns
// before the first one. Arguments are text forms, nil is null; their types are
// what the statement makes of them. A row's values are valid only until each
// returns. An error of described or each ends the query and is returned.
func (s *Source) Query(ctx context.Context, sql string, args [][]byte, described func([]pgconn.FieldDescription) error, each func(row []cdc.Datum) error) error {
	return s.queryAfter(ctx, "", sql, args, described, each)
}

// queryAfter is Query, with a statement before it in its transaction; "" for none.
func (s *Source) queryAfter(ctx context.Context, session, sql string, args [][]byte, described func([]pgconn.FieldDescription) error, each func(row []cdc.Datum) error) error {
	s.queries++
	if err := s.connect(ctx); err != nil {
		return fmt.Errorf("query the source: %w", err)
	}
	if err := s.run(ctx, []string{s.settings, session}, sql, args, described, each); err != nil {
		return fmt.Errorf("query the source: %w", err)
	}
	return nil
}

// run is Query on the open connection. All goes out at once, which is one
// transaction, over a pooler as well.
func (s *Source) run(ctx context.Context, before []string, sql string, args [][]byte, described func([]pgconn.FieldDescription) error, each func(row []cdc.Datum) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	if s.encoding != "" {
		sql, args = s.encoding.Encode(sql), slices.Clone(args)
		for i, arg := range args {
			if arg != nil {
				args[i] = []byte(s.encoding.Encode(string(arg)))
			}
		}
	}
	batch := &pgconn.Batch{}
	before = slices.DeleteFunc(before, func(sql string) bool { return sql == "" })
	for _, sql := range before {
		batch.ExecParams(sql, nil, nil, nil, nil)
	}
	batch.ExecParams(sql, args, nil, nil, nil)
	results := s.conn.PgConn().ExecBatch(ctx, batch)
	for range before {
		if results.NextResult() {
			_, _ = results.ResultReader().Close() // results.Close has its error
		}
	}
	stopped := s.readRows(results, described, each)
	if err := results.Close(); err != nil {
		return err
	}
	return stopped
}

// readRows reads the next result to its end, so that the connection can be used
// again.
func (s *Source) readRows(results *pgconn.MultiResultReader, described func([]pgconn.FieldDescription) error, each func(row []cdc.Datum) error) error {
	if !results.NextResult() {
		return nil
	}
	rows := results.ResultReader()
	var row []cdc.Datum
	var converted []byte
	var stopped error
	first := true
	for rows.NextRow() {
		if first && described != nil {
			stopped = described(rows.FieldDescriptions())
		}
		first = false
		if stopped != nil {
			continue
		}
		row, converted = row[:0], converted[:0]
		for _, text := range rows.Values() {
			d := cdc.Datum{State: cdc.Null}
			if text != nil {
				d = cdc.Datum{State: cdc.Present, Text: text}
				converted = s.encoding.Convert(&d, converted)
			}
			row = append(row, d)
		}
		stopped = each(row)
	}
	_, _ = rows.Close() // results.Close has its error
	return stopped
}

// retry calls attempt until it succeeds, the context ends, or its error is one
// that another attempt cannot fix. Capture waits meanwhile: an event is late
// rather than sent without its values.
func (s *Source) retry(ctx context.Context, what string, attempt func() error) error {
	var logged time.Time
	try := func() (struct{}, error) { return struct{}{}, attempt() }
	defer s.waiting.Store(nil)
	_, err := retry.Do(ctx, retry.Backoff{Min: retryWaitMin, Max: retryWaitMax}, try, func(err error) bool {
		if isRefused(err) || errors.Is(err, errPermanent) {
			return false
		}
		shown := fmt.Errorf("%s: %w", what, withoutData(err))
		s.waiting.Store(&shown)
		if time.Since(logged) >= logEvery {
			logged = time.Now()
			s.log.Error().Err(withoutData(err)).Str("for", what).Msg("reading the source failed; " + cmp.Or(s.waiter, "capture waits and retries"))
		}
		if s.paused != nil {
			s.paused()
		}
		return true
	})
	if err == nil && !logged.IsZero() {
		s.log.Info().Str("for", what).Msg("the source is available again")
	}
	return err
}

// readInParts reads what is wanted in one go, unless that takes the server too
// long or it refuses a value of one. It returns what is left when read fails
// because the query no longer fits the database. Every attempt waits until the
// transactions are visible, because another server may answer by then.
func readInParts[T any](ctx context.Context, s *Source, what string, txs []*cdc.Transaction, wanted []T,
	read func([]T) error, refused func(T, error),
) ([]T, error) {
	for size := len(wanted); len(wanted) > 0; {
		n := min(size, len(wanted))
		err := s.retry(ctx, what, func() error {
			for _, tx := range txs {
				if err := s.Visible(ctx, tx); err != nil {
					return err
				}
			}
			err := read(wanted[:n])
			slow := cdc.FaultOf(err) == cdc.FaultTimeout && n > 1 && ctx.Err() == nil
			if slow {
				s.log.Warn().Str("for", what).Int("changes", n).
					Msg("a query took too long; it is retried for fewer changes at a time; check that an index serves it")
			}
			if slow || isBroken(err) {
				return fmt.Errorf("%w: %w", errPermanent, err)
			}
			return err
		})
		switch {
		case err == nil:
			wanted, size = wanted[n:], 2*n
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, ErrTooMuch) || isSchemaError(err): // it is no other with fewer
			return wanted, err
		case !isBroken(err) && n > 1:
			size = n / 2
		case isRefused(err): // only this one fails
			refused(wanted[0], err)
			wanted, size = wanted[1:], 1
		default:
			return wanted, err
		}
	}
	return nil, nil
}

func isSchemaError(err error) bool {
	_, is := errors.AsType[*SchemaError](err)
	return is
}

// errPermanent is wrapped by errors that another attempt cannot fix.
var errPermanent = errors.New("another attempt cannot fix it")

// withoutData keeps of a server's error what holds no row data: messages of
// data errors quote values, and those of routines are what their authors wrote.
func withoutData(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch {
	case cdc.FaultOf(err) == cdc.FaultDenied && pg.Where != "":
		return fmt.Errorf("a routine that it calls lacks a privilege (SQLSTATE %s)", pg.Code)
	case isRefused(err) || pg.Where != "":
		return fmt.Errorf("the server refuses a value (SQLSTATE %s)", pg.Code)
	}
	return fmt.Errorf("%s (SQLSTATE %s)", pg.Message, pg.Code)
}

// appendElement appends an element to the text form of an array, without the closing
// brace; null stands for SQL's null.
func appendElement(array, text []byte, null bool) []byte {
	opening := byte(',')
	if len(array) == 0 {
		opening = '{'
	}
	array = append(array, opening)
	if null {
		return append(array, "NULL"...)
	}
	return pgtext.AppendArrayElement(array, text, ',')
}
