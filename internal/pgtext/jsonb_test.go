package pgtext_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"gancho/internal/pgtext"
)

// randomDocument is JSON as people write it: blanks, doubled keys, escapes, exponents.
func randomDocument(r *rand.Rand, depth int) string {
	blank := func() string { return pick(r, "", "", "", " ", "\n\t") }
	kind := r.IntN(10)
	if depth == 0 {
		kind = r.IntN(7)
	}
	switch kind {
	case 0:
		return pick(r, "null", "true", "false")
	case 1, 2:
		return randomJSONNumber(r)
	case 3, 4, 5, 6:
		return randomJSONString(r)
	case 7:
		var elements []string
		for range r.IntN(4) {
			elements = append(elements, blank()+randomDocument(r, depth-1)+blank())
		}
		return "[" + strings.Join(elements, ",") + "]"
	}
	var members []string
	for range r.IntN(5) {
		members = append(members, blank()+pick(r, `"a"`, `"b"`, `"aa"`, `"\u0061"`, `"é"`, `""`, randomJSONString(r))+blank()+":"+blank()+randomDocument(r, depth-1))
	}
	return "{" + strings.Join(members, ",") + blank() + "}"
}

func randomJSONNumber(r *rand.Rand) string {
	n := pick(r, "0", "1", "2", strconv.Itoa(r.IntN(1000)))
	if r.IntN(3) == 0 {
		n = "-" + n
	}
	if r.IntN(2) == 0 {
		n += "." + pick(r, "0", "00", "5", "50", "001")
	}
	if r.IntN(4) == 0 {
		n += pick(r, "e", "E") + pick(r, "", "+", "-") + strconv.Itoa(r.IntN(5))
	}
	return n
}

func randomJSONString(r *rand.Rand) string {
	s := `"`
	for range r.IntN(4) {
		s += pick(r, "a", "b", "é", "😀", `\"`, `\\`, `\/`, `\n`, `\t`, `\b`, `\f`, `\r`, `\u00e9`, `\u0001`, `\ud83d\ude00`, " ", "\u007f", "\u2028")
	}
	return s + `"`
}

func nullable(b []byte, ok bool) string {
	if !ok {
		return "NULL"
	}
	return string(b)
}

func TestJSONOperators(t *testing.T) {
	t.Parallel()
	r := random(t)
	conn := connect(t, pg.Database(t, "", try), "UTC")
	var probes []probe
	other := "{}"
	for range rounds(t, 1500) {
		doc := randomDocument(r, 3)
		canonical, err := pgtext.CanonicalJSONB(nil, []byte(doc))
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		key := pick(r, "a", "b", "aa", "é", "", "é\n")
		i := r.IntN(7) - 3
		sql := quote(string(canonical)) + "::jsonb"
		value, ok := pgtext.JSONGet(canonical, []byte(key))
		element, found := pgtext.JSONIndex(canonical, i)
		if strings.IndexByte("[{", canonical[0]) < 0 && (i == 0 || i == -1) {
			element, found = canonical, true // the one difference that JSONIndex documents
		}
		probes = append(probes,
			probe{quote(doc) + "::jsonb", string(canonical)},
			probe{fmt.Sprintf("%s -> %s", sql, quote(key)), nullable(value, ok)},
			probe{fmt.Sprintf("%s -> (%d)", sql, i), nullable(element, found)},
			probe{sql + " ? " + quote(key), strconv.FormatBool(pgtext.JSONExists(canonical, []byte(key)))},
			probe{"jsonb_typeof(" + sql + ")", pgtext.JSONTypeof(canonical)})
		if canonical[0] == '[' {
			probes = append(probes, probe{"jsonb_array_length(" + sql + ")", strconv.Itoa(pgtext.JSONLength(canonical))})
		}
		if ok {
			text, null, err := pgtext.AppendJSONText([]byte{}, value)
			if null {
				text = nil
			}
			probes = append(probes, probe{fmt.Sprintf("%s ->> %s", sql, quote(key)), outcome(text, err)})
		}
		// The type json, as it was written.
		value, ok = pgtext.JSONGet([]byte(doc), []byte(key))
		probes = append(probes, probe{fmt.Sprintf("%s::json -> %s", quote(doc), quote(key)), nullable(value, ok)})
		if element, found = pgtext.JSONIndex([]byte(doc), i); found {
			text, null, err := pgtext.AppendJSONText([]byte{}, element)
			if null {
				text = nil
			}
			probes = append(probes, probe{fmt.Sprintf("%s::json ->> (%d)", quote(doc), i), outcome(text, err)})
		}
		part := other
		switch r.IntN(3) {
		case 0:
			part = shrink(r, string(canonical))
		case 1:
			part = randomDocument(r, 1)
		}
		b, err := pgtext.CanonicalJSONB(nil, []byte(part))
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		contains, err := contains(canonical, b)
		if err != nil {
			t.Fatal(err)
		}
		probes = append(probes,
			probe{sql + " @> " + quote(string(b)) + "::jsonb", strconv.FormatBool(contains)},
			probe{sql + " = " + quote(string(b)) + "::jsonb", strconv.FormatBool(pgtext.JSONEqual(canonical, b))})
		other = doc
	}
	compare(t, conn, probes)
}

// shrink removes something from a document, or writes its numbers otherwise,
// so that it is likely to be contained.
func shrink(r *rand.Rand, doc string) string {
	if i := r.IntN(4); i < 3 {
		if part, ok := pgtext.JSONIndex([]byte(doc), i); ok && r.IntN(2) == 0 {
			return pick(r, string(part), "["+string(part)+"]", "["+string(part)+","+string(part)+"]")
		}
	}
	for _, key := range []string{"a", "b", "aa"} {
		if part, ok := pgtext.JSONGet([]byte(doc), []byte(key)); ok && r.IntN(2) == 0 {
			return `{"` + key + `":` + shrink(r, string(part)) + "}"
		}
	}
	return strings.NewReplacer(" 1,", " 1.00,", " 2]", " 2.0]", " 0}", " 0.0}", "[1,", "[1.0,").Replace(doc)
}

func TestJSONContainment(t *testing.T) {
	t.Parallel()
	conn := connect(t, pg.Database(t, "", try), "UTC")
	var probes []probe
	documents := []string{
		`1`, `1.0`, `"a"`, `null`, `true`, `[]`, `{}`, `[1]`, `[1, 2]`, `[2, 1, 1]`, `[[1, 2]]`, `[[1]]`, `["a", [1]]`, `[1, [1]]`, `{"a": 1}`, `{"a": 1.00, "b": 2}`,
		`{"a": [1, 2]}`, `{"a": [1]}`, `{"a": {"b": 1}}`, `{"a": {}}`, `{"a": []}`, `[{"a": 1}, {"b": 2}]`, `[{"a": 1, "b": 2}]`, `[{}]`, `[null]`, `[[]]`, `{"a": null}`,
	}
	for _, a := range documents {
		for _, b := range documents {
			contains, err := contains([]byte(a), []byte(b))
			if err != nil {
				t.Fatal(err)
			}
			probes = append(probes,
				probe{quote(a) + "::jsonb @> " + quote(b) + "::jsonb", strconv.FormatBool(contains)},
				probe{quote(a) + "::jsonb = " + quote(b) + "::jsonb", strconv.FormatBool(pgtext.JSONEqual([]byte(a), []byte(b)))})
		}
	}
	compare(t, conn, probes)
}

// TestCanonicalLimits is of what jsonb refuses, and of numbers at numeric's limits.
func TestCanonicalLimits(t *testing.T) {
	t.Parallel()
	conn := connect(t, pg.Database(t, "", try), "UTC")
	var probes []probe
	for _, doc := range []string{
		`"\u0000"`, `"\ud83d"`, `"\ude00"`, `"\ud83dx"`, `{"\u0000": 1}`, `01`, `1.`, `.5`, `+1`, `1e`, `--1`, `{"a" 1}`, `[1,]`, `{,}`, `nul`, ``, ` `, `"`, `"\x"`, `[1 2]`, `1 2`, "\"\t\"", `NaN`,
		`1e131071`, `1e131072`, `1e-16383`, `1e-16384`, `0e5`, `-0`, `-0.00`, `0.0e-3`, `1.5e1`, `1.50e1`, `-12.5E+2`, `1e9999999999`, `123456789012345678901234567890.120`,
	} {
		got, err := pgtext.CanonicalJSONB([]byte{}, []byte(doc))
		probes = append(probes, probe{quote(doc) + "::jsonb", outcome(got, err)})
	}
	compare(t, conn, probes)
}

func contains(a, b []byte) (bool, error) {
	steps := int64(1 << 20)
	return pgtext.JSONContains(a, b, &steps)
}
