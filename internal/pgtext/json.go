package pgtext

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"gancho/cdc"
	"gancho/internal/jsontext"
)

// JSONOptions say how values are written. They cache time zone periods and scratch
// memory: one JSONOptions belongs to one goroutine.
type JSONOptions struct {
	// Location is the zone that instants are shown in, and that timestamps
	// without zone are local in. Nil is UTC.
	Location *time.Location
	// Wall says that timestamps without zone are not local in Location: they are
	// written as to_jsonb writes them, without an offset.
	Wall bool
	// NumbersAsStrings puts every number in quotes, for receivers that would
	// read it as a float.
	NumbersAsStrings bool
	// Limit bounds what one value may become, in bytes; 0 is no limit. JSON may be
	// several times as long as the value's text.
	Limit int

	end     int // of the output, by Limit
	zone    zoneCache
	scratch [][]byte // by nesting of arrays, composites and hstores
	level   int
}

// The object ids of PostgreSQL's built-in types that JSON has a form for (pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt2Vector  = 22
	oidInt4        = 23
	oidOIDVector   = 30
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidBPChar      = 1042
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidNumeric     = 1700
	oidJSONB       = 3802
)

// maxValueDepth bounds the nesting of arrays and composites: PostgreSQL's own
// stack sets a lower one.
const maxValueDepth = 1000

// AppendJSON appends the JSON of a value of type t (a column's modifier is
// typmod) given its text form; the package's documentation has the table of
// what becomes what. Text that is not of the type's form is an error, and dst
// is then returned as it came. A nil o is JSONOptions{}.
func AppendJSON(dst []byte, t *cdc.Type, typmod int32, text []byte, o *JSONOptions) ([]byte, error) {
	if o == nil {
		o = &JSONOptions{}
	}
	n := len(dst)
	o.end = math.MaxInt
	if o.Limit > 0 {
		o.end = n + o.Limit
	}
	out, err := o.appendValue(dst, t, text)
	if err != nil {
		return dst[:n], fmt.Errorf("write %s as JSON: %w", typeName(t), err)
	}
	return out, nil
}

func typeName(t *cdc.Type) string {
	if t.Schema == "" || t.Schema == "pg_catalog" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// ErrTooLong is the error for what would need more memory than there is for it.
var ErrTooLong error = &Error{Code: "54000", Message: "the values of this change need more than 256 MiB of memory"}

// exceeds reports whether a text does not fit behind dst, as a JSON string.
func (o *JSONOptions) exceeds(dst, text []byte) bool {
	const escape = len(`\u0000`)
	left := o.end - len(dst)
	if len(text) < left/escape {
		return false
	}
	size, valid := len(text)+len(`""`), utf8.Valid(text)
	for _, c := range text {
		switch {
		case c < ' ':
			size += escape - 1
		case c == '"' || c == '\\':
			size++
		case c == 0xE2 || c >= utf8.RuneSelf && !valid: // U+2028 is escaped, and bytes that are not UTF-8 are replaced
			size += escape
		}
	}
	return size > left
}

func (o *JSONOptions) appendValue(dst []byte, t *cdc.Type, text []byte) ([]byte, error) {
	if o.exceeds(dst, text) {
		return dst, ErrTooLong
	}
	t = t.Base()
	switch t.OID {
	case oidInt2, oidInt4, oidInt8, oidFloat4, oidFloat8, oidNumeric:
		return o.appendNumber(dst, text)
	case oidBool:
		return appendBool(dst, text)
	case oidBPChar:
		return jsontext.AppendString(dst, bytes.TrimRight(text, " ")), nil
	case oidTimestamp:
		return o.appendTimestamp(dst, text)
	case oidTimestampTZ:
		return o.appendTimestampTZ(dst, text)
	case oidJSON, oidJSONB:
		return appendJSONText(dst, text)
	case oidBytea:
		return appendBase64(dst, text)
	case oidInt2Vector, oidOIDVector: // arrays in the catalogue, but not in their text
		return jsontext.AppendString(dst, text), nil
	}
	switch {
	case t.Kind == cdc.KindArray && t.Elem != nil:
		return o.nested(dst, t, text, (*JSONOptions).appendArray)
	case t.Kind == cdc.KindComposite:
		return o.nested(dst, t, text, (*JSONOptions).appendComposite)
	case IsZonedRange(t):
		return o.nested(dst, t, text, (*JSONOptions).appendZonedRange)
	case t.Kind == cdc.KindBase && t.Name == "hstore":
		return o.nested(dst, t, text, (*JSONOptions).appendHstore)
	}
	return jsontext.AppendString(dst, text), nil
}

// appendNumber keeps the digits. NaN and the infinities have no JSON number.
func (o *JSONOptions) appendNumber(dst, text []byte) ([]byte, error) {
	if len(text) > 0 && numberLength(text) == len(text) {
		if !o.NumbersAsStrings {
			return append(dst, text...), nil
		}
	} else {
		switch string(text) {
		case "NaN", "Infinity", "-Infinity":
		default:
			return dst, syntaxError("malformed number")
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"'), nil
}

func appendBool(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "t":
		return append(dst, "true"...), nil
	case "f":
		return append(dst, "false"...), nil
	}
	return dst, syntaxError("malformed boolean")
}

// appendJSONText appends JSON as it is. Line ends between its tokens, which
// the type json keeps, are left out, so that a body stays one line.
func appendJSONText(dst, text []byte) ([]byte, error) {
	lines, err := checkJSON(text)
	if err != nil {
		return dst, err
	}
	if lines == 0 {
		return append(dst, text...), nil
	}
	for _, c := range text {
		if c != '\n' && c != '\r' {
			dst = append(dst, c)
		}
	}
	return dst, nil
}

// appendBase64 turns bytea's hex form (\xdeadbeef) into base64.
func appendBase64(dst, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return dst, syntaxError(`malformed bytea: want the hex form (\x...)`)
	}
	var chunk [3 * 256]byte // whole groups of three, so that only the last is padded
	dst = append(dst, '"')
	for text = text[2:]; len(text) > 0; {
		part := text[:min(len(text), 2*len(chunk))]
		n, err := hex.Decode(chunk[:], part)
		if err != nil {
			return dst, syntaxError(`malformed bytea: want the hex form (\x...)`)
		}
		dst = base64.StdEncoding.AppendEncode(dst, chunk[:n])
		text = text[len(part):]
	}
	return append(dst, '"'), nil
}

// nested calls f one level deeper.
func (o *JSONOptions) nested(dst []byte, t *cdc.Type, text []byte,
	f func(o *JSONOptions, dst []byte, t *cdc.Type, text []byte) ([]byte, error),
) ([]byte, error) {
	if o.level == maxValueDepth {
		return dst, &Error{Code: "54001", Message: "value nested too deeply"}
	}
	if len(o.scratch) == o.level {
		o.scratch = append(o.scratch, nil)
	}
	o.level++
	dst, err := f(o, dst, t, text)
	o.level--
	return dst, err
}

func (o *JSONOptions) appendArray(dst []byte, t *cdc.Type, text []byte) ([]byte, error) {
	r := ReadArray(text, t.Delim)
	r.scratch = o.scratch[o.level-1]
	after := false // an element or a closed dimension precedes
	for {
		item, elem, err := r.Next()
		if err != nil {
			return dst, err
		}
		if after && item != ArrayClose && item != ArrayEnd {
			dst = append(dst, ',')
		}
		if after = item != ArrayOpen; len(dst) > o.end {
			return dst, ErrTooLong
		}
		switch item {
		case ArrayEnd:
			o.scratch[o.level-1] = r.scratch
			return dst, nil
		case ArrayOpen:
			dst = append(dst, '[')
		case ArrayClose:
			dst = append(dst, ']')
		case ArrayNull:
			dst = append(dst, "null"...)
		default:
			if dst, err = o.appendValue(dst, t.Elem, elem); err != nil {
				return dst, err
			}
		}
	}
}

func (o *JSONOptions) appendComposite(dst []byte, t *cdc.Type, text []byte) ([]byte, error) {
	if len(t.Fields) == 0 && string(text) == "()" {
		return append(dst, "{}"...), nil
	}
	r := SplitComposite(text)
	r.scratch = o.scratch[o.level-1]
	dst = append(dst, '{')
	for i := range t.Fields {
		field, null, ok := r.Next()
		if !ok {
			return dst, errRecordSyntax
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst = appendKey(dst, t.Fields[i].Name); len(dst) > o.end {
			return dst, ErrTooLong
		}
		if null {
			dst = append(dst, "null"...)
			continue
		}
		var err error
		if dst, err = o.appendValue(dst, t.Fields[i].Type, field); err != nil {
			return dst, err
		}
	}
	if _, _, more := r.Next(); more || r.Err() != nil {
		return dst, errRecordSyntax
	}
	o.scratch[o.level-1] = r.scratch
	return append(dst, '}'), nil
}

// appendKey appends a name as an object's key, with the colon.
func appendKey(dst []byte, name string) []byte {
	return append(jsontext.AppendString(dst, name), ':')
}

// appendTimestamp writes a timestamp without zone as the RFC 3339 form of the
// instant that it is in o.Location. One that is no instant there, or two, or whose
// offset has seconds, is written as it is, without an offset: any instant would
// show another time.
func (o *JSONOptions) appendTimestamp(dst, text []byte) ([]byte, error) {
	loc := o.location()
	if len(text) >= 19 {
		if t, n, ok := fixedTimestamp(text); ok && n == len(text) {
			p := o.zone.local(t, loc)
			if o.Wall || p != nil && p.offset%60 == 0 {
				// The text is the local time already.
				dst = append(dst, '"')
				dst = append(dst, text[:10]...)
				dst = append(dst, 'T')
				dst = append(dst, text[11:]...)
				if !o.Wall {
					dst = appendRFCOffset(dst, p.offset/60)
				}
				return append(dst, '"'), nil
			}
		}
	}
	t, err := ParseTimestamp(text)
	if err != nil {
		return dst, err
	}
	if offset, once := localOffset(t, loc); !o.Wall && once && offset%60 == 0 || !finiteTimestamp(t) {
		return o.appendInstant(dst, LocalToUTC(t, loc), loc), nil
	}
	days, micros := splitTimestamp(t)
	c := civilOf(days)
	dst = appendDateTime(append(dst, '"'), c, 'T', micros)
	dst = appendEra(dst, c.year)
	return append(dst, '"'), nil
}

// appendTimestampTZ writes an instant in o.Location.
func (o *JSONOptions) appendTimestampTZ(dst, text []byte) ([]byte, error) {
	t, err := ParseTimestampTZ(text, time.UTC)
	if err != nil {
		return dst, err
	}
	return o.appendInstant(dst, t, o.location()), nil
}

// appendZonedRange writes a range of instants with its bounds in o.Location.
func (o *JSONOptions) appendZonedRange(dst []byte, _ *cdc.Type, text []byte) ([]byte, error) {
	shown, err := AppendZonedRange(o.scratch[o.level-1][:0], text, o.location())
	o.scratch[o.level-1] = shown
	if err != nil {
		return dst, err
	}
	return jsontext.AppendString(dst, shown), nil
}

func (o *JSONOptions) location() *time.Location {
	if o.Location == nil {
		return time.UTC
	}
	return o.Location
}

// appendInstant writes RFC 3339, with the microseconds that there are. An
// offset with seconds, as zones had before standard time, is rounded to the
// minute and the local time with it, so that the instant stays exact: what RFC
// 3339 does in its last example (section 5.8). What has no form there is
// written as PostgreSQL's to_jsonb does: infinity, -infinity, " BC" after the
// zone, years of more than four digits.
func (o *JSONOptions) appendInstant(dst []byte, ts int64, loc *time.Location) []byte {
	dst = append(dst, '"')
	if !finiteTimestamp(ts) {
		dst = appendInfinity(dst, ts < 0)
		return append(dst, '"')
	}
	offset := o.zone.instant(ts, loc).offset
	minutes := int(floorDiv(int64(offset)+30, 60))
	days, micros := splitTimestamp(ts + int64(minutes)*microsPerMinute)
	c := civilOf(days)
	dst = appendDateTime(dst, c, 'T', micros)
	dst = appendRFCOffset(dst, minutes)
	dst = appendEra(dst, c.year)
	return append(dst, '"')
}

func appendRFCOffset(dst []byte, minutes int) []byte {
	dst = append(dst, signOf(minutes < 0))
	minutes = abs(minutes)
	dst = appendPair(dst, minutes/60)
	dst = append(dst, ':')
	return appendPair(dst, minutes%60)
}
