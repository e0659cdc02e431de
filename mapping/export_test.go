package mapping

import (
	"time"

	"gancho/cdc"
)

// SetClock gives the caches of lookups another clock.
func (m *Mapper) SetClock(now func() time.Time) { m.now = now }

// OnPause calls a function whenever the source waits for a transaction, or for
// another attempt. It must not be called while the source is in use.
func (s *Source) OnPause(f func()) { s.paused = f }

// Queries is the number of queries so far; waiting for a transaction counts as one.
func (s *Source) Queries() int { return s.queries }

// VisibleIn reports whether queries under a snapshot, as text, see a
// transaction.
func VisibleIn(snapshot string, xid uint32) (bool, error) {
	s, err := parseSnapshot(snapshot)
	return s.has(&cdc.Transaction{XID: xid}), err
}

// LookupColumns returns the columns of the change in a query, as they are
// written, and what of the text is the query.
func LookupColumns(sql string) (columns []string, query string, ok bool) {
	params, end, fault := parseLookupSQL(sql)
	for _, p := range params {
		columns = append(columns, sql[p.start:p.end])
	}
	return columns, sql[:end], fault == nil
}

// Len is how many transactions are kept apart.
func (o *Overlay) Len() int { return len(o.transactions) }
