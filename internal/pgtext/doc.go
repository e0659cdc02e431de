// Package pgtext reads, prints and computes with the text forms of
// PostgreSQL's types, as the replication stream sends them: a session with
// datestyle=ISO, intervalstyle=postgres, extra_float_digits=3, timezone=UTC,
// bytea_output=hex and client_encoding=UTF8.
//
// It guarantees that what it accepts means what it means to PostgreSQL 14 to
// 18, digit by digit: the tests compare every function with a server's own
// answers. What depends on the server's locale or differs between its versions
// is refused by name. No value passes through a float64 unless it is one.
//
// Functions named Append append to a buffer of the caller and, like those that
// parse, keep nothing. AppendJSON of the ordinary types, and parsing and
// printing dates and times, do not allocate. Everything may be used from
// several goroutines, except that a JSONOptions, an ArrayReader and a
// CompositeReader belong to one goroutine.
//
// Errors of bad values are *Error, which has the SQLSTATE that PostgreSQL
// would give and never the value itself.
//
// # Dates and times
//
// Dates are days, timestamps and times microseconds since 2000-01-01 00:00,
// PostgreSQL's own epoch; the extreme values represent the infinities. A
// time.Location represents a time zone setting; nil is UTC.
//
// # JSON
//
// AppendJSON gives what to_jsonb gives, except:
//
//	type                    to_jsonb                     AppendJSON
//	timestamp               "2026-01-31T14:30:00"        "2026-01-31T14:30:00-03:00": the instant that it is
//	                                                     in Location; as to_jsonb with Wall, and where it is no
//	                                                     instant of the zone, or two, or before standard time
//	timestamptz             in the session's zone        the same, in Location
//	the same, before        "1900-01-01T00:00:00-03:06:28"  "1900-01-01T00:00:28-03:06": RFC 3339 has no seconds in
//	standard time                                        offsets; the nearest minute, the instant kept exact
//	bytea                   "\\xdead"                    "3q0=", base64
//	char(n)                 "AT   "                      "AT"
//	numeric, float          decimals spelled out         PostgreSQL's digits as printed: 1e+300, -0
//	json, jsonb             ", " and ": ", keys ordered  as it is; line ends between json's tokens left out
//	U+2028, U+2029          as they are                  \u2028, \u2029
//	int2vector, oidvector   array                        their text
//	types with casts to     what the cast gives          text, but for hstore
//	json
//
// As to_jsonb does: NaN, Infinity and -Infinity of numbers, and infinity and
// -infinity of dates and timestamps, are strings; years before Christ and
// beyond 9999, for which RFC 3339 has no form, are "0044-03-15 BC",
// "0044-03-15T12:00:00+00:00 BC" and "12026-01-01"; arrays are arrays,
// whatever their lower bounds; composites are objects; hstore is an object of
// strings; domains are what their base is; and every other type (time, timetz,
// interval, money, uuid, enums, ranges, inet, bit, xml...) is its text. The
// bounds of a tstzrange are in Location, as PostgreSQL prints them in that zone.
package pgtext
