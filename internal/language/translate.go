package language

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Translate returns, in l's language, a text that was made in English, by the texts of a group of keys: "cli.help" are those
// that begin with cli.help and a dot. The English text is what finds the key, as in gettext: so what makes a message need not
// know of languages, and what it says in English stays where it is made. Where the text of a key has values, those of the
// English text are taken over; {text}, {more}, {error} and {part} hold messages themselves, and are translated by the same group; {mistake} is a
// mistake of a rule with its hint, in the words of check, and {fix} a message of the group or such a hint. What the group does not have is
// returned as it is.
func (l *Language) Translate(group, english string) string {
	if l.Code == English || english == "" {
		return english
	}
	text, _ := l.Translated(group, english)
	return text
}

// Translated is Translate, and reports whether the group has the text.
func (l *Language) Translated(group, english string) (string, bool) {
	for _, p := range patternsOf(group) {
		found := p.english.FindStringSubmatch(english)
		if found == nil {
			continue
		}
		pairs := make([]string, 0, 2*len(p.values))
		for i, name := range p.values {
			value := found[i+1]
			switch name {
			case "{text}", "{more}", "{error}", "{part}":
				value = l.Translate(group, value)
			case "{mistake}":
				value = l.mistake(value)
			case "{fix}":
				if own, known := l.Translated(group, value); known {
					value = own
				} else {
					value = l.mistake(value)
				}
			}
			pairs = append(pairs, name, value)
		}
		return strings.NewReplacer(pairs...).Replace(l.texts()[p.key]), true
	}
	return english, false
}

// findings are the texts of what check and doctor find, the mistakes of rules among them.
const findings = "cli.finding"

// mostParts bounds where the hint of a mistake is looked for: behind one of the first eight semicolons.
const mostParts = 9

// mistake is a mistake of a rule as it is stored, "message; hint", either of which may have semicolons of its own.
func (l *Language) mistake(english string) string {
	const between = "; "
	parts := strings.SplitN(english, between, mostParts) // each is tried with all patterns: one that quotes a long list would take long
	for i := 1; i < len(parts); i++ {
		message, known := l.Translated(findings, strings.Join(parts[:i], between))
		hint, too := l.Translated(findings, strings.Join(parts[i:], between))
		if known && too {
			return message + between + hint
		}
	}
	return l.Translate(findings, english)
}

// pattern recognises the English text of a key.
type pattern struct {
	key     string
	english *regexp.Regexp
	values  []string // {name} in the order of the groups
	prefix  int      // bytes before the first value
	fixed   int      // bytes that are not values
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// words are the values that are one word, or a number: without that, {setting} is {value} would fit any sentence.
var words = map[string]string{
	"{n}": `(\S+)`, "{max}": `(\S+)`, "{total}": `(\S+)`, "{setting}": `(\S+)`, "{parameter}": `(\S+)`, "{variable}": `(\S+)`, "{flag}": `(\S+)`,
}

// patterns are those of all groups that were asked for, in the order in which they are tried: what begins the message wins over
// what may follow any message, and then what says most of it.
var patterns sync.Map // of group to []pattern

func patternsOf(group string) []pattern {
	if known, ok := patterns.Load(group); ok {
		return known.([]pattern) //nolint:forcetypeassert // nothing else is stored
	}
	var out []pattern
	for key, text := range spoken()[English].texts() {
		if strings.HasPrefix(key, group+".") {
			out = append(out, newPattern(key, text))
		}
	}
	slices.SortFunc(out, func(a, b pattern) int {
		return cmp.Or(b.prefix-a.prefix, b.fixed-a.fixed, strings.Compare(a.key, b.key))
	})
	patterns.Store(group, out)
	return out
}

func newPattern(key, text string) pattern {
	p := pattern{key: key, values: placeholder.FindAllString(text, -1)}
	parts := placeholder.Split(text, -1)
	p.prefix = len(parts[0])
	english := `(?s)^`
	for i, part := range parts {
		p.fixed += len(part)
		english += regexp.QuoteMeta(part)
		if i < len(p.values) {
			english += cmp.Or(words[p.values[i]], `(.+?)`)
		}
	}
	p.english = regexp.MustCompile(english + `$`)
	return p
}

type contextKey struct{}

// With returns a context whose commands speak l.
func With(ctx context.Context, l *Language) context.Context {
	return context.WithValue(ctx, contextKey{}, l)
}

// From returns the language of a context; false: it has none, and the language is English.
func From(ctx context.Context) (*Language, bool) {
	if l, ok := ctx.Value(contextKey{}).(*Language); ok {
		return l, true
	}
	return Of(English), false
}
