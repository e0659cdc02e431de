package contract

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gancho/internal/jsonschema"
)

// losses are the paths that some events of an operation had, and none has any more, or has
// but null. Where several rules make an event, a receiver may wait for what one of them
// sends, although a body without it was always allowed.
func (c *comparison) losses(before, after []*jsonschema.Schema) {
	was, now := sentPaths{}, sentPaths{}
	for _, s := range before {
		was.add("", c.was, s)
	}
	for _, s := range after {
		now.add("", c.now, s)
	}
	for _, path := range slices.Sorted(maps.Keys(was)) { // what is around a path comes before it
		kinds, sent := now[path]
		switch {
		case len(was[path]) == 0 || c.told(path):
		case !sent:
			c.breaks(path, "is no longer sent")
		case len(kinds) == 0:
			c.breaks(path, "is now always null")
		}
	}
}

// told reports whether a path, or what is around it, is known to break.
func (c *comparison) told(path string) bool {
	return slices.ContainsFunc(c.changes, func(change Change) bool {
		at, _, _ := strings.Cut(change.Text, " ")
		rest, within := strings.CutPrefix(path, at)
		return change.Breaks && within && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// sentPaths are the types besides null of what may stand at each path.
type sentPaths map[string]kinds

func (p sentPaths) add(path string, defs jsonschema.Properties, s *jsonschema.Schema) {
	if path == "unchanged" || path == "errors" {
		return // there is no more to be said, if they are gone
	}
	if p[path] == nil {
		p[path] = kinds{}
	}
	for _, a := range flat(defs, s) {
		for _, t := range typesOf(a) {
			if t != jsonschema.Null {
				p[path][t] = true
			}
		}
		for _, member := range a.Properties {
			p.add(strings.TrimPrefix(path+"."+member.Name, "."), defs, member.Schema)
		}
		for i, item := range a.Prefix {
			p.add(fmt.Sprintf("%s.%d", path, i), defs, item)
		}
		if a.AdditionalProperties != nil {
			p.add(path+".*", defs, a.AdditionalProperties)
		}
		if a.Items != nil {
			p.add(path+"[]", defs, a.Items)
		}
	}
}
