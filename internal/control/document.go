package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"strconv"
	"strings"

	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// kept is what a secret looks like in views, and what stands in a patch for
// the value that is there already.
const kept = "***"

// parse reads a document as it was given, with the places of its mistakes.
func (s *Service) parse(origin string, document []byte) (Spec, error) {
	spec, err := s.Parse(origin, document)
	if err != nil {
		return Spec{}, invalidDocument(origin, document, err, true)
	}
	return spec, nil
}

// parseMerged reads a document that nobody has written as it is: its lines mean
// nothing to the person, its keys do.
func (s *Service) parseMerged(document []byte) (Spec, error) {
	spec, err := s.Parse("", document)
	if err != nil {
		return Spec{}, invalidDocument("", document, err, false)
	}
	return spec, nil
}

// with sets one more key of a document that is in order.
func (s *Service) with(spec Spec, key string, value json.RawMessage) (Spec, error) {
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(spec.Document, &keys); err != nil {
		return Spec{}, fmt.Errorf("read the endpoint's document: %w", err)
	}
	keys[key] = value
	if key != "name" {
		keys["name"], _ = json.Marshal(spec.Endpoint.Name) // a string
	}
	document, err := json.Marshal(keys)
	if err != nil {
		return Spec{}, err
	}
	more, err := s.parseMerged(document)
	if err != nil {
		return Spec{}, err
	}
	more.Endpoint.State, more.Endpoint.Secrets = spec.Endpoint.State, spec.Endpoint.Secrets
	return more, nil
}

// invalidDocument makes an InvalidError of what Parse said.
func invalidDocument(origin string, document []byte, err error, placed bool) error {
	out := &InvalidError{Origin: origin}
	var mistakes strictyaml.Errors
	if !errors.As(err, &mistakes) {
		for _, e := range flatten(err) {
			out.Problems = append(out.Problems, Problem{Message: e.Error()})
		}
		return out
	}
	places := placesOf(document)
	for _, m := range mistakes {
		p := Problem{Message: m.Message, Hint: m.Hint, Pointer: pointerAt(places, m.Line, m.Col)}
		if placed {
			p.Line, p.Column = m.Line, m.Col
		}
		out.Problems = append(out.Problems, p)
	}
	return out
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error }) // not errors.As: a wrapped list has a text of its own
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

// place is where a value begins in a document.
type place struct {
	line, col int
	pointer   string
}

// placesOf lists a document's keys and values in the order in which they stand there.
func placesOf(document []byte) []place {
	var out []place
	var walk func(v strictyaml.Value, pointer string)
	note := func(v strictyaml.Value, pointer string) {
		at := v.Mistake(-1, "", "")
		out = append(out, place{at.Line, at.Col, pointer})
	}
	walk = func(v strictyaml.Value, pointer string) {
		note(v, pointer)
		switch {
		case v.IsMap():
			for _, e := range v.Entries() {
				below := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(e.Name)
				note(e.Key, below)
				walk(e.Value, below)
			}
		case v.IsList():
			for i, item := range v.List() {
				walk(item, pointer+"/"+strconv.Itoa(i))
			}
		}
	}
	if root := strictyaml.Parse("", document, nil).Root(); root.Valid() {
		walk(root, "")
	}
	return out
}

// pointerAt is the last value that begins at or before the place.
func pointerAt(places []place, line, col int) string {
	pointer := ""
	for _, p := range places {
		if p.line > line || p.line == line && p.col > col {
			break
		}
		pointer = p.pointer
	}
	return pointer
}

// patched applies a merge patch to an endpoint's document and returns the
// document that is to be parsed, with the endpoint's name.
func patched(e *state.Endpoint, patch json.RawMessage) (json.RawMessage, error) {
	document, err := object(e.Document)
	if err != nil {
		return nil, fmt.Errorf("read the document of endpoint %q: %w", e.Name, err)
	}
	change, err := object(patch)
	if err != nil {
		return nil, invalid("", `write such as {"rate": "50/s"}`, "the change is not a JSON object: %v", err)
	}
	if err := fixed(e, change); err != nil {
		return nil, err
	}
	m := merger{}
	merged := m.merge("", document, change)
	if m.problems != nil {
		return nil, &InvalidError{Problems: m.problems}
	}
	keys, _ := merged.(map[string]any)
	keys["name"] = e.Name
	return json.MarshalIndent(keys, "", "  ")
}

// fixed takes out of a change what is no setting, when it changes nothing, and
// refuses it otherwise.
func fixed(e *state.Endpoint, change map[string]any) error {
	var problems []Problem
	refuse := func(key, hint string) {
		problems = append(problems, Problem{Pointer: "/" + key, Message: "an edit cannot change " + key, Hint: hint})
	}
	if name, given := change["name"]; given && name != e.Name {
		refuse("name", "its queue goes by the name: add another endpoint, and remove this one when its queue is empty")
	}
	if s, given := change["state"]; given && s != e.State.String() {
		refuse("state", "use activate, pause or deactivate")
	}
	for _, key := range []string{"secret", "secrets"} {
		if _, given := change[key]; given {
			refuse(key, "use rotate, which lets the old key sign for a while")
		}
	}
	if problems != nil {
		return &InvalidError{Problems: problems}
	}
	delete(change, "name")
	delete(change, "state")
	return nil
}

// object decodes a JSON object, its numbers as they are written.
func object(document []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var keys map[string]any
	if err := d.Decode(&keys); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("there is something behind it")
	}
	if keys == nil {
		return nil, errors.New("it is null")
	}
	return keys, nil
}

// merger applies a merge patch in which *** keeps what is there.
type merger struct {
	problems []Problem
}

// merge is MergePatch of RFC 7396, section 2. The target is changed.
func (m *merger) merge(pointer string, target, patch any) any {
	change, isObject := patch.(map[string]any)
	if !isObject {
		return m.value(pointer, target, patch)
	}
	into, isObject := target.(map[string]any)
	if !isObject {
		into = map[string]any{}
	}
	for key, v := range change {
		if pointer == "/headers" {
			key = textproto.CanonicalMIMEHeaderKey(key)
		}
		if v == nil {
			delete(into, key)
			continue
		}
		into[key] = m.merge(pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(key), into[key], v)
	}
	return into
}

// value is what a value of a patch stands for.
func (m *merger) value(pointer string, before, v any) any {
	text, isText := v.(string)
	old, wasText := before.(string)
	switch {
	case list(v):
		return v
	case !isText || !strings.Contains(text, kept):
		return v
	case text == kept && before != nil:
		return before
	case wasText && (pointer == "/url" || pointer == "/proxy"):
		if whole, ok := unmasked(text, old); ok {
			return whole
		}
	case text != kept:
		return v
	}
	m.problems = append(m.problems, Problem{
		Pointer: pointer, Message: kept + " stands for the value that is there, and there is none", Hint: "write the value itself",
	})
	return v
}

func list(v any) bool { _, is := v.([]any); return is }

// unmasked fills the *** of a URL, as views show it, from the URL as it was,
// and reports whether that had them all.
func unmasked(text, old string) (string, bool) {
	text, found := unmaskedPassword(text, old)
	base, query, _ := strings.Cut(text, "?")
	_, before, _ := strings.Cut(old, "?")
	hidden := map[string][]string{}
	for part := range strings.SplitSeq(before, "&") {
		name, _, pair := strings.Cut(part, "=")
		if !pair {
			name = ""
		}
		hidden[name] = append(hidden[name], part)
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, value, pair := strings.Cut(part, "=")
		switch {
		case !pair && part == kept:
			name = ""
		case !pair || value != kept:
			continue
		}
		if len(hidden[name]) == 0 {
			return "", false
		}
		parts[i], hidden[name] = hidden[name][0], hidden[name][1:]
	}
	if query != "" {
		base += "?" + strings.Join(parts, "&")
	}
	return base, found
}

// unmaskedPassword is unmasked for the password of a proxy's URL.
func unmaskedPassword(text, old string) (string, bool) {
	head, tail, masked := strings.Cut(text, ":"+kept+"@")
	if !masked {
		return text, true
	}
	_, rest, _ := strings.Cut(old, "://")
	user, _, given := strings.Cut(rest, "@")
	_, password, hasPassword := strings.Cut(user, ":")
	return head + ":" + password + "@" + tail, given && hasPassword
}
