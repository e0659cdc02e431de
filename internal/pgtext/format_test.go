package pgtext_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

func TestDateFormats(t *testing.T) {
	t.Parallel()
	r := random(t)
	dsn := pg.Database(t, "", try)
	patterns := strings.Fields(`YYYY YYY YY Y Y,YYY IYYY IYY IY I MM Month MONTH month Mon MON mon DD DDD D DY Dy dy Day DAY day IDDD ID
		HH24 HH12 HH MI SS MS US SSSS SSSSS FF1 FF2 FF3 FF4 FF5 FF6 AM PM am pm A.M. P.M. a.m. p.m. AD BC ad bc A.D. B.C. a.d. b.c.
		WW W IW Q CC J RM rm TZ tz TZH TZM OF FX yyyy mm dd hh24 mi ss ddd iw q y,yyy us ms`)
	literals := []string{"-", "/", " ", ":", ",", ".", `"de"`, `"às "`, `"say \"x\""`, "h", "é", `\"`, `\`, "T", "x", "Z", "_", "'", "M", `"`}
	for _, zone := range []string{"America/Sao_Paulo", "Europe/Lisbon", "UTC"} {
		loc := location(t, zone)
		conn := connect(t, dsn, zone)
		var probes []probe
		for range rounds(t, 800) {
			format := randomDateFormat(r, patterns, literals)
			f, err := pgtext.CompileDateFormat(format)
			if err != nil {
				if strings.Contains(format, "TM") || strings.Contains(format, "SP") {
					continue // by chance: "T" before "M"
				}
				t.Fatalf("compile %q: %v", format, err)
			}
			ts := randomTimestamp(r)
			if r.IntN(2) == 0 {
				probes = append(probes, probe{"to_char(" + tsText(ts) + ", " + quote(format) + ")", outcome(f.AppendTimestamp(nil, ts), nil)})
			} else {
				probes = append(probes, probe{"to_char(" + tstzText(ts) + ", " + quote(format) + ")", outcome(f.AppendTimestampTZ(nil, ts, loc), nil)})
			}
		}
		compare(t, conn, probes)
	}
}

func randomDateFormat(r *rand.Rand, patterns, literals []string) string {
	var b strings.Builder
	for range 1 + r.IntN(6) {
		if r.IntN(4) == 0 {
			b.WriteString(pick(r, literals...))
			continue
		}
		b.WriteString(pick(r, "", "", "", "FM", "fm"))
		b.WriteString(pick(r, patterns...))
		b.WriteString(pick(r, "", "", "", "TH", "th"))
	}
	return b.String()
}

func TestNumberFormats(t *testing.T) {
	t.Parallel()
	r := random(t)
	conn := connect(t, pg.Database(t, "", try), "UTC")
	var probes []probe
	compiled, tries := 0, rounds(t, 4000)
	for range tries {
		format := randomNumberFormat(r)
		f, err := pgtext.CompileNumberFormat(format)
		if err != nil {
			if strings.Contains(err.Error(), "not supported") {
				continue
			}
			// What conflicts is an error to PostgreSQL as well.
			probes = append(probes, probe{"to_char(1, " + quote(format) + ")", outcome(nil, err)})
			continue
		}
		compiled++
		switch n := randomNumeric(r); r.IntN(2) {
		case 0:
			v := int32(r.Uint32()) >> r.IntN(32)
			probes = append(probes, probe{fmt.Sprintf("to_char(%d, %s)", v, quote(format)), outcome(f.AppendNumeric(nil, strconv.AppendInt(nil, int64(v), 10)))})
		default:
			probes = append(probes, probe{"to_char('" + n + "'::numeric, " + quote(format) + ")", outcome(f.AppendNumeric(nil, []byte(n)))})
		}
	}
	if compiled < tries/2 {
		t.Errorf("only %d of %d formats were accepted", compiled, tries)
	}
	compare(t, conn, probes)
}

func randomNumberFormat(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(pick(r, "", "", "FM", "FM", "S", "MI", "PL", "SG"))
	digits := func(n int) {
		for range r.IntN(n) {
			b.WriteString(pick(r, "9", "9", "9", "0", "9,", "0,", ",9"))
		}
	}
	digits(7)
	if r.IntN(2) == 0 {
		b.WriteByte('.')
		digits(5)
	}
	b.WriteString(pick(r, "", "", "", "S", "MI", "PL", "SG", "PR"))
	switch r.IntN(8) {
	case 0:
		return `"R$ "` + b.String()
	case 1:
		return b.String() + " %"
	case 2: // anything anywhere
		s := b.String()
		i := r.IntN(len(s) + 1)
		return s[:i] + pick(r, "FM", "9", "0", ".", ",", "MI", "PR", "S", "SG", "PL", "x") + s[i:]
	}
	return b.String()
}

func randomNumeric(r *rand.Rand) string {
	switch r.IntN(12) {
	case 0:
		return pick(r, "NaN", "Infinity", "-Infinity", "0", "0.00", "-0.4", "0.5", "-0.5", "999.995", "9.5", "99999.99", "0.049")
	case 1:
		return strconv.FormatInt(r.Int64(), 10) + strconv.FormatInt(r.Int64(), 10)[1:] + "." + strconv.Itoa(r.IntN(1000))
	}
	v := strconv.Itoa(r.IntN(2*pick(r, 1, 10, 1000, 1_000_000)+1) - r.IntN(1000))
	if r.IntN(3) > 0 {
		v += "." + strconv.Itoa(r.IntN(pick(r, 10, 100, 10_000)))
	}
	return v
}

func TestRefusedFormats(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"TMMonth": "to_char pattern TM is not supported: it depends on the server's lc_time; leave it out for English names",
		"DDSP":    "to_char pattern SP is not supported: PostgreSQL does not implement it; leave it out",
	} {
		if _, err := pgtext.CompileDateFormat(format); err == nil || err.Error() != want {
			t.Errorf("%q: %v; want %s", format, err, want)
		}
	}
	for format, want := range map[string]string{
		"9D99":   "to_char pattern D is not supported: it depends on the server's lc_numeric; write . for the point",
		"9g999":  "to_char pattern G is not supported: it depends on the server's lc_numeric; write , for the thousands",
		"L99":    "to_char pattern L is not supported: it depends on the server's lc_monetary; write the currency in double quotes",
		"RN":     "to_char pattern RN is not supported: if it is text, write it in double quotes",
		"9.9.9":  "to_char format has two decimal points",
		"S9PR":   "to_char format cannot use PR together with S, PL, MI and SG",
		"9EEEE":  "to_char pattern EEEE is not supported: if it is text, write it in double quotes",
		"BRL 99": "to_char pattern B is not supported: if it is text, write it in double quotes",
	} {
		if _, err := pgtext.CompileNumberFormat(format); err == nil || err.Error() != want {
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
