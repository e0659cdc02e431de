package language

import (
	"embed"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"gancho/internal/strictyaml"
)

// Code names a language as HTML and HTTP do (BCP 47).
type Code string

// The languages. Default is that of who has not chosen.
const (
	Portuguese Code = "pt-BR"
	English    Code = "en"
	Default         = Portuguese
)

// Codes are all languages, in the order in which they are offered.
func Codes() []Code { return []Code{Portuguese, English} }

//go:embed *.yaml
var files embed.FS

// Language speaks one language. It is safe for concurrent use.
type Language struct {
	Code    Code
	texts   func() map[string]string // of keys
	numbers *message.Printer
}

// spoken are the languages. The texts of each are read once, when the first is asked for: most commands speak English, as their
// source does, and a fifth of the time of a short one would be spent on reading what nobody asks for.
var spoken = sync.OnceValue(func() map[Code]*Language {
	out := map[Code]*Language{}
	for _, code := range Codes() {
		out[code] = &Language{Code: code, numbers: message.NewPrinter(language.MustParse(string(code))), texts: sync.OnceValue(func() map[string]string {
			texts, err := read(string(code) + ".yaml")
			if err != nil {
				panic(err) // the files are part of the program, and a test reads them
			}
			return texts
		})}
	}
	return out
})

func read(name string) (map[string]string, error) {
	src, err := files.ReadFile(name)
	if err != nil {
		return nil, err
	}
	d := strictyaml.Parse(name, src, nil)
	texts := map[string]string{}
	for _, e := range d.Root().Entries() {
		texts[e.Name] = e.Value.Text()
	}
	return texts, d.Errors().Err()
}

// Of returns the language of a code, Default's of any other.
func Of(code Code) *Language {
	if l, ok := spoken()[code]; ok {
		return l
	}
	return spoken()[Default]
}

// Known reports whether there is a language of this code.
func Known(code string) bool {
	_, ok := spoken()[Code(code)]
	return ok
}

// Choose returns the language that a browser's Accept-Language asks for first, otherwise when it asks for none of ours.
func Choose(accept string, otherwise Code) Code {
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil || len(tags) == 0 {
		return otherwise
	}
	for _, tag := range tags { // in the order of their weights
		if code, ok := ofTag(tag.String()); ok {
			return code
		}
	}
	return otherwise
}

// OfEnvironment returns the language of LC_ALL, LC_MESSAGES or LANG, such as pt_BR.UTF-8; English for any other, as programs
// without translations.
func OfEnvironment(env func(string) (string, bool)) Code {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if text, ok := env(name); ok && text != "" {
			if code, ok := ofTag(text); ok {
				return code
			}
			return English
		}
	}
	return English
}

// ofTag finds the language of pt, pt_PT.UTF-8 or en-GB.
func ofTag(tag string) (Code, bool) {
	base, _, _ := strings.Cut(strings.ReplaceAll(tag, "_", "-"), "-")
	base, _, _ = strings.Cut(base, ".")
	switch strings.ToLower(base) {
	case "pt":
		return Portuguese, true
	case "en":
		return English, true
	}
	return "", false
}

// Text returns the text of a key, with its values: names and what stands for them, in turn.
func (l *Language) Text(key string, values ...any) string {
	text, ok := l.texts()[key]
	if !ok {
		return key
	}
	if len(values) == 0 {
		return text
	}
	pairs := make([]string, 0, len(values))
	for i := 0; i+1 < len(values); i += 2 {
		pairs = append(pairs, fmt.Sprintf("{%v}", values[i]), l.value(values[i+1]))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// value is a value as it stands in a text.
func (l *Language) value(v any) string {
	switch n := v.(type) {
	case int:
		return l.Number(int64(n))
	case int64:
		return l.Number(n)
	}
	return fmt.Sprint(v)
}

// Count returns the text of a number: of key.one for 1 (in Portuguese for 0, too), of key.other for all else. The number is {n} in it.
func (l *Language) Count(key string, n int64, values ...any) string {
	form := ".other"
	if n == 1 || n == 0 && l.Code == Portuguese {
		form = ".one"
	}
	return l.Text(key+form, append([]any{"n", n}, values...)...)
}

// Word returns the text of prefix.value, the value itself when there is none: a state, a role, what somebody did.
func (l *Language) Word(prefix string, value any) string {
	if text, ok := l.texts()[fmt.Sprintf("%s.%v", prefix, value)]; ok {
		return text
	}
	return fmt.Sprint(value)
}

// Has reports whether there is a text of this key.
func (l *Language) Has(key string) bool {
	_, ok := l.texts()[key]
	return ok
}

// Keys returns the texts by key; the map is the caller's.
func (l *Language) Keys() map[string]string {
	out := make(map[string]string, len(l.texts()))
	for key, text := range l.texts() {
		out[key] = text
	}
	return out
}
