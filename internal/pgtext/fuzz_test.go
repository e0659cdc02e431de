package pgtext_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// fuzzTypes are one of each sort that AppendJSON treats separately.
func fuzzTypes() []*cdc.Type {
	base := func(oid uint32, name string) *cdc.Type {
		return &cdc.Type{OID: oid, Name: name, Schema: "pg_catalog", Kind: cdc.KindBase, Delim: ','}
	}
	array := func(elem *cdc.Type) *cdc.Type {
		return &cdc.Type{OID: 99999, Name: "_" + elem.Name, Kind: cdc.KindArray, Elem: elem, Delim: elem.Delim}
	}
	text, integer, jsonb := base(25, "text"), base(23, "int4"), base(3802, "jsonb")
	moment, bytea := base(1114, "timestamp"), base(17, "bytea")
	item := &cdc.Type{OID: 99998, Name: "item", Kind: cdc.KindComposite, Fields: []cdc.Field{
		{Name: `a "b" é`, Type: text}, {Name: "n", Type: integer}, {Name: "tags", Type: array(text)}, {Name: "at", Type: moment},
	}}
	return []*cdc.Type{
		text, integer, base(1700, "numeric"), base(701, "float8"), base(16, "bool"), base(1042, "bpchar"), moment, base(1184, "timestamptz"), base(114, "json"), jsonb, bytea,
		{OID: 99997, Name: "hstore", Kind: cdc.KindBase}, array(text), array(integer), array(jsonb), array(moment), item, array(item), {OID: 99996, Name: "gone", Kind: cdc.KindUnknown},
	}
}

func FuzzAppendJSON(f *testing.F) {
	types := fuzzTypes()
	for _, text := range []string{
		"", "a\"\\\n\xff\u2028", "-12.50", "NaN", "1e+300", "t", "ab   ", "2026-01-31 14:30:00.5", "0044-03-15 12:00:00 BC", "infinity", "2026-01-31 14:30:00+00",
		"{\"a\": [1, \"\\u00e9\"],\n\"b\": null}", `\xdeadbeef`, `"a"=>"1", "b\""=>NULL`, `{a,"b\"c",NULL}`, `{{1,2},{3,4}}`, `[0:1]={5,6}`, `{"{\"a\": 1}"}`,
		`("a ""b""",1,"{x,y}","2026-01-31 14:30:00")`, `{"(a,1,,)",NULL}`,
	} {
		for i := range types {
			f.Add(text, uint8(i), i%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, text string, kind uint8, strings bool) {
		typ := types[int(kind)%len(types)]
		out, err := pgtext.AppendJSON([]byte("["), typ, -1, []byte(text), &pgtext.JSONOptions{NumbersAsStrings: strings})
		switch {
		case err != nil && string(out) != "[":
			t.Errorf("%s %q: error %v after %q", typ.Name, text, err, out)
		case err == nil && !json.Valid(append(out, ']')):
			t.Errorf("%s %q: invalid JSON %q", typ.Name, text, out)
		case err == nil && bytes.ContainsAny(out, "\n\r"):
			t.Errorf("%s %q: more than a line: %q", typ.Name, text, out)
		}
	})
}

func FuzzParseInterval(f *testing.F) {
	for _, s := range []string{"1 year 2 mons -3 days +04:05:06.7", "-00:00:00.000001", "1.5 hours ago", "infinity", "178956970 years 7 mons 2147483647 days 2562047788:00:54.775807", "1 week 5 ms"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, err := pgtext.ParseInterval([]byte(s))
		if err != nil {
			var e *pgtext.Error
			if !errors.As(err, &e) {
				t.Errorf("%q: error %v is not an *Error", s, err)
			}
			return
		}
		printed := pgtext.AppendInterval(nil, i)
		if back, err := pgtext.ParseInterval(printed); err != nil || back != i {
			t.Errorf("%q: %+v prints as %q, which is %+v, %v", s, i, printed, back, err)
		}
	})
}

func FuzzParseTimestamp(f *testing.F) {
	for _, s := range []string{"2026-01-31 14:30:00.123456", "0044-03-15 BC", "294276-12-31T23:59:60", "infinity", "2026-01-31 14:30:00-03:06:28 BC", "5874897-12-31"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ts, err := pgtext.ParseTimestampTZ([]byte(s), nil); err == nil {
			printed := pgtext.AppendTimestampTZ(nil, ts, nil)
			if back, err := pgtext.ParseTimestampTZ(printed, nil); err != nil || back != ts {
				t.Errorf("%q: %d prints as %q, which is %d, %v", s, ts, printed, back, err)
			}
		}
		if d, err := pgtext.ParseDate([]byte(s)); err == nil {
			printed := pgtext.AppendDate(nil, d)
			if back, err := pgtext.ParseDate(printed); err != nil || back != d {
				t.Errorf("%q: %d prints as %q, which is %d, %v", s, d, printed, back, err)
			}
		}
	})
}

func FuzzArrayReader(f *testing.F) {
	for _, s := range []string{"{}", "{1,NULL,3}", `{{a,"b\"c"},{NULL,"null"}}`, "[0:1][5:6]={{1,2},{3,4}}", "{{{{{{1}}}}}}", "{", "{{=,0}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		elements, reader, err := readArray(s)
		if err != nil || strings.ContainsRune(s, 0) { // which no text of the server has
			return
		}
		n := 0
		length, lower := reader.Shape()
		for i, dim := range length {
			if i == 0 {
				n = 1
			}
			n *= dim
		}
		if n != len(elements) {
			t.Errorf("%q: %d elements, dimensions %v", s, len(elements), length)
		}
		text := printArray(s)
		printed, printedLength, printedLower, ok := pgtext.ReadPrintedArray(text, ',')
		if !ok || !slices.Equal(length, printedLength) || !slices.Equal(lower, printedLower) {
			t.Fatalf("%s: dimensions %v from %v, by the delimiters %v from %v, %v", text, length, lower, printedLength, printedLower, ok)
		}
		for i, want := range elements {
			item, elem, err := printed.Element(i)
			if item == pgtext.ArrayNull {
				elem = []byte("<null>")
			}
			if err != nil || string(elem) != want {
				t.Errorf("%s: element %d is %q, by the delimiters %q, %v", text, i, want, elem, err)
			}
		}
	})
}

// printArray writes an array as the server prints it.
func printArray(s string) []byte {
	var out []byte
	if bounds, _, found := strings.Cut(strings.TrimSpace(s), "="); found && bounds[0] == '[' {
		out = []byte(bounds + "=")
	}
	before := false // something stands before the next item
	for r := pgtext.ReadArray([]byte(s), ','); ; {
		item, elem, _ := r.Next()
		if item == pgtext.ArrayEnd {
			return out
		}
		if before && item != pgtext.ArrayClose {
			out = append(out, ',')
		}
		before = item != pgtext.ArrayOpen
		switch item {
		case pgtext.ArrayOpen:
			out = append(out, '{')
		case pgtext.ArrayClose:
			out = append(out, '}')
		case pgtext.ArrayNull:
			out = append(out, "NULL"...)
		case pgtext.ArrayElement:
			out = pgtext.AppendArrayElement(out, elem, ',')
		}
	}
}

func FuzzJSONB(f *testing.F) {
	for _, s := range []string{`{"b": [1, 2.50, {"c": null}], "a": "é\n"}`, `{"a":1,"a":2}`, "[1e2,-0.0,1.5e-3]", `"\ud83d\ude00"`, " true ", "[[[]]]"} {
		f.Add(s, `{"a": 1}`)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		// Whatever the text is, reading it ends and stays within it.
		pgtext.JSONGet([]byte(a), []byte(b))
		pgtext.JSONIndex([]byte(a), -1)
		pgtext.JSONExists([]byte(a), []byte(b))
		pgtext.JSONLength([]byte(a))
		pgtext.JSONTypeof([]byte(a))
		pgtext.JSONEqual([]byte(a), []byte(b))
		canonical, err := pgtext.CanonicalJSONB(nil, []byte(a))
		if err != nil {
			return
		}
		if !json.Valid(canonical) {
			t.Fatalf("%q: invalid JSON %q", a, canonical)
		}
		if again, err := pgtext.CanonicalJSONB(nil, canonical); err != nil || !bytes.Equal(again, canonical) {
			t.Errorf("%q: %q becomes %q, %v", a, canonical, again, err)
		}
		if contains, err := contains(canonical, canonical); err != nil || !contains {
			t.Errorf("%q does not contain itself: %v", canonical, err)
		}
	})
}
