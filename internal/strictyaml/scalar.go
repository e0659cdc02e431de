package strictyaml

import (
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Text returns a scalar as it is written, with the environment's variables
// filled in; numbers and booleans too. It is empty only after an error.
func (v Value) Text() string {
	v.noteForm(form{kind: formText})
	return v.text()
}

func (v Value) text() string {
	r := v.Resolved()
	if !r.IsScalar() {
		v.wrongKind("a single value")
		return ""
	}
	text, complete := r.expand()
	if !complete {
		return ""
	}
	if text == "" {
		v.Errorf("give it a value or remove the key", "the value is empty")
	}
	return text
}

// Raw returns a scalar as it is written, without looking at the environment; a
// null that is written out too.
func (v Value) Raw() string {
	v.noteForm(form{kind: formRaw})
	r := v.Resolved()
	if !r.IsScalar() && !r.IsNull() {
		v.wrongKind("a single value")
		return ""
	}
	return r.node.Value
}

// Texts returns the texts of a list, or of the one value that stands there.
func (v Value) Texts() []string {
	var out []string
	for _, item := range v.ListOrOne() {
		out = append(out, item.Text())
	}
	return out
}

// Is reports whether the value is that word, as it is written, in the place of what else
// may stand there.
func (v Value) Is(word string) bool {
	if !v.IsScalar() {
		return false
	}
	if s := v.slot(); s != nil && !slices.Contains(s.words, word) {
		s.read, s.words = true, append(s.words, word)
	}
	return v.Resolved().node.Value == word
}

// Choice returns the text, which must be one of the names.
func (v Value) Choice(names ...string) string { return v.ChoiceOr("", names...) }

// ChoiceOr is Choice where something else may stand, too, which the caller reads before: other is what it is, for the hint.
func (v Value) ChoiceOr(other string, names ...string) string {
	v.noteForm(form{kind: formChoice, names: names})
	text := v.text()
	if text == "" || slices.Contains(names, text) {
		return text
	}
	listed := names
	if other != "" {
		listed = append(slices.Clone(names), other)
	}
	hint := "write one of " + strings.Join(listed, ", ")
	if c := Closest(text, names); c != "" {
		hint = `did you mean "` + c + `"?`
	}
	v.Errorf(hint, "unknown value %q", text)
	return ""
}

// Bool returns true or false; YAML 1.1's yes, on and their like are refused.
func (v Value) Bool() bool {
	v.noteForm(form{kind: formBool})
	switch text := v.text(); text {
	case "true":
		return true
	case "false", "":
	default:
		v.Errorf("write true or false", "expected true or false, found %q", text)
	}
	return false
}

// Int returns a decimal integer from lo to hi.
func (v Value) Int(lo, hi int) int {
	v.noteForm(form{kind: formInt, lo: int64(lo), hi: int64(hi)})
	text := v.text()
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		v.Errorf("", "expected a whole number from %d to %d, found %q", lo, hi, text)
	case len(strings.TrimLeft(text, "+-")) > 1 && strings.TrimLeft(text, "+-")[0] == '0':
		v.Errorf("write "+strconv.Itoa(n), "the number %s has leading zeros, which YAML reads as octal", text)
	case n < lo || n > hi:
		v.Errorf("", "%d is out of range: it must be from %d to %d", n, lo, hi)
	default:
		return n
	}
	return 0
}

// Duration returns a duration such as 500ms, 30s, 1h30m or 2d (of 24 hours),
// from lo to hi.
func (v Value) Duration(lo, hi time.Duration) time.Duration {
	v.noteForm(form{kind: formDuration})
	text := v.text()
	if text == "" {
		return 0
	}
	d, ok := parseDuration(text)
	switch {
	case !ok:
		v.Errorf("write a number with its unit, such as 500ms, 30s, 10m, 2h or 1d", "%q is not a duration", text)
	case d < lo || d > hi:
		v.Errorf("", "%s is out of range: it must be from %s to %s", text, DurationText(lo), DurationText(hi))
	default:
		return d
	}
	return 0
}

func parseDuration(text string) (time.Duration, bool) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "", text
	}
	var d time.Duration
	if days != "" {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, false
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if rest == "" {
		return d, days != ""
	}
	if found && days == "" {
		return 0, false
	}
	r, err := time.ParseDuration(rest)
	if err != nil || rest == "0" || r < 0 || r > math.MaxInt64-d {
		return 0, false
	}
	return d + r, true
}

// DurationText writes a duration as Duration reads it: 3d, 2h, 1m30s.
func DurationText(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Bytes returns a size in bytes such as 64KiB, 10MB or 512, from lo to hi.
func (v Value) Bytes(lo, hi int64) int64 {
	v.noteForm(form{kind: formBytes, lo: lo, hi: hi})
	text := v.text()
	if text == "" {
		return 0
	}
	digits := strings.TrimRight(text, "BKMGikmg ")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, ok := map[string]int64{
		"": 1, "B": 1, "KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}[strings.TrimSpace(text[len(digits):])]
	switch {
	case err != nil || !ok || n < 0 || n > math.MaxInt64/unit:
		v.Errorf("write a number with its unit, such as 64KiB, 10MB or 1GiB", "%q is not a size", text)
	case n*unit < lo || n*unit > hi:
		v.Errorf("", "%s is out of range: it must be from %d to %d bytes", text, lo, hi)
	default:
		return n * unit
	}
	return 0
}

// Share returns a share of a whole, a number from 0 to 1 such as 0.1.
func (v Value) Share() float64 {
	v.noteForm(form{kind: formShare})
	text := v.text()
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n <= 1) {
		v.Errorf("write such as 0.1 for a tenth, or 1 for all", "expected a number from 0 to 1, found %q", text)
		return 0
	}
	return n
}

// Rate returns a rate such as 50/s, 600/m or 1000/h, as a number per second.
func (v Value) Rate() float64 {
	v.noteForm(form{kind: formRate})
	text := v.text()
	if text == "" {
		return 0
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	per, ok := map[string]float64{"s": 1, "m": 60, "h": 3600}[strings.TrimSpace(unit)]
	if err != nil || !ok || !(n > 0) || n > 1e9 {
		v.Errorf("write such as 50/s, 600/m or 1000/h", "%q is not a rate", text)
		return 0
	}
	return n / per
}

// Prefix returns an address range such as 10.0.0.0/8 or fd00::/8; a single
// address is a range of one.
func (v Value) Prefix() netip.Prefix {
	v.noteForm(form{kind: formPrefix})
	text := v.text()
	if text == "" {
		return netip.Prefix{}
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		v.Errorf("write an address range, such as 10.0.0.0/8", "%q is not an address range", text)
		return netip.Prefix{}
	case p.Masked() != p:
		v.Errorf("write "+p.Masked().String()+", or the address alone", "the range %s has bits set behind its length", text)
	}
	return p.Masked()
}

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
	if !validName.MatchString(name) {
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
	v.doc.fill(name, value)
	return value, true
}

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
