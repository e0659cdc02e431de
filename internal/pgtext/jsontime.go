package pgtext

import "time"

// appendTimestamp writes a timestamp without zone as the RFC 3339 form of the
// instant that it is in o.Location.
func (o *JSONOptions) appendTimestamp(dst, text []byte) ([]byte, error) {
	loc := o.location()
	if len(text) >= 19 {
		if t, n, ok := fixedTimestamp(text); ok && n == len(text) {
			if p := o.zone.local(t, loc); p != nil && p.offset%60 == 0 {
				// The text is the local time already.
				dst = append(dst, '"')
				dst = append(dst, text[:10]...)
				dst = append(dst, 'T')
				dst = append(dst, text[11:]...)
				dst = appendRFCOffset(dst, p.offset/60)
				return append(dst, '"'), nil
			}
		}
	}
	t, err := ParseTimestamp(text)
	if err != nil {
		return dst, err
	}
	return o.appendInstant(dst, LocalToUTC(t, loc), loc), nil
}

// appendTimestampTZ writes an instant in o.Location.
func (o *JSONOptions) appendTimestampTZ(dst, text []byte) ([]byte, error) {
	t, err := ParseTimestampTZ(text, time.UTC)
	if err != nil {
		return dst, err
	}
	return o.appendInstant(dst, t, o.location()), nil
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
	sign := byte('+')
	if minutes < 0 {
		sign, minutes = '-', -minutes
	}
	dst = append(dst, sign)
	dst = appendPair(dst, minutes/60)
	dst = append(dst, ':')
	return appendPair(dst, minutes%60)
}
