package mapping

import "gancho/cdc"

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
