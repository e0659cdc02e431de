package pgtext

var errRecordSyntax = &Error{Code: codeTextSyntax, Message: "malformed record literal"}

// CompositeReader iterates over the fields of a composite value's text form.
// Make one with SplitComposite.
type CompositeReader struct {
	s       []byte
	i       int
	done    bool
	err     error
	scratch []byte
}

// SplitComposite reads text, the output form of a composite value, such as
// (1,"a b",). A type without fields has the same text as one whose only field
// is null: the caller knows which.
func SplitComposite(text []byte) CompositeReader {
	r := CompositeReader{s: text, i: 1}
	if len(text) < 2 || text[0] != '(' {
		r.err = errRecordSyntax
	}
	return r
}

// Next returns the next field; ok is false at the end or after an error. field
// is valid until the next call.
func (r *CompositeReader) Next() (field []byte, null, ok bool) {
	if r.done || r.err != nil {
		return nil, false, false
	}
	if r.i < len(r.s) && r.s[r.i] == '"' {
		field, ok = r.quoted()
	} else {
		field, ok = r.bare()
		null = len(field) == 0
	}
	if !ok || r.i >= len(r.s) {
		r.err = errRecordSyntax
		return nil, false, false
	}
	switch r.s[r.i] {
	case ',':
		r.i++
	case ')':
		r.i++
		r.done = true
	}
	if r.done != (r.i == len(r.s)) {
		r.err = errRecordSyntax
		return nil, false, false
	}
	return field, null, true
}

// Err returns what was wrong with the text, once Next has returned false.
func (r *CompositeReader) Err() error { return r.err }

func (r *CompositeReader) bare() ([]byte, bool) {
	start := r.i
	for ; r.i < len(r.s); r.i++ {
		switch r.s[r.i] {
		case ',', ')':
			return r.s[start:r.i], true
		case '(', '"', '\\':
			return nil, false
		}
	}
	return nil, false
}

// quoted reads a field in quotes, in which quotes and backslashes are doubled.
func (r *CompositeReader) quoted() ([]byte, bool) {
	r.i++
	start, copied := r.i, false
	for ; r.i < len(r.s); r.i++ {
		c := r.s[r.i]
		if c != '"' && c != '\\' {
			continue
		}
		escape := r.i+1 < len(r.s) && (c == '\\' || r.s[r.i+1] == '"')
		if !escape {
			if c == '\\' {
				return nil, false
			}
			break
		}
		if !copied {
			r.scratch, copied = r.scratch[:0], true
		}
		r.scratch = append(r.scratch, r.s[start:r.i]...)
		r.i++
		start = r.i
	}
	if r.i >= len(r.s) {
		return nil, false
	}
	field := r.s[start:r.i]
	if copied {
		r.scratch = append(r.scratch, field...)
		field = r.scratch
	}
	r.i++
	return field, r.i < len(r.s) && (r.s[r.i] == ',' || r.s[r.i] == ')')
}
