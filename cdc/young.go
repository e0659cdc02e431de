package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A publication is looked up as it was at the change that is decoded. One that
// is younger than the slot's position is missing there: PostgreSQL 14 to 17
// then end the stream with an error, 18 warns and continues without it.
//
// For the publication of everything both mean that changes would be skipped,
// which ends Run. The one for inserts may be created later, with the first rule
// that needs it: changes from before that are read without it.

// young is a publication that is left out for a while.
type young struct {
	born uint32 // the transaction that created it
	from LSN    // where it turned out to be missing
}

// errGrown: the stream has reached transactions that know the young publication.
var errGrown = errors.New("the publication is known from here on")

// growCheck is how often the reader checks whether what it handed over is confirmed.
const growCheck = 20 * time.Millisecond

// missingPublication returns which of the source's publications the server's
// error or warning is about, or "".
func (r *Reader) missingPublication(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Routine != "get_publication_oid" && pg.Routine != "LoadPublications" {
		return ""
	}
	// The message is in the server's language; the name in it is not. The name
	// of one publication is the other's beginning.
	if strings.Contains(pg.Message, r.options.insertPublication()) {
		return r.options.insertPublication()
	}
	return r.options.Publication
}

// leaveOut lets the next stream start without a publication that is missing at
// its position. It reports whether that helps.
func (r *Reader) leaveOut(ctx context.Context, cause error) (bool, error) {
	if r.young != nil || r.missingPublication(cause) != r.options.insertPublication() {
		return false, nil
	}
	var born uint32
	err := r.withCatalog(ctx, func(q querier) (err error) {
		rows, _ := q.Query(ctx, `select xmin::text::int8 from pg_catalog.pg_publication where pubname = $1`, r.options.insertPublication())
		born, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[uint32])
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // it is not young: it does not exist
	}
	if err != nil {
		return false, fmt.Errorf("read publication %q: %w", r.options.insertPublication(), err)
	}
	r.young = &young{born: born, from: r.Confirmed()}
	r.options.Log.Warn().Str("publication", r.options.insertPublication()).Stringer("lsn", r.Confirmed()).
		Msg("publication is younger than the changes to be read; leaving it out until they have been read")
	return true, nil
}

// subscribed are the publications of the next stream.
func (r *Reader) subscribed() []string {
	return slices.DeleteFunc(slices.Clone(r.source.Publications), func(name string) bool {
		return r.young != nil && name == r.options.insertPublication()
	})
}

// grown returns the commit LSN of a transaction that a Begin message opens, if
// the transaction is younger than the publication. One that the publication
// was left out for counts as older, or this would go in circles.
func (s *session) grown(message []byte) (LSN, bool) {
	if s.r.young == nil || len(message) != 21 || message[0] != 'B' {
		return 0, false
	}
	tx := decodeBegin(&cursor{rest: message[1:]})
	// XIDs are compared as PostgreSQL does.
	return tx.Commit, tx.Commit > s.r.young.from && int32(tx.XID-s.r.young.born) > 0
}

// awaitConfirmed waits until all that was handed over is confirmed, so that the
// next stream, with all publications, repeats none of it: with more tables in it
// a transaction's changes would be numbered differently. That includes everything
// before next, where the publication was not known and nothing else is left: the
// handler confirms it, because it may want to store positions first.
func (s *session) awaitConfirmed(h Handler, next LSN) error {
	if err := handled(h.Keepalive(next)); err != nil {
		return err
	}
	if err := handled(h.Flush()); err != nil {
		return err
	}
	tick := time.NewTicker(growCheck)
	defer tick.Stop()
	for s.r.Confirmed() < max(next, s.r.decoder.tx.End) {
		select {
		case <-s.stop:
			return s.cause
		case <-tick.C:
		}
	}
	return errGrown
}
