package contract

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"

	"gancho/internal/jsonschema"
)

// Change is what another contract says otherwise.
type Change struct {
	Event string
	// Text is such as: data.valor was integer and is string.
	Text string
	// Breaks: a receiver that was built for the former contract may fail.
	Breaks bool
}

// Compare says what the events are otherwise than their former schemas, as Schema wrote
// them, say, in the order of the schemas and then of the events. Whatever is sent now must have been
// allowed before: so a field that is removed, or that may now be null, missing, another type,
// longer, or have another value, breaks receivers, and one that is new does not. So does what
// only some of an event's rules sent, if none sends it any more.
func Compare(former []*jsonschema.Schema, now []Event) []Change {
	var out []Change
	known := map[string]bool{}
	for _, was := range former {
		name := EventOf(was)
		known[name] = true
		i := slices.IndexFunc(now, func(e Event) bool { return e.Name == name })
		if i < 0 {
			out = append(out, Change{name, "it is no longer sent", true})
			continue
		}
		var d definitions
		d.prefix = "#/$defs/"
		now[i].body(&d, bodies()[0])
		c := comparison{event: name, was: was.Defs, now: d.list}
		c.bodies(was.Defs.Named(bodies()[0].name()), d.list.Named(bodies()[0].name()))
		out = append(out, c.changes...)
	}
	for _, e := range now {
		if !known[e.Name] {
			out = append(out, Change{e.Name, "it is new", false})
		}
	}
	return out
}

// EventOf is the name of the event that a schema is of; "": it is of none.
func EventOf(s *jsonschema.Schema) string {
	escaped, ok := strings.CutPrefix(s.ID, idPrefix)
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil {
		return ""
	}
	return name
}

// comparison compares the bodies of an event.
type comparison struct {
	event    string
	was, now jsonschema.Properties
	changes  []Change
}

func (c *comparison) breaks(path, format string, args ...any) {
	c.add(true, path, fmt.Sprintf(format, args...))
}

func (c *comparison) add(breaks bool, path, text string) {
	change := Change{c.event, strings.TrimSpace(path + " " + text), breaks}
	if !slices.Contains(c.changes, change) {
		c.changes = append(c.changes, change)
	}
}

// alternatives are those of a body by their operations.
func alternatives(defs jsonschema.Properties, s *jsonschema.Schema) map[string][]*jsonschema.Schema {
	out := map[string][]*jsonschema.Schema{}
	for _, a := range flat(defs, s) {
		op := a.Properties.Named("op")
		if op == nil {
			continue
		}
		for _, value := range op.Enum {
			var name string
			if json.Unmarshal(value, &name) == nil {
				out[name] = append(out[name], a)
			}
		}
	}
	return out
}

// flat are the alternatives of a schema, with what it refers to in its place.
func flat(defs jsonschema.Properties, s *jsonschema.Schema) []*jsonschema.Schema {
	if s == nil {
		return nil
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return flat(defs, defs.Named(name))
	}
	if len(s.AnyOf) == 0 {
		return []*jsonschema.Schema{s}
	}
	var out []*jsonschema.Schema
	for _, a := range s.AnyOf {
		out = append(out, flat(defs, a)...)
	}
	return out
}

// bodies compares the bodies, operation by operation.
func (c *comparison) bodies(was, now *jsonschema.Schema) {
	before, after := alternatives(c.was, was), alternatives(c.now, now)
	for _, op := range []string{"insert", "read", "update", "delete", "truncate", "timer", "schedule"} {
		switch {
		case before[op] == nil && after[op] == nil:
		case before[op] == nil:
			c.breaks("", "it is now also sent on %s, and op has another value", op)
		case after[op] == nil:
			c.breaks("", "it is no longer sent on %s", op)
		default:
			for _, a := range after[op] {
				c.closest("", before[op], a)
			}
			c.losses(before[op], after[op])
		}
	}
}

// closest compares a schema with that of the former alternatives to which it has the fewest
// changes.
func (c *comparison) closest(path string, before []*jsonschema.Schema, now *jsonschema.Schema) {
	var best []Change
	fewest := -1
	for _, was := range before {
		try := comparison{event: c.event, was: c.was, now: c.now}
		try.one(path, was, now)
		n := len(slices.DeleteFunc(slices.Clone(try.changes), func(c Change) bool { return !c.Breaks }))
		if fewest < 0 || n < fewest {
			best, fewest = try.changes, n
		}
	}
	for _, change := range best {
		c.add(change.Breaks, "", change.Text)
	}
}

// values compares what stands at a path.
func (c *comparison) values(path string, was, now *jsonschema.Schema) {
	if path == "op" { // bodies compares it
		return
	}
	before, after := flat(c.was, was), flat(c.now, now)
	if describe(before) != describe(after) && !types(before).holds(types(after)) {
		lost := types(after)
		for name := range types(before) {
			delete(lost, name)
		}
		if len(lost) == 1 && lost[jsonschema.Null] {
			c.breaks(path, "may now be null")
		} else {
			c.breaks(path, "was %s and is %s", describe(before), describe(after))
		}
		return
	}
	for _, a := range after {
		c.closest(path, before, a)
	}
}

// kinds are types of values.
type kinds map[string]bool

func types(of []*jsonschema.Schema) kinds {
	out := kinds{}
	for _, s := range of {
		for _, t := range typesOf(s) {
			out[t] = true
		}
	}
	return out
}

func typesOf(s *jsonschema.Schema) []string {
	if s.IsNothing() {
		return nil
	}
	if len(s.Type) > 0 {
		return s.Type
	}
	return []string{jsonschema.Null, jsonschema.Boolean, jsonschema.Integer, jsonschema.Number, jsonschema.String, jsonschema.Array, jsonschema.Object}
}

// holds reports whether each of the others is one of these: an integer is a number.
func (k kinds) holds(others kinds) bool {
	for t := range others {
		if !k[t] && (t != jsonschema.Integer || !k[jsonschema.Number]) {
			return false
		}
	}
	return true
}

func describe(of []*jsonschema.Schema) string { return kind(jsonschema.Any(of...)) }

// one compares two schemas without alternatives.
func (c *comparison) one(path string, was, now *jsonschema.Schema) {
	if !types([]*jsonschema.Schema{was}).holds(types([]*jsonschema.Schema{now})) {
		c.breaks(path, "was %s and is %s", kind(was), kind(now))
		return
	}
	c.scalars(path, was, now)
	c.objects(path, was, now)
	c.lists(path, was, now)
}

func (c *comparison) scalars(path string, was, now *jsonschema.Schema) {
	if values := now.Enum; was.Enum != nil {
		if values == nil {
			c.breaks(path, "was one of %s, and may now be any %s", kind(was), kind(now))
		}
		for _, v := range values {
			if !slices.ContainsFunc(was.Enum, func(o json.RawMessage) bool { return string(o) == string(v) }) {
				c.breaks(path, "may now be %s", v)
			}
		}
		for _, v := range was.Enum {
			if values != nil && !slices.ContainsFunc(values, func(o json.RawMessage) bool { return string(o) == string(v) }) {
				c.add(false, path, fmt.Sprintf("is no longer %s", v))
			}
		}
		return
	}
	if len(was.Const) > 0 && string(was.Const) != string(now.Const) {
		c.breaks(path, "was %s", was.Const)
	}
	if now.Enum != nil {
		return // some of what it was
	}
	for _, f := range []struct{ what, was, now string }{
		{"format", was.Format, now.Format}, {"form", was.Pattern, now.Pattern}, {"encoding", was.ContentEncoding, now.ContentEncoding},
	} {
		if f.was != "" && f.was != f.now {
			c.breaks(path, "had the %s %s, and has %s", f.what, f.was, orNone(f.now))
		}
	}
	if was.MaxLength > 0 && (now.MaxLength == 0 || now.MaxLength > was.MaxLength) {
		c.breaks(path, "had at most %d characters, and may now have %s", was.MaxLength, orMore(now.MaxLength))
	}
	if less(now.Minimum, was.Minimum) || less(was.Maximum, now.Maximum) || was.Maximum != "" && now.Maximum == "" {
		c.breaks(path, "was at most %s, and may now be %s", was.Maximum, orMoreText(now.Maximum.String()))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func orMore(n int) string {
	if n == 0 {
		return "more"
	}
	return fmt.Sprint(n)
}

func orMoreText(s string) string {
	if s == "" {
		return "more"
	}
	return s
}

// less reports whether a number is less than another; not, where one is not given.
func less(a, b json.Number) bool {
	x, ok := new(big.Int).SetString(a.String(), 10)
	y, ok2 := new(big.Int).SetString(b.String(), 10)
	return ok && ok2 && x.Cmp(y) < 0
}

func (c *comparison) objects(path string, was, now *jsonschema.Schema) {
	at := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	for _, p := range was.Properties {
		after := now.Properties.Named(p.Name)
		switch required := slices.Contains(was.Required, p.Name); {
		case after == nil && (required || path != ""):
			c.breaks(at(p.Name), "is no longer sent")
			continue
		case after == nil: // unchanged, which may be missing in any case
			continue
		case required && !slices.Contains(now.Required, p.Name):
			c.breaks(at(p.Name), "may now be missing")
		}
		c.values(at(p.Name), p.Schema, after)
	}
	for _, p := range now.Properties {
		if was.Properties.Named(p.Name) == nil && len(was.Type) > 0 {
			c.add(false, at(p.Name), "is new")
		}
	}
	if was.AdditionalProperties != nil && now.AdditionalProperties != nil {
		c.values(at("*"), was.AdditionalProperties, now.AdditionalProperties)
	}
}

func (c *comparison) lists(path string, was, now *jsonschema.Schema) {
	if path == "unchanged" || path == "errors" {
		return // the fields themselves say it
	}
	for i, item := range now.Prefix {
		if i < len(was.Prefix) {
			c.values(fmt.Sprintf("%s.%d", path, i), was.Prefix[i], item)
		}
	}
	if len(now.Prefix) < len(was.Prefix) || len(now.Prefix) > len(was.Prefix) && was.Items != nil && was.Items.IsNothing() {
		c.breaks(path, "had %d items, and has %d", len(was.Prefix), len(now.Prefix))
	}
	if was.Items != nil && now.Items != nil {
		c.values(path+"[]", was.Items, now.Items)
	} else if was.Items != nil && slices.Contains(now.Type, jsonschema.Array) {
		c.breaks(path+"[]", "may now be anything")
	}
}
