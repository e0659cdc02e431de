package pgtext_test

import (
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// What a format has beside numbers and literals is refused, and what is accepted is printed as
// PostgreSQL prints it.
func TestDateFormats(t *testing.T) {
	t.Parallel()
	r := random(t)
	dsn := pg.Database(t, "", try)
	patterns := strings.Fields(`YYYY MM DD HH24 HH12 MI SS MS US yyyy mm dd hh24 hh12 mi ss ms us`)
	literals := []string{"-", "/", " ", ":", ",", ".", `"de"`, `"às "`, `"say \"x\""`, "é", `\"`, `\`, "_", "'", "1", `"`}
	letters := []string{"T", "h", "M", "Y", "S", "D", "TH", "FM", "Mon", "Day", "TZ", "J", "Q", "SP"}
	for _, zone := range []string{"America/Sao_Paulo", "Europe/Lisbon", "UTC"} {
		loc := location(t, zone)
		conn := connect(t, dsn, zone)
		var probes []probe
		for range rounds(t, 800) {
			var format string
			for range 1 + r.IntN(6) {
				format += pick(r, pick(r, patterns...), pick(r, patterns...), pick(r, patterns...), pick(r, literals...), pick(r, pick(r, letters...), "-", "-"))
			}
			f, err := pgtext.CompileDateFormat(format)
			if err != nil {
				continue
			}
			ts := randomTimestamp(r)
			if r.IntN(2) == 0 {
				probes = append(probes, probe{"to_char(" + tsText(ts) + ", " + quote(format) + ")", outcome(f.AppendTimestamp(nil, ts), nil)})
			} else {
				probes = append(probes, probe{"to_char(" + tstzText(ts) + ", " + quote(format) + ")", outcome(f.AppendTimestampTZ(nil, ts, loc), nil)})
			}
		}
		if len(probes) < rounds(t, 800)/4 {
			t.Errorf("only %d formats were accepted", len(probes))
		}
		compare(t, conn, probes)
	}
	for format, want := range map[string]string{
		"DD Month": "Month", "DDD": "D", "FMDD": "FMDD", "DDth": "th", "SSSS": "SS", "YYYYY": "Y", "HH:MI": "HH", "YYYY-MM-DDTHH24": "THH", "RM": "RM", "Y,YYY": "Y", "MSS": "S", "é Q": "Q",
	} {
		if _, err := pgtext.CompileDateFormat(format); err == nil || err.Error() != "to_char pattern "+want+" is not supported" {
			t.Errorf("%q: %v; want %s", format, err, want)
		}
	}
}

// TestZonedRange: a range of instants is shown in the source's zone.
func TestZonedRange(t *testing.T) {
	t.Parallel()
	loc, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	of := &cdc.Type{OID: 3910, Schema: "pg_catalog", Name: "tstzrange", Kind: cdc.KindRange, TypeMod: -1}
	for text, want := range map[string]string{
		`["2026-01-31 13:00:00+00","2026-02-01 02:30:00.5+00")`: `"[\"2026-01-31 10:00:00-03\",\"2026-01-31 23:30:00.5-03\")"`,
		`(,infinity]`: `"(,infinity]"`,
		`empty`:       `"empty"`,
	} {
		got, err := pgtext.AppendJSON(nil, of, -1, []byte(text), &pgtext.JSONOptions{Location: loc})
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
}
