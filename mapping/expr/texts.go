package expr

import (
	"bytes"
	"crypto/md5" //nolint:gosec // md5() of SQL
	"encoding/hex"
	"unicode"
	"unicode/utf8"
)

// textImpls are the functions that cut, search and measure text. Positions
// are in characters, from 1.
func textImpls() map[string]*impl {
	count := one(func(m *Machine, a value) value { return intValue(m.count(a.s)) })
	countTrimmed := one(func(m *Machine, a value) value { return intValue(m.count(trimEnd(a.s))) })
	bytesOf := one(func(_ *Machine, a value) value { return intValue(int64(len(a.s))) })
	position := two(func(m *Machine, a, b value) value {
		i := bytes.Index(a.s, b.s)
		if i < 0 {
			return intValue(0)
		}
		return intValue(m.count(a.s[:i]) + 1)
	})
	startsWith := two(func(_ *Machine, a, b value) value { return boolValue(bytes.HasPrefix(a.s, b.s)) })
	from := two(func(m *Machine, a, b value) value { return m.substring(a, b.i, -1) })
	fromFor := many(func(m *Machine, a []value) value {
		if a[2].i < 0 {
			return m.fail("22011", "negative substring length not allowed")
		}
		return m.substring(a[0], a[1].i, a[2].i)
	})
	serverBytes := ofUTF8(bytesOf, "octet_length counts the bytes of encoding ", "use length")
	all := map[string]*impl{
		"textcat(text,text)":           two(concatenate),
		"textanycat(text,anynonarray)": bound(func(c *checker, t *term) (*impl, *Error) { return catAny(c, t, 1) }),
		"anytextcat(anynonarray,text)": bound(func(c *checker, t *term) (*impl, *Error) { return catAny(c, t, 0) }),
		"text(bpchar)":                 one(func(_ *Machine, a value) value { return textValue(trimEnd(a.s)) }),
		"position(text,text)":          position,
		"strpos(text,text)":            position,
		"starts_with(text,text)":       startsWith,
		"substring(text,int4)":         from,
		"substr(text,int4)":            from,
		"substring(text,int4,int4)":    fromFor,
		"substr(text,int4,int4)":       fromFor,
		"left(text,int4)":              two(left),
		"right(text,int4)":             two(right),
		"length(bytea)":                bytesOf,
		"octet_length(bytea)":          bytesOf,
		"octet_length(text)":           serverBytes,
		"octet_length(bpchar)":         serverBytes,
		"split_part(text,text,int4)":   many(splitPart),
	}
	for _, name := range []string{"length", "char_length", "character_length"} {
		all[name+"(text)"] = count
		all[name+"(bpchar)"] = countTrimmed
	}
	return all
}

// ofUTF8 is an implementation about bytes of text, which differ between encodings.
func ofUTF8(im *impl, message, hint string) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		if !c.scope.Settings.utf8() {
			return nil, refusal(t, message+c.scope.Settings.Encoding+", which the rules do not know", hint)
		}
		return im, nil
	})
}

func concatenate(m *Machine, a, b value) value {
	if !m.room(len(a.s) + len(b.s)) {
		return m.overMemory()
	}
	return m.appended(append(append(m.arena, a.s...), b.s...))
}

// catAny is || with one side of another type, which is cast to text.
func catAny(c *checker, t *term, arg int) (*impl, *Error) {
	converted, err := c.attempt(func() *term { return c.coerceExplicit(t.args[arg].place, t.args[arg], builtin(oidText)) })
	if err != nil {
		return nil, err
	}
	t.args[arg] = converted
	return implementations()["textcat(text,text)"], nil
}

// substring is count characters from position start, which may be before the text;
// count -1 is to the end.
func (m *Machine) substring(a value, start, count int64) value {
	end := start + count
	if count < 0 {
		end = int64(len(a.s)) + 1
	}
	start = max(start, 1)
	if end <= start {
		return textValue(nil)
	}
	i := m.offset(a.s, start-1)
	return textValue(a.s[i : i+m.offset(a.s[i:], end-start)])
}

// In a database of encoding SQL_ASCII a character is a byte, whatever the text is.

// count returns the number of characters.
func (m *Machine) count(s []byte) int64 {
	if m.bytewise {
		return int64(len(s))
	}
	return int64(utf8.RuneCount(s))
}

// first returns the length of the first character, in bytes.
func (m *Machine) first(s []byte) int {
	if m.bytewise || s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRune(s)
	return n
}

// last returns the length of the last character, in bytes.
func (m *Machine) last(s []byte) int {
	if m.bytewise {
		return 1
	}
	_, n := utf8.DecodeLastRune(s)
	return n
}

// offset is the byte offset of the n-th character, or the length.
func (m *Machine) offset(s []byte, n int64) int {
	i := 0
	for ; n > 0 && i < len(s); n-- {
		i += m.first(s[i:])
	}
	return i
}

func left(m *Machine, a, n value) value {
	count := n.i
	if count < 0 {
		count += m.count(a.s)
	}
	return textValue(a.s[:m.offset(a.s, count)])
}

func right(m *Machine, a, n value) value {
	skip := -n.i
	if n.i >= 0 {
		skip += m.count(a.s)
	}
	return textValue(a.s[m.offset(a.s, skip):])
}

func splitPart(m *Machine, a []value) value {
	s, sep, n := a[0].s, a[1].s, a[2].i
	if n == 0 {
		return m.fail("22023", "field position must not be zero")
	}
	if len(s) == 0 {
		return textValue(nil)
	}
	if len(sep) == 0 {
		if n == 1 || n == -1 {
			return a[0]
		}
		return textValue(nil)
	}
	if n < 0 {
		if n += int64(bytes.Count(s, sep)) + 2; n <= 0 {
			return textValue(nil)
		}
	}
	for ; n > 1; n-- {
		_, rest, found := bytes.Cut(s, sep)
		if !found {
			return textValue(nil)
		}
		s = rest
	}
	field, _, _ := bytes.Cut(s, sep)
	return textValue(field)
}

// textFormImpls are the functions that change text.
func textFormImpls() map[string]*impl {
	all := map[string]*impl{
		"upper(text)":               caseFunction(unicode.ToUpper),
		"lower(text)":               caseFunction(unicode.ToLower),
		"replace(text,text,text)":   many(replace),
		"repeat(text,int4)":         two(repeat),
		"translate(text,text,text)": many(translate),
		"md5(text)":                 ofUTF8(one(md5Hex), "md5 of text depends on encoding ", "send the text itself"),
		"md5(bytea)":                one(md5Hex),
		"lpad(text,int4)":           two(func(m *Machine, a, b value) value { return pad(m, a.s, b.i, []byte(" "), true) }),
		"rpad(text,int4)":           two(func(m *Machine, a, b value) value { return pad(m, a.s, b.i, []byte(" "), false) }),
		"lpad(text,int4,text)":      many(func(m *Machine, a []value) value { return pad(m, a[0].s, a[1].i, a[2].s, true) }),
		"rpad(text,int4,text)":      many(func(m *Machine, a []value) value { return pad(m, a[0].s, a[1].i, a[2].s, false) }),
	}
	for name, sides := range map[string][2]bool{"btrim": {true, true}, "ltrim": {true, false}, "rtrim": {false, true}} {
		all[name+"(text)"] = one(func(m *Machine, a value) value { return m.trim(a.s, []byte(" "), sides) })
		all[name+"(text,text)"] = two(func(m *Machine, a, b value) value { return m.trim(a.s, b.s, sides) })
	}
	return all
}

func replace(m *Machine, a []value) value {
	s, from, to := a[0].s, a[1].s, a[2].s
	if len(s) == 0 || len(from) == 0 {
		return a[0]
	}
	if longer := len(to) - len(from); !m.room(len(s) + max(longer, 0)*bytes.Count(s, from)) {
		return m.overMemory()
	}
	start := len(m.arena)
	for {
		before, after, found := bytes.Cut(s, from)
		m.arena = append(m.arena, before...)
		if !found {
			return m.grown(start)
		}
		m.arena, s = append(m.arena, to...), after
	}
}

func md5Hex(m *Machine, a value) value {
	sum := md5.Sum(a.s) //nolint:gosec // md5() of SQL
	return m.appended(hex.AppendEncode(m.arena, sum[:]))
}

// trim cuts the characters of a set off the sides.
func (m *Machine) trim(s, set []byte, sides [2]bool) value {
	in := func(c []byte) bool {
		if m.bytewise || len(c) == 1 {
			return bytes.IndexByte(set, c[0]) >= 0
		}
		return m.step(len(set)/16) && bytes.Contains(set, c) // a character begins nowhere within another
	}
	for sides[0] && len(s) > 0 {
		n := m.first(s)
		if !in(s[:n]) {
			break
		}
		s = s[n:]
	}
	for sides[1] && len(s) > 0 {
		n := m.last(s)
		if !in(s[len(s)-n:]) {
			break
		}
		s = s[:len(s)-n]
	}
	if m.steps < 0 {
		return m.overSteps()
	}
	return textValue(s)
}

// maxAlloc is the largest allocation of PostgreSQL, in bytes.
const maxAlloc = 1<<30 - 1

func (m *Machine) tooLong() value { return m.fail("54000", "requested length too large") }

func repeat(m *Machine, a, n value) value {
	if n.i <= 0 || len(a.s) == 0 {
		return textValue(nil)
	}
	if int64(len(a.s))*n.i > maxAlloc {
		return m.tooLong()
	}
	if !m.room(len(a.s) * int(n.i)) {
		return m.overMemory()
	}
	start := len(m.arena)
	for range n.i {
		m.arena = append(m.arena, a.s...)
	}
	return m.grown(start)
}

// translate replaces characters of the second text by those at the same place of
// the third, or drops them where it has none.
func translate(m *Machine, a []value) value {
	s, from, to := a[0].s, a[1].s, a[2].s
	if !m.room(translatedSize(s, to)) {
		return m.overMemory()
	}
	start := len(m.arena)
	for len(s) > 0 {
		c := s[:m.first(s)]
		s = s[len(c):]
		m.arena = append(m.arena, m.translated(c, from, to)...)
	}
	if m.steps < 0 {
		return m.overSteps()
	}
	return m.grown(start)
}

// translated is what translate makes of one character.
func (m *Machine) translated(c, from, to []byte) []byte {
	if !m.step(1 + len(from)/16) {
		return nil
	}
	i := bytes.Index(from, c) // a character begins nowhere within another
	if i < 0 {
		return c
	}
	m.step(2 * i)
	if to = to[m.offset(to, m.count(from[:i])):]; len(to) == 0 {
		return nil
	}
	return to[:m.first(to)]
}

// translatedSize bounds the length of a text with characters replaced by those of
// another.
func translatedSize(s, to []byte) int {
	if isASCII(to) {
		return len(s)
	}
	return len(s) * utf8.UTFMax
}

// pad is lpad and rpad: to n characters, cutting what is longer.
func pad(m *Machine, s []byte, n int64, fill []byte, before bool) value {
	n = max(n, 0)
	have := m.count(s)
	if n*utf8.UTFMax > maxAlloc { // PostgreSQL sizes the result for the widest characters
		return m.tooLong()
	}
	if have >= n || len(fill) == 0 {
		return textValue(s[:m.offset(s, n)])
	}
	widest := 1
	if !isASCII(fill) {
		widest = utf8.UTFMax
	}
	if !m.room(len(s) + int(n-have)*widest) {
		return m.overMemory()
	}
	start := len(m.arena)
	if !before {
		m.arena = append(m.arena, s...)
	}
	rest := fill
	for range n - have {
		if len(rest) == 0 {
			rest = fill
		}
		size := m.first(rest)
		m.arena = append(m.arena, rest[:size]...)
		rest = rest[size:]
	}
	if before {
		m.arena = append(m.arena, s...)
	}
	return m.grown(start)
}
