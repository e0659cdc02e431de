package mapping

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/internal/strictyaml"
)

// zones compares the rules of time zones here with the server's: they are those of
// two tz databases, of which either may be older.
type zones struct {
	ctx     context.Context //nolint:containedctx // of Bind, which ends before it
	conn    *pgx.Conn       // nil once the rules are bound
	checked map[string]error
}

// zoneError says that a zone is not the same on both sides.
type zoneError struct {
	zone string
	at   time.Time
	// here and server are seconds east of UTC at that time.
	here, server int
}

func (d *zoneError) Error() string {
	return fmt.Sprintf("time zone %s is %s here and %s in PostgreSQL at %s", d.zone, utcOffset(d.here), utcOffset(d.server), d.at.UTC().Format(time.RFC3339))
}

func utcOffset(seconds int) string {
	return time.Unix(0, 0).In(time.FixedZone("", seconds)).Format("UTC-07:00:00")
}

// zoneHint is what to do about a zoneError.
const zoneHint = "bring the tz databases to one version: the package tzdata where Gancho runs, or the server's"

// check returns a *zoneError, or the error of a query. It asks the server once
// for each zone.
func (z *zones) check(loc *time.Location) error {
	if loc == nil || loc == time.UTC || loc.String() == "UTC" {
		return nil
	}
	err, known := z.checked[loc.String()]
	if !known && z.conn != nil {
		err = compareZone(z.ctx, z.conn, loc)
		z.checked[loc.String()] = err
	}
	return err
}

// checkSource checks source.timezone. What differs is a mistake, because all
// timestamps are read and shown in that zone.
func (b *binder) checkSource(loc *time.Location) error {
	err := b.zones.check(loc)
	if different, ok := errors.AsType[*zoneError](err); ok {
		b.errors = append(b.errors, &strictyaml.Error{File: "source.timezone", Message: different.Error(), Hint: zoneHint})
		return nil
	}
	return err
}

// compareZone compares the offsets from 1970 to 2100: every week, and on both sides
// of each change of the clock here. The server's are those of a session in the zone:
// at time zone would take CET for the abbreviation, which has no summer time.
func compareZone(ctx context.Context, conn *pgx.Conn, loc *time.Location) error {
	const week = 7 * 24 * 3600
	until := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	var instants []int64
	for at := int64(0); at < until; at += week {
		instants = append(instants, at)
		if _, end := time.Unix(at, 0).In(loc).ZoneBounds(); !end.IsZero() && end.Unix() < at+week {
			instants = append(instants, end.Unix()-1, end.Unix())
		}
	}
	var offsets []int32
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_catalog.set_config('timezone', $1, true)", loc.String()); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			select array_agg(extract(epoch from to_timestamp(s)::timestamp - (to_timestamp(s) at time zone 'UTC'))::int order by n)
			from unnest($1::bigint[]) with ordinality u(s, n)`, instants).Scan(&offsets)
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "22023" {
		return fmt.Errorf("compare time zone %s with the server's: %s; write a zone that both have", loc, pg.Message)
	}
	if err != nil {
		return fmt.Errorf("compare time zone %s with the server's: %w", loc, err)
	}
	for i, at := range instants {
		t := time.Unix(at, 0)
		if _, here := t.In(loc).Zone(); here != int(offsets[i]) {
			return &zoneError{loc.String(), t, here, int(offsets[i])}
		}
	}
	return nil
}
