package mapping

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"gancho/cdc"
	"gancho/internal/jsontext"
	"gancho/internal/pgtext"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

const (
	maxTags    = 5
	maxTagName = 32
	// maxTagValue bounds a tag's value, in bytes: longer ones are found by their beginning. An
	// index of PostgreSQL holds no more than ten times that.
	maxTagValue = 256
)

// parseTags reads tags: names with an expression each.
func parseTags(v strictyaml.Value) *field {
	if !v.IsMap() {
		v.Errorf("write such as pedido: numero below tags:", "tags is not a mapping")
		return nil
	}
	root := &field{value: v}
	for _, e := range v.Entries() {
		if e.Name == "" || len(e.Name) > maxTagName || strings.Trim(e.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			e.Key.Errorf("use up to 32 lower-case letters, digits and _", "%q cannot be the name of a tag", e.Name)
		}
		f := &field{value: e.Value, name: e.Name, path: "tags." + e.Name, leaf: parseExpression(e.Value, "tags."+e.Name)}
		if _, hashed := tagSecret(f.leaf.text); !hashed && callsHMAC(f.leaf.text) {
			e.Value.Errorf("write hmac(..., 'name') around the whole expression", "a tag that is hashed in part cannot be found by its value")
		}
		root.fields = append(root.fields, f)
	}
	if len(root.fields) > maxTags {
		v.Errorf("keep those that people search by", "the rule has %d tags, and at most %d are indexed", len(root.fields), maxTags)
	}
	return root
}

// tagSecret returns the secret's name of an expression that is a call of hmac().
func tagSecret(text string) (name string, hashed bool) {
	tokens, _ := expr.Tokens(text) // the syntax is checked elsewhere
	last := len(tokens) - 1
	if last < 4 || !tokens[0].IsName() || tokens[0].Text != "hmac" || !tokens[1].Is("(") || !tokens[last].Is(")") {
		return "", false
	}
	depth := 0
	for i, t := range tokens[1:last] {
		switch {
		case t.Is("("):
			depth++
		case t.Is(")"):
			if depth--; depth == 0 && i < last-1 {
				return "", false // the call ends before the expression does
			}
		}
	}
	secret := tokens[last-1].Text
	if !tokens[last-2].Is(",") || len(secret) < 2 || secret[0] != '\'' || secret[len(secret)-1] != '\'' {
		return "", false
	}
	return strings.ReplaceAll(secret[1:len(secret)-1], "''", "'"), true
}

func callsHMAC(text string) bool {
	tokens, _ := expr.Tokens(text)
	for i, t := range tokens {
		if t.IsName() && t.Text == "hmac" && tokens.At(i+1).Is("(") {
			return true
		}
	}
	return false
}

// checkTags refuses a tag of several rules that is not hashed in the same way: a value that
// somebody searches would be found in a part of them.
func checkTags(rules []*rule) strictyaml.Errors {
	var errs strictyaml.Errors
	first := map[string]*field{}
	for _, r := range rules {
		for _, f := range r.tagFields() {
			given := first[f.name]
			if given == nil {
				first[f.name] = f
				continue
			}
			if a, b := hashing(given), hashing(f); a != b {
				errs = append(errs, f.value.Mistake(-1, "write the same in both, or give one of them another name",
					"the tag %s is %s here, and %s at %s", f.name, b, a, given.value.Place()))
			}
		}
	}
	return errs
}

// hashing says how a tag's value is stored.
func hashing(f *field) string {
	if secret, hashed := tagSecret(f.leaf.text); hashed {
		return "hashed with the secret " + secret
	}
	return "not hashed"
}

func (r *rule) tagFields() []*field {
	if r.tags == nil {
		return nil
	}
	return r.tags.fields
}

// TagNames are the names of the rules' tags, in order.
func (r *Rules) TagNames() []string {
	var names []string
	for _, rule := range r.all {
		for _, f := range rule.tagFields() {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Tag is the tag, name=value, that an event has whose expression of that name has a value
// before it is hashed; false: no rule has such a tag.
func (r *Rules) Tag(name, value string) (string, bool) {
	for _, rule := range r.all {
		for _, f := range rule.tagFields() {
			if f.name != name {
				continue
			}
			if secret, hashed := tagSecret(f.leaf.text); hashed {
				mac := hmac.New(sha256.New, r.options.Secrets[secret])
				_, _ = mac.Write([]byte(value)) // a hash never fails to be written
				value = hex.EncodeToString(mac.Sum(nil))
			}
			return name + "=" + clipTag(value), true
		}
	}
	return "", false
}

func clipTag(value string) string {
	if len(value) <= maxTagValue {
		return value
	}
	n := maxTagValue
	for !utf8.RuneStart(value[n]) {
		n--
	}
	return value[:n]
}

// renderTags fills in m.tags: a value as the payload would show it, without one that is null,
// was not sent, or fails under on_error: null.
func (m *Mapper) renderTags(r *rulePlan, o *pgtext.JSONOptions) *failure {
	m.tags = m.tags[:0]
	for _, n := range r.tags {
		if n.delegated > 0 && m.delegatedFailed(n.delegated-1, m.machine) {
			continue
		}
		err := m.machine.Sent(n.sent)
		if err == nil {
			m.scratch, err = m.machine.AppendJSON(m.scratch[:0], n.leaf, o)
		}
		if unknown, ok := errors.AsType[*expr.UnknownError](err); ok && unknown.State != cdc.Invalid || err != nil && m.nullErrors && isDataError(err) {
			continue
		}
		if err != nil {
			return &failure{expression: n.expression, err: err}
		}
		if string(m.scratch) != "null" {
			m.tags = appendTag(m.tags, n.name, m.scratch)
		}
	}
	if len(m.tags) > 0 {
		m.tags = append(m.tags, ']')
	}
	return nil
}

// appendTag appends name=value, of a JSON value, to an array of texts.
func appendTag(dst []byte, name string, value []byte) []byte {
	if len(dst) == 0 {
		dst = append(dst, '[')
	}
	dst = append(append(append(comma(dst), '"'), name...), '=')
	text := value[0] == '"'
	switch {
	case text && len(value) <= maxTagValue:
		return append(append(dst, value[1:len(value)-1]...), '"')
	case text:
		var whole string
		_ = json.Unmarshal(value, &whole) // what AppendJSON has written
		dst = jsontext.AppendEscaped(dst, clipTag(whole), true)
	default:
		dst = jsontext.AppendEscaped(dst, clipTag(string(value)), true)
	}
	return append(dst, '"')
}
