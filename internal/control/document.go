package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"gancho/delivery/endpoint"
	"gancho/internal/jsontext"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// parse reads a document; its error is an InvalidError. Its mistakes have their
// places if it is placed: the lines of one that nobody has written as it is mean
// nothing to the person, its keys do.
func parse(origin string, document []byte, placed bool) (endpoint.Endpoint, error) {
	ep, err := endpoint.Parse(origin, document)
	if err == nil {
		return ep, nil
	}
	var mistakes strictyaml.Errors
	errors.As(err, &mistakes) // it has no other errors
	out := &InvalidError{Origin: origin}
	places := placesOf(document)
	for _, m := range mistakes {
		p := Problem{Message: m.Message, Hint: m.Hint, Pointer: pointerAt(places, m.Line, m.Col)}
		if placed {
			p.Line, p.Column = m.Line, m.Col
		}
		out.Problems = append(out.Problems, p)
	}
	return endpoint.Endpoint{}, out
}

// place is where a value begins in a document. The pointers of all would be as
// large as the square of a deep document: each has its last member.
type place struct {
	line, col int
	parent    int // its place in the list; the root's is itself
	member    string
}

// placesOf lists a document's keys and values in the order in which they stand there.
func placesOf(document []byte) []place {
	var out []place
	note := func(v strictyaml.Value, parent int, member string) int {
		at := v.MistakeHere("", "")
		out = append(out, place{at.Line, at.Col, parent, member})
		return len(out) - 1
	}
	var walk func(v strictyaml.Value, self int)
	walk = func(v strictyaml.Value, self int) {
		switch {
		case v.IsMap():
			for _, e := range v.Entries() {
				note(e.Key, self, e.Name)
				walk(e.Value, note(e.Value, self, e.Name))
			}
		case v.IsList():
			for i, item := range v.List() {
				walk(item, note(item, self, strconv.Itoa(i)))
			}
		}
	}
	if root := strictyaml.Parse("", document, nil).Root(); root.Valid() {
		walk(root, note(root, 0, ""))
	}
	return out
}

// pointerAt is the last value that begins at or before the place.
func pointerAt(places []place, line, col int) string {
	last := 0
	for i, p := range places {
		if p.line > line || p.line == line && p.col > col {
			break
		}
		last = i
	}
	var members []string
	for ; last != 0; last = places[last].parent {
		members = append(members, places[last].member)
	}
	pointer := ""
	for _, m := range slices.Backward(members) {
		pointer = endpoint.Pointer(pointer, m)
	}
	return pointer
}

// patched applies a merge patch to an endpoint's document and returns the
// document that is to be parsed, with the endpoint's name. A change of what is pinned
// keeps no secret, as endpoint.Merge has it.
func patched(e *state.Endpoint, patch json.RawMessage, pinned []string) (json.RawMessage, error) {
	document, err := object(e.Document)
	if err != nil {
		return nil, fmt.Errorf("read the document of endpoint %q: %w", e.Name, err)
	}
	change, err := object(patch)
	if err != nil {
		return nil, invalid("", `write such as {"rate": "50/s"}`, "the change is not a JSON object: %v", err)
	}
	var wrong problems
	for _, m := range jsontext.Check(patch, strictyaml.MaxErrors) {
		wrong = append(wrong, Problem{Pointer: m.Pointer, Message: m.Message, Hint: m.Hint})
	}
	if err := wrong.err(); err != nil {
		return nil, err // before Merge, which would take any of two keys
	}
	if err := fixed(e, change); err != nil {
		return nil, err
	}
	for _, m := range endpoint.Merge(document, change, pinned...) {
		wrong = append(wrong, Problem{Pointer: m.Pointer, Message: m.Message, Hint: m.Hint})
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	document["name"] = e.Name
	return json.MarshalIndent(document, "", "  ")
}

// fixed takes out of a change what is no setting, when it changes nothing, and
// refuses it otherwise.
func fixed(e *state.Endpoint, change map[string]any) error {
	var wrong problems
	refuse := func(key, hint string) { wrong.add(key, hint, "an edit cannot change "+key) }
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
	delete(change, "name")
	delete(change, "state")
	return wrong.err()
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
