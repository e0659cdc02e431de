package ruletest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gancho/internal/strictyaml"
)

// compare returns the first difference of what a case expects and what came; nil: none.
func (c *Case) compare(got []event) *Failure {
	if !c.written {
		return &Failure{Place: c.placeOf(), Message: "the case expects nothing; write expect: none, or the events; gancho test --update writes them"}
	}
	for i, want := range c.expect {
		if i == len(got) {
			return &Failure{want.value.Place(), fmt.Sprintf("event %d is missing", i+1), want.title(), "nothing more"}
		}
		if failure := want.compare(i+1, got[i]); failure != nil {
			return failure
		}
	}
	if len(got) > len(c.expect) {
		return &Failure{c.place.Place(), fmt.Sprintf("event %d is not expected", len(c.expect)+1), "nothing more", got[len(c.expect)].title()}
	}
	return nil
}

func (e *expected) title() string {
	if e.parked != "" {
		return e.parked + ", parked"
	}
	return e.event
}

func (e event) title() string {
	if e.parked != "" {
		return e.name + ", parked: " + e.parked
	}
	return strings.TrimSpace(e.name + " " + short(string(e.data)))
}

func (e *expected) compare(number int, got event) *Failure {
	what := fmt.Sprintf("event %d", number)
	if wanted := e.event + e.parked; wanted != got.name || (e.parked != "") != (got.parked != "") {
		return &Failure{e.value.Place(), what, e.title(), got.title()}
	}
	what += ", " + got.name + ": "
	for _, text := range []struct {
		name string
		want strictyaml.Value
		got  string
	}{{"tenant", e.tenant, got.tenant}, {"key", e.key, got.key}, {"op", e.op, got.op}} {
		wanted := ""
		if text.want.IsScalar() {
			wanted = text.want.Raw()
		}
		if text.want.Valid() && wanted != text.got {
			return &Failure{text.want.Place(), what + text.name, strconv.Quote(wanted), strconv.Quote(text.got)}
		}
	}
	for _, tree := range []struct {
		name    string
		want    strictyaml.Value
		got     []byte
		partial bool
	}{{"data", e.data, got.data, false}, {"data", e.partial, got.data, true}, {"previous", e.previous, got.previous, false}, {"unchanged", e.left, got.left, false}, {"errors", e.failed, got.failed, false}} {
		if !tree.want.Valid() {
			continue
		}
		if failure := differ(tree.want, decode(tree.got), tree.name, tree.partial); failure != nil {
			failure.Message = what + failure.Message
			return failure
		}
	}
	return nil
}

// decode reads JSON with its numbers as they are written; no JSON is null.
func decode(text []byte) any {
	var out any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&out) != nil {
		return nil
	}
	return out
}

// differ compares a value of the file with one of the event.
func differ(want strictyaml.Value, got any, path string, partial bool) *Failure {
	fail := func(expected string) *Failure {
		return &Failure{want.Place(), path, expected, show(got)}
	}
	switch {
	case want.IsMap():
		object, is := got.(map[string]any)
		if !is {
			return fail("an object")
		}
		for _, e := range want.Entries() {
			value, there := object[e.Name]
			if !there {
				return &Failure{e.Key.Place(), path + "." + e.Name, "a value", "no such field"}
			}
			if failure := differ(e.Value, value, path+"."+e.Name, partial); failure != nil {
				return failure
			}
			delete(object, e.Name)
		}
		if extra := slices.Sorted(maps.Keys(object)); len(extra) > 0 && !partial {
			return &Failure{want.Place(), path + "." + extra[0], "no such field", show(object[extra[0]])}
		}
		return nil
	case want.IsList():
		list, is := got.([]any)
		items := want.List()
		if !is {
			return fail("a list")
		}
		for i, item := range items {
			if i == len(list) {
				break
			}
			if failure := differ(item, list[i], path+"."+strconv.Itoa(i), partial); failure != nil {
				return failure
			}
		}
		if len(items) != len(list) {
			return &Failure{want.Place(), path, fmt.Sprintf("%d items", len(items)), fmt.Sprintf("%d", len(list))}
		}
		return nil
	case want.IsNull():
		if got != nil {
			return fail("null")
		}
		return nil
	}
	expected := want.Raw()
	if want.IsText() {
		expected = show(expected)
	}
	if expected != show(got) {
		return fail(expected)
	}
	return nil
}

// show is a value as JSON in one line.
func show(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // what was decoded
	return short(b.String())
}
