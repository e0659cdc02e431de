package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"gancho/internal/retry"
)

const (
	// repeatLog is how often a condition that lasts is logged again.
	repeatLog = time.Minute
	// catalogTimeout bounds one visit to the catalogue: a connection that died
	// without a word would hold up the stream until TCP notices.
	catalogTimeout = time.Minute
)

// reconnect returns the backoff between two streams.
func reconnect() retry.Backoff {
	return retry.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second}
}

// Reader streams a source's changes to a handler. It is for one Run.
type Reader struct {
	options Options
	source  *Source
	types   *Types
	decoder *decoder
	young   *young // see young.go; nil: no publication is left out

	confirmed atomic.Uint64
	wake      chan struct{} // holds one signal: confirmed has risen
	ask       chan struct{} // holds one signal: see Ask

	redescribe atomic.Uint64 // see Redescribe; 0: nothing to do
	skip       atomic.Uint64 // see Skip; 0: nothing
	admit      func(context.Context, Identity) error

	lazily  bool                   // see LoadLazily
	glance  bool                   // see Glance
	resting atomic.Bool            // see Resting
	blind   atomic.Bool            // see Blind
	rewound atomic.Bool            // Rewind was called while it rested
	started atomic.Pointer[string] // see ServerStarted; nil before the first stream

	current atomic.Pointer[session] // the one that streams, nil between two
	waiting atomic.Pointer[error]   // why it does not stream, nil while it does
}

// NewReader returns a reader of what [Prepare] found.
func NewReader(o Options, source *Source) *Reader {
	r := &Reader{options: o, source: source, types: NewTypes(o.Encoding), wake: make(chan struct{}, 1), ask: make(chan struct{}, 1)}
	r.decoder = newDecoder(r.types, r.loadTypes)
	r.decoder.log, r.decoder.encoding = o.Log, o.Encoding
	return r
}

// Confirm lets the server forget everything that was committed before lsn (a
// [Transaction]'s End, or the position of a Keepalive). It goes out within some
// 20 ms, together with what else is confirmed until then. A position below an
// earlier one changes nothing. Safe from any goroutine.
func (r *Reader) Confirm(lsn LSN) {
	for {
		old := r.confirmed.Load()
		if uint64(lsn) <= old {
			return
		}
		if r.confirmed.CompareAndSwap(old, uint64(lsn)) {
			break
		}
	}
	select {
	case r.wake <- struct{}{}:
	default: // one is pending
	}
}

// Ask has the server say how far the stream is: an idle one does so by itself only now and then. The answer is
// a Keepalive. Safe from any goroutine.
func (r *Reader) Ask() {
	select {
	case r.ask <- struct{}{}:
	default: // one is pending
	}
}

// Confirmed returns the newest position given to Confirm, 0 before the first.
func (r *Reader) Confirmed() LSN { return LSN(r.confirmed.Load()) }

// Streaming reports whether the reader streams at the moment, or would if there were anything (see Resting). Safe from any goroutine.
func (r *Reader) Streaming() bool { return r.current.Load() != nil || r.Resting() }

// Waiting returns why the reader does not stream at the moment, nil while it does
// or when nothing is known yet. Safe from any goroutine.
func (r *Reader) Waiting() error {
	if err := r.waiting.Load(); err != nil {
		return *err
	}
	return nil
}

// Rewind drops the connection and streams again from the confirmed position,
// for a queue that has lost its tail. Until the handler's Reset is called,
// changes that were read before may still arrive; the handler must not append
// them, because the queue would then refuse those that come before them.
// Safe from any goroutine, the handler's too.
func (r *Reader) Rewind() {
	if s := r.current.Load(); s != nil {
		s.end(errRewind)
	} else if r.Resting() {
		r.rewound.Store(true)
		r.Ask()
	}
}

// Redescribe says that the replica identity of a partition was altered before the
// position from. The server describes a partition again only at its next change,
// which may be far; if one is weaker than its table until then (see
// [Relation.Weaker]), the stream starts again with the first transaction that commits
// at or after from. Safe from any goroutine.
func (r *Reader) Redescribe(from LSN) { r.redescribe.Store(uint64(from)) }

// Admit sets what decides, each time that the server has given us the slot and before anything is
// read of it, whether it is the one that was read before: somebody may have replaced it, or the
// server, while nobody was connected. An error of [Permanent] ends Run, another one is retried. Call
// it before Run.
func (r *Reader) Admit(admit func(context.Context, Identity) error) { r.admit = admit }

// LoadLazily has the first stream begin without all types of the database: those of the relations that it
// describes are read then, which is cheaper for one that is short. Call it before Run.
func (r *Reader) LoadLazily() { r.lazily = true }

// ServerStarted returns when the server was started that streams, or did last, as it says itself: as long as it is the same,
// so is the server's WAL that was there before. Empty: nothing has streamed. Safe from any goroutine.
func (r *Reader) ServerStarted() string {
	if at := r.started.Load(); at != nil {
		return *at
	}
	return ""
}

// Run streams until ctx ends, which returns nil, or an error is permanent. After
// a lost connection, during a restart of the server and while another process
// reads the slot it retries.
func (r *Reader) Run(ctx context.Context, h Handler) error {
	backoff, trouble := reconnect(), trouble{log: r.options.Log}
	described := false
	for failures := 1; ; failures++ {
		started := time.Now()
		streamed, err := r.stream(ctx, h)
		if streamed {
			trouble.code = "" // what was reported is over
		}
		if ctx.Err() != nil {
			// A shutdown causes all kinds of errors; only the handler's own matter.
			if handler, ok := errors.AsType[*handlerError](err); ok && !errors.Is(err, ctx.Err()) {
				return handler.err
			}
			return nil
		}
		if errors.Is(err, errRewind) {
			r.options.Log.Warn().Str("slot", r.options.Slot).Stringer("lsn", r.Confirmed()).Msg("stream rewound to the confirmed position")
			failures = 0
			continue
		}
		if errors.Is(err, errGrown) {
			r.young = nil
			continue
		}
		if errors.Is(err, errAsked) {
			failures = 0
			continue
		}
		if errors.Is(err, errSkipped) {
			r.options.Log.Warn().Str("slot", r.options.Slot).Stringer("lsn", LSN(r.skip.Swap(0))).Msg("stepped over the transaction, as gancho recover --skip has asked for; from the change on that the server cannot send, it makes no events")
			continue
		}
		if errors.Is(err, errRedescribe) {
			r.options.Log.Info().Str("slot", r.options.Slot).Stringer("lsn", r.Confirmed()).Msg("a partitioned table was altered; the stream starts again here, and its partitions are described as they are now")
			continue
		}
		if r.options.Temporary {
			return r.explainTemporary(ctx, streamed, err)
		}
		if unprintable := r.unprintable(err); unprintable != nil && r.decoder.unplaced() && !described {
			described = true
			r.awaitDescription(ctx)
			continue
		}
		if permanent(err) {
			again, failed := r.leaveOut(ctx, err)
			if again {
				continue
			}
			if failed == nil {
				return r.explain(ctx, err)
			}
			err = failed
		}
		if streamed && time.Since(started) > backoff.Max {
			failures = 1
		}
		r.waiting.Store(&err)
		trouble.report(r.options.Slot, err, streamed)
		if SQLState(err) == codeObjectInUse {
			failures = 0
			r.awaitFree(ctx)
			continue
		}
		if retry.Wait(ctx, backoff.Delay(failures)) != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// loadTypes asks the catalogue about types over a connection of its own: new
// types are rare, and an idle connection would hold up a smart shutdown.
func (r *Reader) loadTypes(ctx context.Context, oids []uint32) error {
	if len(oids) == 0 {
		return nil
	}
	return r.withCatalog(ctx, func(q querier) error { return r.types.Load(ctx, q, oids...) })
}

// ReloadTypes reads the types that the catalogue may have altered again; the
// stream does not say that. A type that was known and is another now is used from
// the next transaction on. Safe from any goroutine.
func (r *Reader) ReloadTypes(ctx context.Context) error {
	return r.withCatalog(ctx, func(q querier) error { return r.types.Preload(ctx, q) })
}

// TypesVersion rises when a type that was known has turned out to be altered, whoever
// has read it again: [Reader.ReloadTypes] or the stream. Safe from any goroutine.
func (r *Reader) TypesVersion() uint64 { return r.types.version.Load() }

// Composites returns the OIDs of the composite types that the reader knows. Safe
// from any goroutine.
func (r *Reader) Composites() []uint32 { return r.types.composites() }

func (r *Reader) withCatalog(ctx context.Context, f func(querier) error) error {
	ctx, cancel := context.WithTimeout(ctx, catalogTimeout)
	defer cancel()
	conn, err := Connect(ctx, r.options.DSN)
	if err != nil {
		return fmt.Errorf("connect to the source for its types: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return f(conn)
}

var (
	errRewind   = errors.New("rewind")
	errSkipped  = errors.New("a transaction was stepped over")
	errStopping = errors.New("the server is shutting down")
	errSilent   = errors.New("the server has been silent for too long")
	errEnded    = errors.New("the server ended the stream")
)

// handlerError marks what a handler returned.
type handlerError struct{ err error }

// Permanent marks an error with which a function given to [Reader.Admit] ends Run, which returns it.
func Permanent(err error) error { return handled(err) }

// handled marks a handler's error, if it is one.
func handled(err error) error {
	if err == nil {
		return nil
	}
	return &handlerError{err}
}

func (e *handlerError) Error() string { return e.err.Error() }
func (e *handlerError) Unwrap() error { return e.err }

// permanent reports whether another attempt is pointless.
func permanent(err error) bool {
	_, handler := errors.AsType[*handlerError](err)
	_, decode := errors.AsType[*DecodeError](err)
	_, identity := errors.AsType[*IdentityChangedError](err)
	if handler || decode || identity || errors.Is(err, ErrDSN) {
		return true
	}
	fault := FaultOf(err)
	return fault != FaultOther && !fault.Passing()
}

// explain says what to do about a permanent error.
func (r *Reader) explain(ctx context.Context, err error) error {
	if handler, ok := errors.AsType[*handlerError](err); ok {
		return handler.err
	}
	if name := r.missingPublication(err); name != "" {
		return fmt.Errorf("read slot %q: %w; publication %s did not exist when the next changes were made, and without it nobody can tell which belong to it: "+
			"create it if it does not exist, then run SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn()), which skips everything until now, start gancho run --accept-source once, and %s",
			r.options.Slot, err, QuoteIdentifier(name), quoteLiteral(r.options.Slot), reconcile)
	}
	if unprintable := r.unprintable(err); unprintable != nil {
		return unprintable
	}
	remedy := ""
	switch SQLState(err) {
	case CodeUndefinedObject:
		return &LostSlotError{Slot: r.options.Slot, Reason: SlotMissing, Cause: err}
	case codeWrongState, codeUndefinedFile:
		var lost *LostSlotError
		synced := false
		_ = r.withCatalog(ctx, func(q querier) error { // without it the server's own words have to do
			s, err := readSlotState(ctx, q, r.options.Slot)
			lost, synced = s.lost(), s.synced
			return err
		})
		if synced {
			return &SyncedSlotError{Slot: r.options.Slot}
		}
		if lost == nil && walMissing(err) { // removed by hand: the server believes that it has it
			lost = &LostSlotError{Slot: r.options.Slot, Reason: SlotWALRemoved}
		}
		if lost != nil {
			lost.Cause = err
			return lost
		}
	case codeInsufficientPrivilege:
		_ = r.withCatalog(ctx, func(q querier) error { // as above
			if s := replicationStatement(ctx, q); s.SQL != "" {
				remedy = "run " + s.SQL + ", " + managedReplication
			}
			return nil
		})
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Detail != "" || pg.Hint != "") {
		remedy = strings.TrimSuffix(strings.Join([]string{pg.Detail, pg.Hint, remedy}, " "), " ")
	}
	if remedy == "" {
		return fmt.Errorf("read slot %q: %w", r.options.Slot, err)
	}
	return fmt.Errorf("read slot %q: %w; %s", r.options.Slot, err, remedy)
}

// walMissing reports whether the server lacks a file that the slot needs: WAL, or what
// it keeps of running transactions; not its output plugin, which has the same code.
func walMissing(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == codeUndefinedFile && pg.File != "dfmgr.c"
}

// trouble logs what keeps the reader from streaming: immediately when it is
// new, then every minute.
type trouble struct {
	log    zerolog.Logger
	code   string
	logged time.Time
}

func (t *trouble) report(slot string, err error, streamed bool) {
	sqlstate := SQLState(err)
	if !streamed && sqlstate == t.code && time.Since(t.logged) < repeatLog {
		return
	}
	t.code, t.logged = sqlstate, time.Now()
	message := "connection to the source lost; connecting again"
	if sqlstate == codeObjectInUse {
		message = "slot is in use by another process; waiting for it"
	}
	if _, ok := errors.AsType[*SynchronousError](err); ok {
		message = "commits of the source would wait for gancho; capture waits until they do not"
	}
	t.log.Warn().Str("slot", slot).Err(err).Msg(message)
}
