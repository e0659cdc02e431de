package pgtext

import "gancho/internal/jsontext"

var errHstoreSyntax = &Error{Code: codeTextSyntax, Message: "malformed hstore"}

// appendHstore writes hstore's output form ("a"=>"1", "b"=>NULL) as an object
// of strings and nulls, as the extension's own cast to json does.
func appendHstore(dst, text []byte) ([]byte, error) {
	p := hstoreParser{s: text}
	dst = append(dst, '{')
	for first := true; p.i < len(p.s); first = false {
		if !first {
			if !p.take(`, `) {
				return dst, errHstoreSyntax
			}
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = p.appendString(dst); !ok || !p.take(`=>`) {
			return dst, errHstoreSyntax
		}
		dst = append(dst, ':')
		if p.take("NULL") {
			dst = append(dst, "null"...)
			continue
		}
		if dst, ok = p.appendString(dst); !ok {
			return dst, errHstoreSyntax
		}
	}
	return append(dst, '}'), nil
}

type hstoreParser struct {
	s []byte
	i int
}

func (p *hstoreParser) take(word string) bool {
	if len(p.s)-p.i < len(word) || string(p.s[p.i:p.i+len(word)]) != word {
		return false
	}
	p.i += len(word)
	return true
}

// appendString reads a quoted string, in which a backslash makes the next byte
// plain, and appends it as JSON.
func (p *hstoreParser) appendString(dst []byte) ([]byte, bool) {
	if !p.take(`"`) {
		return dst, false
	}
	dst = append(dst, '"')
	start := p.i
	for ; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '"':
			dst = jsontext.AppendEscaped(dst, p.s[start:p.i], true)
			p.i++
			return append(dst, '"'), true
		case '\\':
			dst = jsontext.AppendEscaped(dst, p.s[start:p.i], true)
			p.i++
			start = p.i // the escaped byte (a quote or a backslash) begins the next piece
		}
	}
	return dst, false
}
