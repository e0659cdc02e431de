package expr

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
)

// maskFunctions are Gancho's own functions that hide a text. They have no
// counterpart in PostgreSQL. A text that does not have the expected form becomes
// stars alone.
func maskFunctions() map[string]func(dst, text []byte) []byte {
	return map[string]func(dst, text []byte) []byte{
		"mask_cpf":   func(dst, text []byte) []byte { return appendTaxID(dst, text, "***.***.***-**") },
		"mask_cnpj":  func(dst, text []byte) []byte { return appendTaxID(dst, text, "**.***.***/****-**") },
		"mask_email": appendMaskedEmail,
		"mask_phone": appendMaskedPhone,
		"last4":      appendLastFour,
	}
}

// maskNames are the functions that hide their argument, for suggestions.
func maskNames() []string {
	return append(slices.Collect(maps.Keys(maskFunctions())), "hmac")
}

// IsOwn reports a function that PostgreSQL has not: it is evaluated here wherever it
// stands.
func IsOwn(function string) bool {
	return function == "changed" || function == "became" || IsMask(function)
}

// IsMask reports a function that hides its first argument.
func IsMask(function string) bool { return slices.Contains(maskNames(), function) }

// mask creates a call of one of maskFunctions.
func (c *checker) mask(n *call, f func(dst, text []byte) []byte) *term {
	if len(n.args) != 1 {
		return c.errorAt(n.place, fmt.Sprintf("write %s(column)", n.name.text), "%s() takes one argument", n.name.text)
	}
	return c.hidingCall(n, func(m *Machine, a value) value {
		text := bytes.Trim(a.s, " \t\r\n")
		if len(text) == 0 {
			return textValue(nil)
		}
		if !m.room(len(text) + shortForm) {
			return m.overMemory()
		}
		return m.appended(f(m.arena, text))
	})
}

// hmac is hmac(text, 'name of a secret'): HMAC-SHA-256 in lower-case hex.
func (c *checker) hmac(n *call) *term {
	if len(n.args) != 2 {
		return c.errorAt(n.place, "write hmac(column, 'name of a secret')", "hmac() takes two arguments")
	}
	name, ok := n.args[1].(*literal)
	if !ok || name.kind != litString {
		c.hidden(n)
		return c.errorAt(placeOf(n.args[1]), "write the name as a 'string'", "the secret of hmac() must be named by a constant")
	}
	key := c.scope.Settings.Secrets[name.text]
	if len(key) == 0 {
		c.hidden(n)
		return c.errorAt(name.place, c.secretHint(name.text), "secret %q is not in privacy.secrets", name.text)
	}
	return c.hidingCall(n, func(m *Machine, a value) value {
		mac := m.mac(name.text, key)
		_, _ = mac.Write(a.s) // a hash never fails to be written
		m.digest = mac.Sum(m.digest[:0])
		return m.appended(hex.AppendEncode(m.arena, m.digest))
	})
}

func (c *checker) secretHint(name string) string {
	return suggest(name, slices.Sorted(maps.Keys(c.scope.Settings.Secrets)), "did you mean '%s'?",
		fmt.Sprintf("write privacy: {secrets: {%s: \"${GANCHO_HMAC_KEY}\"}} in the configuration", name))
}

// hidden checks the first argument, as a text. Columns in it are not shown.
func (c *checker) hidden(n *call) *term {
	c.hiding++
	arg := c.check(n.args[0])
	c.hiding--
	if arg == nil {
		return nil
	}
	if isForeign(arg.typ) {
		return c.foreign(arg)
	}
	switch oid := arg.typ.Base().OID; {
	case oid == oidText, oid == oidVarchar, oid == oidBpchar, oid == oidUnknown, isTextLike(arg.typ):
		return c.coerce(arg, builtin(oidText), implicitCast, "")
	}
	return c.errorAt(arg.place, maskHint(n, arg.typ), "%s() hides text, not %s", n.name.text, typeTitle(arg.typ))
}

// hidingCall creates the call of a function that hides its first argument.
func (c *checker) hidingCall(n *call, f func(*Machine, value) value) *term {
	t := newTerm(opCall, builtin(oidText), n.place, c.hidden(n))
	if t != nil {
		t.impl, t.function = one(f), n.name.text
	}
	return t
}

// mac returns the machine's HMAC of a secret, empty.
func (m *Machine) mac(name string, key []byte) hash.Hash {
	mac := m.macs[name]
	if mac == nil {
		if m.macs == nil {
			m.macs = map[string]hash.Hash{}
		}
		mac = hmac.New(sha256.New, key)
		m.macs[name] = mac
	}
	mac.Reset()
	return mac
}

// appendTaxID masks a CPF as ***.456.789-** and a CNPJ as **.345.678/0001-**,
// with or without their points: legacy columns hold both, so that either
// function masks either. A CNPJ may have letters since July 2026. One that is
// not valid is shown as nothing: it may hold a CPF. A CPF filled up with zeros
// to the 14 digits of a column for both is a CPF, also where it happens to be a
// CNPJ, because that shows less.
func appendTaxID(dst, text []byte, malformed string) []byte {
	var buffer [14]byte
	id := buffer[:0]
	for _, b := range text {
		switch {
		case b == '.' || b == '-' || b == '/' || b == ' ':
			continue
		case b >= 'a' && b <= 'z':
			b -= 'a' - 'A'
		case !isDigit(b) && (b < 'A' || b > 'Z'):
			return append(dst, malformed...)
		}
		if len(id) == cap(id) {
			return append(dst, malformed...)
		}
		id = append(id, b)
	}
	company := len(id) == 14 && allDigits(id[12:]) && endsInCheckDigits(id, 9)
	if len(id) == 14 && allDigits(id) && string(id[:3]) == "000" && (!company || endsInCheckDigits(id[3:], 11)) {
		id, company = id[3:], false
	}
	switch {
	case company:
		dst = append(append(dst, "**."...), id[2:5]...)
		dst = append(append(dst, '.'), id[5:8]...)
		dst = append(append(dst, '/'), id[8:12]...)
		return append(dst, "-**"...)
	case len(id) == 11 && allDigits(id):
		dst = append(append(dst, "***."...), id[3:6]...)
		dst = append(append(dst, '.'), id[6:9]...)
		return append(dst, "-**"...)
	}
	return append(dst, malformed...)
}

// endsInCheckDigits reports whether a CPF or CNPJ ends in its two check digits,
// modulo 11 over weights that rise from 2 at the right end to heaviest and begin
// at 2 again. A letter counts as its ASCII code less 48 (Receita Federal,
// Instrução Normativa 2.229 of 2024).
func endsInCheckDigits(id []byte, heaviest int) bool {
	for n := len(id) - 2; n < len(id); n++ {
		sum, weight := 0, 2
		for i := n - 1; i >= 0; i-- {
			sum += weight * int(id[i]-'0')
			if weight++; weight > heaviest {
				weight = 2
			}
		}
		if digit := sum * 10 % 11 % 10; digit != int(id[n]-'0') {
			return false
		}
	}
	return true
}

// domainDigits are the most digits of an e-mail's domain that is shown. One of
// more digits is likelier a number of somebody than a name.
const domainDigits = 6

// appendMaskedEmail keeps the first character, unless it is the only one, and
// the domain: m***@exemplo.com.br.
func appendMaskedEmail(dst, text []byte) []byte {
	at := bytes.IndexByte(text, '@')
	domain := text[at+1:]
	if at <= 0 || !isDomain(domain) || bytes.ContainsAny(text, " \t\r\n<>,;:\"") {
		return append(dst, "***"...)
	}
	first := 1
	for first < at && text[first]&0xc0 == 0x80 { // the rest of a character of several bytes
		first++
	}
	if first < at {
		dst = append(dst, text[:first]...)
	}
	return append(append(dst, "***@"...), domain...)
}

// isDomain reports whether a text is made of letters, digits, dots within it and
// hyphens, of few digits.
func isDomain(text []byte) bool {
	digits := 0
	for _, b := range text {
		switch {
		case isDigit(b):
			digits++
		case b != '.' && b != '-' && (b|0x20 < 'a' || b|0x20 > 'z'):
			return false
		}
	}
	return digits <= domainDigits && bytes.IndexByte(text, '.') > 0
}

// appendMaskedPhone keeps the country code 55, the area code and the last four
// digits: (11) *****-4321.
func appendMaskedPhone(dst, text []byte) []byte {
	const malformed = "****-****"
	var buffer [15]byte
	digits := buffer[:0]
	for _, b := range text {
		switch {
		case isDigit(b) && len(digits) < cap(digits):
			digits = append(digits, b)
		case b != '(' && b != ')' && b != '-' && b != '.' && b != '+' && b != ' ':
			return append(dst, malformed...)
		}
	}
	country := (len(digits) == 12 || len(digits) == 13) && digits[0] == '5' && digits[1] == '5'
	switch {
	case country:
		dst, digits = append(dst, "+55 "...), digits[2:]
	case (len(digits) == 11 || len(digits) == 12) && digits[0] == '0': // the trunk prefix
		digits = digits[1:]
	}
	switch len(digits) {
	case 10, 11:
		dst = append(append(append(dst, '('), digits[:2]...), ") "...)
		digits = digits[2:]
	case 8, 9:
	default:
		return append(dst, malformed...)
	}
	for range len(digits) - 4 {
		dst = append(dst, '*')
	}
	return append(append(dst, '-'), digits[len(digits)-4:]...)
}

// appendLastFour keeps what may be shown of a card's number: its last four digits.
// The number may be masked already, with * or x.
func appendLastFour(dst, text []byte) []byte {
	const malformed = "****"
	positions, clear, tail := 0, 0, 0
	var last [4]byte
	for _, b := range text {
		switch {
		case b == ' ' || b == '-' || b == '.':
			continue
		case isDigit(b):
			clear++
			tail++
		case b == '*' || b == 'x' || b == 'X' || b == '#':
			tail = 0
		default:
			return append(dst, malformed...)
		}
		positions++
		copy(last[:], last[1:])
		last[3] = b
	}
	whole := positions >= 12 && positions <= 19
	masked := positions > 4 && clear == 4
	if tail < 4 || !whole && !masked {
		return append(dst, malformed...)
	}
	return append(dst, last[:]...)
}
