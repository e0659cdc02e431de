package pgtext

import (
	"bytes"
	"time"

	"gancho/cdc"
)

// offsetAt returns the seconds east of UTC at an instant in microseconds since
// 2000-01-01 00:00 UTC.
func offsetAt(ts int64, loc *time.Location) int {
	if loc == nil || loc == time.UTC {
		return 0
	}
	_, offset := time.Unix(floorDiv(ts, microsPerSecond)+unixEpoch, 0).In(loc).Zone()
	return offset
}

// UTCToLocal returns the local time in loc (nil is UTC) at an instant. Both
// are microseconds since 2000-01-01 00:00; infinities stay.
func UTCToLocal(ts int64, loc *time.Location) int64 {
	if !finiteTimestamp(ts) {
		return ts
	}
	return ts + int64(offsetAt(ts, loc))*microsPerSecond
}

// LocalToUTC returns the instant of a local time in loc (nil is UTC). A time
// that a change of the clock skipped is read with the offset before the
// change; one that occurred twice with the offset after it: PostgreSQL's rule
// (DetermineTimeZoneOffset in datetime.c). Infinities stay.
func LocalToUTC(ts int64, loc *time.Location) int64 {
	if !finiteTimestamp(ts) || loc == nil || loc == time.UTC {
		return ts
	}
	offset, _ := localOffset(ts, loc)
	return ts - int64(offset)*microsPerSecond
}

// localOffset returns the seconds east of UTC that a local time has, and whether it
// occurred once: it was neither skipped nor occurred twice.
func localOffset(ts int64, loc *time.Location) (offset int, once bool) {
	// As PostgreSQL does: the first change of the clock after the day before
	// is the only one that can matter.
	local := floorDiv(ts, microsPerSecond) + unixEpoch
	at := time.Unix(local-secondsPerDay, 0).In(loc)
	_, before := at.Zone()
	for {
		_, end := at.ZoneBounds()
		if end.IsZero() || end.Unix() > local+secondsPerDay {
			return before, true
		}
		if !end.After(at) { // Go ends leap years a day early
			end = at.Add(secondsPerDay * time.Second)
		}
		_, after := end.Zone()
		if after == before { // another name, or the turn of a year
			at = end
			continue
		}
		boundary := end.Unix()
		withBefore, withAfter := local-int64(before), local-int64(after)
		once = (withBefore < boundary) != (withAfter >= boundary)
		switch {
		case withBefore < boundary && withAfter < boundary:
			return before, once
		case withBefore > boundary && withAfter >= boundary:
			return after, once
		case withBefore > withAfter: // skipped
			return before, once
		default: // occurred twice
			return after, once
		}
	}
}

// zonePeriod is a stretch of time in which a zone's offset does not change.
type zonePeriod struct {
	from, to           int64 // the instants, from included
	localFrom, localTo int64 // the local times that belong to it beyond doubt
	offset             int
}

// zoneCache caches the last periods that were asked for. It belongs to one
// goroutine.
type zoneCache struct {
	loc     *time.Location
	periods [4]zonePeriod
	next    int
}

// instant returns the period of an instant.
func (c *zoneCache) instant(ts int64, loc *time.Location) *zonePeriod {
	c.reset(loc)
	for i := range c.periods {
		if p := &c.periods[i]; ts >= p.from && ts < p.to {
			return p
		}
	}
	return c.load(ts, loc)
}

// local returns the period of a local time. It is nil near a change of the clock,
// where the offset must be computed.
func (c *zoneCache) local(ts int64, loc *time.Location) *zonePeriod {
	c.reset(loc)
	for i := range c.periods {
		if p := &c.periods[i]; ts >= p.localFrom && ts < p.localTo {
			return p
		}
	}
	p := c.load(LocalToUTC(ts, loc), loc)
	if ts >= p.localFrom && ts < p.localTo {
		return p
	}
	return nil
}

func (c *zoneCache) reset(loc *time.Location) {
	if c.loc != loc {
		*c = zoneCache{loc: loc}
	}
}

func (c *zoneCache) load(ts int64, loc *time.Location) *zonePeriod {
	at := time.Unix(floorDiv(ts, microsPerSecond)+unixEpoch, 0).In(loc)
	_, offset := at.Zone()
	p := zonePeriod{from: minTimestamp - microsPerDay, to: Infinity, offset: offset}
	start, end := at.ZoneBounds()
	if !start.IsZero() {
		p.from = max(p.from, micros(start))
	}
	if !end.IsZero() {
		p.to = max(micros(end), ts+1) // Go ends leap years a day early
	}
	// Two days from a change are beyond doubt, whatever the offsets.
	p.localFrom, p.localTo = p.from+2*microsPerDay, p.to-2*microsPerDay
	kept := &c.periods[c.next]
	*kept = p
	c.next = (c.next + 1) % len(c.periods)
	return kept
}

// micros returns the microseconds since 2000-01-01 00:00 UTC, without overflow.
func micros(t time.Time) int64 {
	seconds := t.Unix() - unixEpoch
	if seconds > endTimestamp/microsPerSecond {
		return Infinity
	}
	return max(seconds, minTimestamp/microsPerSecond-secondsPerDay) * microsPerSecond
}

// IsZonedRange reports ranges and multiranges of instants, such as tstzrange, whose
// text depends on the time zone.
func IsZonedRange(t *cdc.Type) bool {
	t = t.Base()
	if t.Kind != cdc.KindRange && t.Kind != cdc.KindMultirange {
		return false
	}
	return t.Elem != nil && t.Elem.Base().OID == oidTimestampTZ || t.Schema == "pg_catalog" && (t.Name == "tstzrange" || t.Name == "tstzmultirange")
}

// AppendZonedRange appends the text form of a range, or multirange, of instants with
// its bounds in loc (nil is UTC), as PostgreSQL prints them in that zone.
func AppendZonedRange(dst, text []byte, loc *time.Location) ([]byte, error) {
	for {
		before, rest, found := bytes.Cut(text, []byte(`"`)) // infinite bounds have no quotes
		dst = append(dst, before...)
		if !found {
			return dst, nil
		}
		bound, after, found := bytes.Cut(rest, []byte(`"`))
		ts, err := ParseTimestampTZ(bound, time.UTC)
		if !found || err != nil {
			return dst, syntaxError("malformed range")
		}
		dst = AppendTimestampTZ(append(dst, '"'), ts, loc)
		dst, text = append(dst, '"'), after
	}
}
