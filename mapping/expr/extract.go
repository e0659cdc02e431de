package expr

import (
	"strings"

	"gancho/internal/pgtext"
)

// extractor appends extract(field from a) as text, nothing for null.
type extractor func(m *Machine, dst []byte, field string, a value) ([]byte, error)

func extractDate(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
	return pgtext.ExtractDate(dst, field, int32(a.i))
}

func extractTime(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
	return pgtext.ExtractTime(dst, field, a.i)
}

func extractTimestamp(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
	return pgtext.ExtractTimestamp(dst, field, a.i)
}

func extractTimestamptz(m *Machine, dst []byte, field string, a value) ([]byte, error) {
	return pgtext.ExtractTimestampTZ(dst, field, a.i, m.loc)
}

func extractInterval(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
	return pgtext.ExtractInterval(dst, field, interval(a))
}

// extractDateAsTimestamp is what date_part does, unlike extract.
func extractDateAsTimestamp(m *Machine, dst []byte, field string, a value) ([]byte, error) {
	ts, err := pgtext.DateToTimestamp(int32(a.i))
	if err != nil {
		return dst, err
	}
	return extractTimestamp(m, dst, field, intValue(ts))
}

// extractImpl is extract, which yields numeric, or date_part, which yields
// double precision, of a constant field, which is tried out when the rule is
// compiled.
func extractImpl(f extractor, asFloat bool) *impl {
	return withConstant(0, "the field to extract", constantHint, func(c *checker, t *term, field string) (*impl, *Error) {
		if _, err := f(c.machine, nil, field, intValue(0)); err != nil {
			return nil, refusal(t.args[0], c.machine.conversionError(err, 0).Message, "")
		}
		finish := func(_ *Machine, v value) value { return v }
		if asFloat {
			if finish = partAsFloat(strings.ToLower(field), t.args[1].typ.OID == oidInterval); finish == nil {
				return nil, refusal(t.args[0], "date_part of "+field+" is not supported", "use extract("+field+" from ...), which is exact")
			}
		}
		return two(func(m *Machine, _, a value) value {
			start := len(m.arena)
			out, err := f(m, m.arena, field, a)
			switch {
			case err != nil:
				return m.failWith(err)
			case len(out) <= start: // null
				return value{}
			}
			m.arena = out
			v, _ := parseNumeric(out[start:]) // printed by us
			return finish(m, v)
		}), nil
	})
}

// partAsFloat returns date_part's double of extract's numeric; nil when they
// differ. Where fractions are involved, PostgreSQL computes in doubles, so the
// same steps are taken.
func partAsFloat(field string, ofInterval bool) func(m *Machine, v value) value {
	asFloat := func(m *Machine, v value) value { return numericToFloat(m, v, 64) }
	inMicros := func(of func(micros value) float64) func(m *Machine, v value) value {
		return func(m *Machine, v value) value {
			if v.aux != finite {
				return asFloat(m, v)
			}
			return floatValue(of(roundNumeric(v, 6, true)))
		}
	}
	switch field {
	case "year", "quarter", "month", "week", "day", "dow", "isodow", "doy", "hour", "minute", "decade", "century", "millennium", "isoyear", "microseconds":
		return asFloat
	case "second":
		return inMicros(func(v value) float64 { return float64(v.i/1000000) + float64(v.i%1000000)/1000000 })
	case "epoch":
		if !ofInterval {
			return inMicros(func(v value) float64 {
				f, _ := unscaled(v).Float64()
				return f / 1000000
			})
		}
	}
	return nil
}
