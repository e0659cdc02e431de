package pgtext

var errRecordSyntax = &Error{Code: codeTextSyntax, Message: "malformed record literal"}

// CompositeReader iterates over the fields of a composite value's text form.
// Create one with SplitComposite.
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
	var field []byte
	var ok bool
	field, r.i, ok = unquote(r.s, r.i, true, &r.scratch)
	return field, ok && r.i < len(r.s) && (r.s[r.i] == ',' || r.s[r.i] == ')')
}

// unquote reads the text in quotes at i and returns the place after it. A
// backslash escapes the next byte and, if doubled is set, a quote another quote. A
// text with escapes is assembled in scratch.
func unquote(s []byte, i int, doubled bool, scratch *[]byte) (text []byte, after int, ok bool) {
	i++
	start, copied := i, false
	for ; i < len(s); i++ {
		c := s[i]
		if c != '"' && c != '\\' {
			continue
		}
		if c == '"' && (!doubled || i+1 == len(s) || s[i+1] != '"') {
			break
		}
		if !copied {
			*scratch, copied = (*scratch)[:0], true
		}
		*scratch = append(*scratch, s[start:i]...)
		i++ // the next byte begins the next piece
		start = i
	}
	if i >= len(s) {
		return nil, len(s), false
	}
	text = s[start:i]
	if copied {
		*scratch = append(*scratch, text...)
		text = *scratch
	}
	return text, i + 1, true
}
