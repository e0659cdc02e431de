package pgtext

import (
	"gancho/cdc"
	"gancho/internal/jsontext"
)

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
