package endpoint

import (
	"regexp"
	"slices"
	"strings"
)

// eventNames are what the templates of headers and of the URL's query can name:
// a closed list, so that none reaches a setting. Those of listNames are a list's, too.
var (
	eventNames = []string{"type", "id", "tenant", "key", "op", "sequence", "timestamp"}
	listNames  = []string{"id", "timestamp"}
)

// templateName is a name in braces; with two of each it stands for itself with one of
// each. Any other brace is one.
var templateName = regexp.MustCompile(`\{\{[a-z_]+\}\}|\{[a-z_]+\}`)

// Template is a text with {names} that stand for what each request has. The zero
// Template is an empty text.
type Template struct{ parts []templatePart }

// templatePart is a text, or a name.
type templatePart struct{ text, name string }

// ParseTemplate reads a text that has passed the checks of its setting.
func ParseTemplate(text string) Template {
	var t Template
	add := func(literal string) {
		switch last := len(t.parts) - 1; {
		case literal == "":
		case last >= 0 && t.parts[last].name == "": // one text, which answers are searched for
			t.parts[last].text += literal
		default:
			t.parts = append(t.parts, templatePart{text: literal})
		}
	}
	at := 0
	for _, found := range templateName.FindAllStringIndex(text, -1) {
		add(text[at:found[0]])
		name := text[found[0]+1 : found[1]-1]
		if at = found[1]; name[0] == '{' {
			add(name)
			continue
		}
		t.parts = append(t.parts, templatePart{name: name})
	}
	add(text[at:])
	return t
}

// Fixed reports whether the template names nothing: it is the same text each time.
func (t Template) Fixed() bool { return len(t.names()) == 0 }

// Append appends the text. fill appends what a name stands for.
func (t Template) Append(dst []byte, fill func(dst []byte, name string) []byte) []byte {
	for _, p := range t.parts {
		if p.name == "" {
			dst = append(dst, p.text...)
		} else {
			dst = fill(dst, p.name)
		}
	}
	return dst
}

// Each passes each part of the template in their order: a text that is written out, or a name.
func (t Template) Each(pass func(text, name string)) {
	for _, p := range t.parts {
		pass(p.text, p.name)
	}
}

// Texts returns the parts of the template that are written out.
func (t Template) Texts() []string {
	var out []string
	for _, p := range t.parts {
		if p.text != "" {
			out = append(out, p.text)
		}
	}
	return out
}

func (t Template) names() []string {
	var out []string
	for _, p := range t.parts {
		if p.name != "" {
			out = append(out, p.name)
		}
	}
	return out
}

// check refuses names that are not allowed. They are not repeated: what looks like one
// may be a part of a secret.
func (t Template) check(what string, allowed []string) *SettingError {
	for _, name := range t.names() {
		if !slices.Contains(allowed, name) {
			return mistakef("use "+inBraces(allowed)+"; {{name}} stands for {name} itself", "%s has a name in braces that it cannot have", what)
		}
	}
	return nil
}

// checkEvent is check for what names an event; with lists only what a list has.
func (t Template) checkEvent(what string, lists bool) *SettingError {
	if m := t.check(what, eventNames); m != nil || !lists {
		return m
	}
	if m := t.check(what, listNames); m != nil {
		return mistakef("use "+inBraces(listNames)+", or remove batch", "%s names what each event has, and with batch a request has several", what)
	}
	return nil
}

func inBraces(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = "{" + name + "}"
	}
	last := len(quoted) - 1
	if last == 0 {
		return quoted[0]
	}
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// QueryTemplate returns the query of the endpoint's URL, in which names stand for what
// each request has.
func (e *Endpoint) QueryTemplate() Template {
	_, query, _ := strings.Cut(e.URL, "?")
	query, _, _ = strings.Cut(query, "#")
	return ParseTemplate(e.chatQuery(query))
}

// checkURLTemplate: names stand in the query only. Elsewhere they would choose the receiver.
func (e *Endpoint) checkURLTemplate() *SettingError {
	base, _, _ := strings.Cut(e.URL, "?")
	for _, name := range ParseTemplate(base).names() {
		if slices.Contains(eventNames, name) {
			return mistakef("write it behind the ?, such as ?event={type}, or as a header", "the url has a name in braces before its query, where none is replaced")
		}
	}
	return e.QueryTemplate().checkEvent("the query of the url", e.Batch.Max > 1)
}
