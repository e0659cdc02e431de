package pgtext

import (
	"gancho/cdc"
	"gancho/internal/jsontext"
)

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

var errHstoreSyntax = &Error{Code: codeTextSyntax, Message: "malformed hstore"}

// appendHstore writes hstore's output form ("a"=>"1", "b"=>NULL) as an object
// of strings and nulls, as the extension's own cast to json does.
func (o *JSONOptions) appendHstore(dst []byte, _ *cdc.Type, text []byte) ([]byte, error) {
	p := hstoreParser{s: text, scratch: o.scratch[o.level-1]}
	dst = append(dst, '{')
	for first := true; p.i < len(p.s); first = false {
		if !first {
			if !p.accept(`, `) {
				return dst, errHstoreSyntax
			}
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = p.appendString(dst); !ok || !p.accept(`=>`) {
			return dst, errHstoreSyntax
		}
		dst = append(dst, ':')
		if p.accept("NULL") {
			dst = append(dst, "null"...)
			continue
		}
		if dst, ok = p.appendString(dst); !ok {
			return dst, errHstoreSyntax
		}
	}
	o.scratch[o.level-1] = p.scratch
	return append(dst, '}'), nil
}

type hstoreParser struct {
	s       []byte
	i       int
	scratch []byte
}

func (p *hstoreParser) accept(word string) bool {
	if len(p.s)-p.i < len(word) || string(p.s[p.i:p.i+len(word)]) != word {
		return false
	}
	p.i += len(word)
	return true
}

// appendString reads a quoted string and appends it as JSON.
func (p *hstoreParser) appendString(dst []byte) ([]byte, bool) {
	if p.i >= len(p.s) || p.s[p.i] != '"' {
		return dst, false
	}
	var text []byte
	var ok bool
	text, p.i, ok = unquote(p.s, p.i, false, &p.scratch)
	return jsontext.AppendString(dst, text), ok
}
