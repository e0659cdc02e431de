package strictyaml

import (
	"slices"

	"go.yaml.in/yaml/v4"
)

// A file's schema is found by running its decoder on values that stand for any: each says
// that it is a scalar, a list, a mapping or null, and notes in its shape what the decoder
// asks of it. The decoder is run until every value has been everything that it may be. So
// the schema is what the decoder does, and no second description of it.

// shapeKind is what a value is for one run of the decoder.
type shapeKind uint8

const (
	shapeScalar shapeKind = iota
	shapeList
	shapeMap
	shapeNull
	shapeKinds
)

// shape is what is known of a place in a file.
type shape struct {
	slots [shapeKinds]slot
	// loose is how many lists and mappings with free keys are around it.
	loose int
}

// slot is a place, as one kind of value.
type slot struct {
	visited bool
	// read: the decoder has asked for the value; refused: it is of the wrong kind; failed:
	// another mistake was found, which is one of the kind if the value was not read.
	read, refused, failed bool
	forms                 []form   // of a scalar
	words                 []string // of a scalar
	fields                []Field  // of a mapping, with its shapes; nil: it has free keys
	exact                 bool     // fields are known
	shapes                map[string]*shape
	items                 *shape // of a list, or of a mapping with free keys
}

func (s *slot) accepted() bool {
	return s.visited && !s.refused && (s.read || !s.failed)
}

// complete: nothing new can be found below.
func (s *slot) complete() bool {
	switch {
	case !s.visited:
		return false
	case s.items != nil && !s.items.complete(shapeKinds):
		return false
	}
	for _, f := range s.fields {
		if child := s.shapes[f.name]; child != nil && !child.complete(f.kinds()) {
			return false
		}
	}
	return true
}

// kinds is how many kinds of values the decoder is given: null only where the field may be.
func (f *Field) kinds() shapeKind {
	if f.nullable {
		return shapeKinds
	}
	return shapeNull
}

func (s *shape) complete(kinds shapeKind) bool {
	for k := range kinds {
		if !s.slots[k].complete() {
			return false
		}
	}
	return true
}

// maxLoose bounds free nesting, such as that of a payload: below it anything is accepted.
const maxLoose = 3

// form is what a scalar has to be.
type form struct {
	kind   formKind
	lo, hi int64    // of a number
	names  []string // of a choice
}

type formKind uint8

const (
	formText formKind = iota
	formRaw           // a text that may be empty
	formChoice
	formBool
	formInt
	formDuration
	formBytes
	formRate
	formShare
	formPrefix
)

// place is a shape, and what a value there is in this run.
type place struct {
	shape *shape
	kind  shapeKind
}

// standsFor is where a value stands that stands for any; one of a file stands nowhere.
func (v Value) standsFor() place {
	if v.doc == nil || v.doc.shapes == nil {
		return place{}
	}
	return v.doc.shapes[v.node]
}

// standsForAny reports whether the value is not of a file.
func (v Value) standsForAny() bool { return v.standsFor().shape != nil }

// slot is the value's, as what it is in this run; nil of one of a file.
func (v Value) slot() *slot {
	if at := v.standsFor(); at.shape != nil {
		return &at.shape.slots[at.kind]
	}
	return nil
}

// noteForm notes what the value has to be.
func (v Value) noteForm(f form) {
	s := v.slot()
	if s == nil {
		return
	}
	s.read = true
	if !slices.ContainsFunc(s.forms, func(o form) bool {
		return o.kind == f.kind && o.lo == f.lo && o.hi == f.hi && slices.Equal(o.names, f.names)
	}) {
		s.forms = append(s.forms, f)
	}
}

// any returns a value that stands for any of a kind, at the place of a shape.
func (d *Document) any(s *shape, kind shapeKind) Value {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Line: 1, Column: 1}
	switch kind {
	case shapeList:
		n.Kind, n.Tag, n.Style = yaml.SequenceNode, "!!seq", 0
	case shapeMap:
		n.Kind, n.Tag, n.Style = yaml.MappingNode, "!!map", 0
	case shapeNull:
		n.Tag, n.Value, n.Style = "!!null", "null", 0
	}
	s.slots[kind].visited = true
	d.shapes[n] = place{s, kind}
	return Value{d, n}
}

// anyField is a value for a field: of a kind about which something is still to be found.
func (v Value) anyField(f *Field) Value {
	s := v.slot()
	if s.shapes == nil {
		s.shapes = map[string]*shape{}
	}
	child := s.shapes[f.name]
	if child == nil {
		child = &shape{loose: v.standsFor().shape.loose}
		s.shapes[f.name] = child
	}
	kind := shapeScalar
	for k := range f.kinds() {
		if !child.slots[k].complete() {
			kind = k
			break
		}
		if child.slots[k].accepted() && !child.slots[kind].accepted() {
			kind = k
		}
	}
	return v.doc.any(child, kind)
}

// anyItems are values of every kind, for the items of a list or of a mapping with free
// keys; none where the nesting is too deep.
func (v Value) anyItems() []Value {
	s, at := v.slot(), v.standsFor().shape
	s.read = true
	if at.loose >= maxLoose {
		return nil
	}
	if s.items == nil {
		s.items = &shape{loose: at.loose + 1}
	}
	var out []Value
	for k := range shapeKinds {
		out = append(out, v.doc.any(s.items, k))
	}
	return out
}

// anyMap gives every field of a mapping a value.
func (v Value) anyMap(fields []Field) {
	s := v.slot()
	s.read, s.exact, s.fields = true, true, fields
	for i := range fields {
		if fields[i].decode != nil {
			fields[i].decode(v.anyField(&fields[i]))
		}
	}
}

// maxRuns bounds the runs of a decoder: it ends far before.
const maxRuns = 2000

// explore runs a decoder until all is known.
func explore(decode func(Value), variables bool) *shape {
	root := &shape{}
	for range maxRuns {
		d := &Document{name: "schema", shapes: map[*yaml.Node]place{}}
		if variables {
			d.env = func(string) (string, bool) { return "", true }
		}
		decode(d.any(root, shapeMap))
		if root.slots[shapeMap].complete() {
			break
		}
	}
	return root
}
