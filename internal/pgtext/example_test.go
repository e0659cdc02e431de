package pgtext_test

import (
	"fmt"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// The JSON of a column's text form.
func ExampleAppendJSON() {
	timestamp := &cdc.Type{OID: 1114, Schema: "pg_catalog", Name: "timestamp", Kind: cdc.KindBase}
	numbers := &cdc.Type{OID: 1231, Schema: "pg_catalog", Name: "_numeric", Kind: cdc.KindArray, Delim: ',',
		Elem: &cdc.Type{OID: 1700, Schema: "pg_catalog", Name: "numeric", Kind: cdc.KindBase}}
	options := &pgtext.JSONOptions{Location: time.FixedZone("", -3*3600)}

	body, err := pgtext.AppendJSON(nil, timestamp, -1, []byte("2026-01-31 14:30:00"), options)
	fmt.Println(string(body), err)
	body, err = pgtext.AppendJSON(nil, numbers, -1, []byte("{1.50,NULL,NaN}"), options)
	fmt.Println(string(body), err)
	_, err = pgtext.AppendJSON(nil, numbers, -1, []byte("{1.50"), options)
	fmt.Println(err)
	// Output:
	// "2026-01-31T14:30:00-03:00" <nil>
	// [1.50,null,"NaN"] <nil>
	// write _numeric as JSON: malformed array literal
}

// Dates and intervals are computed as PostgreSQL computes them.
func ExampleAddInterval() {
	ts, err := pgtext.ParseTimestamp([]byte("2026-01-31 14:30:00"))
	if err != nil {
		fmt.Println(err)
		return
	}
	month, err := pgtext.ParseInterval([]byte("1 mon 36:00:00"))
	if err != nil {
		fmt.Println(err)
		return
	}
	ts, err = pgtext.AddInterval(ts, month)
	fmt.Println(string(pgtext.AppendTimestamp(nil, ts)), err)
	// Output: 2026-03-02 02:30:00 <nil>
}
