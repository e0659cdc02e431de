package strictyaml

import "strings"

// expand replaces ${NAME} and ${NAME:-default} in a scalar's text, as a shell
// does: the default also stands in for an empty variable. $${ is a literal ${,
// and a $ before anything else is itself. A variable that is not set is an
// error that names it. What is filled in is not expanded again.
// It reports whether the text is complete.
func (v Value) expand() (string, bool) {
	text := v.node.Value
	if v.doc.env == nil || !strings.Contains(text, "${") {
		return text, true
	}
	var b strings.Builder
	rest, complete := text, true
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			b.WriteString(rest)
			return b.String(), complete
		}
		if i > 0 && rest[i-1] == '$' {
			b.WriteString(rest[:i-1])
			b.WriteString("${")
			rest = rest[i+2:]
			continue
		}
		b.WriteString(rest[:i])
		offset := len(text) - len(rest) + i
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			v.ErrorfAt(offset, "write $${ for a literal ${", "a ${ without its }")
			return "", false
		}
		value, ok := v.variable(rest[i+2:i+end], offset)
		b.WriteString(value)
		complete = complete && ok
		rest = rest[i+end+1:]
	}
}

func (v Value) variable(reference string, offset int) (string, bool) {
	name, fallback, hasFallback := strings.Cut(reference, ":-")
	if !validName(name) {
		v.ErrorfAt(offset, "write ${NAME} or ${NAME:-default}; write $${ for a literal ${", "not the name of an environment variable")
		return "", false
	}
	value, ok := v.doc.env(name)
	switch {
	case hasFallback && value == "":
		return fallback, true
	case !ok:
		v.ErrorfAt(offset, "set it, or write ${"+name+":-default}", "the environment variable %s is not set", name)
		return "", false
	}
	return value, true
}

func validName(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
