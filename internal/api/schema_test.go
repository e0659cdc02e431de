package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/internal/api"
)

// object is a JSON object.
type object = map[string]any

// description is the OpenAPI document as the tests use it.
type description struct{ object }

// described is read once: with the race detector that takes longer than many a test.
var described = sync.OnceValues(func() ([]byte, error) { return api.Describe("1.2.3") })

func describe(t testing.TB) description {
	t.Helper()
	src, err := described()
	if err != nil {
		t.Fatal(err)
	}
	d := description{}
	if err := json.Unmarshal(src, &d.object); err != nil {
		t.Fatal(err)
	}
	return d
}

// at follows keys; nil when there is nothing.
func at(v any, keys ...string) any {
	for _, k := range keys {
		o, ok := v.(object)
		if !ok {
			return nil
		}
		v = o[k]
	}
	return v
}

// resolve follows $ref, and takes over the keys beside it.
func (d description) resolve(v any) object {
	o, _ := v.(object)
	ref, ok := o["$ref"].(string)
	if !ok {
		return o
	}
	target := d.resolve(at(d.object, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
	if target == nil {
		panic("the description has no " + ref)
	}
	return target
}

// schemaWords are the keywords that check knows. An unknown one fails the test:
// it would be a promise that nothing holds the handlers to.
var schemaWords = []string{
	"type", "properties", "required", "additionalProperties", "items", "enum", "allOf", "oneOf", "pattern", "format", "minimum", "maximum",
	"minItems", "minLength", "description", "default", "examples", "$ref",
}

// check holds a value against a schema and returns what is wrong. A closed
// object has no keys beside those that its schema names: an answer must not
// hold what the description does not tell.
func (d description) check(schema any, value any, path string, closed bool) []string {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, path+": "+fmt.Sprintf(format, args...)) }
	s := d.resolve(schema)
	for word := range s {
		if !slices.Contains(schemaWords, word) {
			add("the schema has the keyword %s, which the tests do not know", word)
		}
	}
	if all, ok := s["allOf"].([]any); ok {
		return append(wrong, d.check(d.joined(all), value, path, closed)...)
	}
	if choices, ok := s["oneOf"].([]any); ok {
		fits := 0
		for _, one := range choices {
			if len(d.check(one, value, path, closed)) == 0 {
				fits++
			}
		}
		if fits != 1 {
			add("it fits %d of %d schemas", fits, len(choices))
		}
	}
	if !ofType(s["type"], value) {
		add("it is %T, not %v", value, s["type"])
		return wrong
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, value) {
		add("%v is none of %v", value, enum)
	}
	switch v := value.(type) {
	case string:
		wrong = append(wrong, checkText(s, v, path)...)
	case float64:
		if low, ok := s["minimum"].(float64); ok && v < low {
			add("%v is below %v", v, low)
		}
		if high, ok := s["maximum"].(float64); ok && v > high {
			add("%v is above %v", v, high)
		}
	case []any:
		if low, ok := s["minItems"].(float64); ok && len(v) < int(low) {
			add("it has %d items", len(v))
		}
		for i, item := range v {
			if s["items"] != nil {
				wrong = append(wrong, d.check(s["items"], item, fmt.Sprintf("%s/%d", path, i), closed)...)
			}
		}
	case object:
		wrong = append(wrong, d.checkObject(s, v, path, closed)...)
	}
	return wrong
}

func (d description) checkObject(s, value object, path string, closed bool) []string {
	var wrong []string
	if required, ok := s["required"].([]any); ok {
		for _, name := range required {
			if _, ok := value[name.(string)]; !ok {
				wrong = append(wrong, fmt.Sprintf("%s: %v is missing", path, name))
			}
		}
	}
	properties, known := s["properties"].(object)
	for name, v := range value {
		if p, ok := properties[name]; ok {
			wrong = append(wrong, d.check(p, v, path+"/"+name, closed)...)
			continue
		}
		switch more := s["additionalProperties"].(type) {
		case object:
			wrong = append(wrong, d.check(more, v, path+"/"+name, closed)...)
		case bool:
			if !more {
				wrong = append(wrong, fmt.Sprintf("%s: %s is not described", path, name))
			}
		default:
			if closed && known {
				wrong = append(wrong, fmt.Sprintf("%s: %s is not described", path, name))
			}
		}
	}
	return wrong
}

func checkText(s object, v, path string) []string {
	var wrong []string
	if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
		wrong = append(wrong, fmt.Sprintf("%s: %q does not match %s", path, v, pattern))
	}
	if low, ok := s["minLength"].(float64); ok && len(v) < int(low) {
		wrong = append(wrong, fmt.Sprintf("%s: %q is too short", path, v))
	}
	switch s["format"] {
	case nil:
	case "date-time":
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", path, err))
		}
	default:
		wrong = append(wrong, fmt.Sprintf("%s: the tests do not know the format %v", path, s["format"]))
	}
	return wrong
}

// joined is one object schema with the properties of several.
func (d description) joined(all []any) object {
	properties, required := object{}, []any{}
	for _, part := range all {
		s := d.resolve(part)
		if more, ok := s["allOf"].([]any); ok {
			s = d.joined(more)
		}
		for name, p := range s["properties"].(object) {
			properties[name] = p
		}
		more, _ := s["required"].([]any)
		required = append(required, more...)
	}
	return object{"type": "object", "properties": properties, "required": required}
}

func ofType(types, value any) bool {
	switch t := types.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(t, func(one any) bool { return ofType(one, value) })
	}
	switch v := value.(type) {
	case nil:
		return types == "null"
	case bool:
		return types == "boolean"
	case string:
		return types == "string"
	case float64:
		return types == "number" || types == "integer" && v == math.Trunc(v)
	case []any:
		return types == "array"
	case object:
		return types == "object"
	}
	return false
}

// operation is the description of a route.
func (d description) operation(method, path string) object {
	o, _ := at(d.object, "paths", path, strings.ToLower(method)).(object)
	return o
}

// checkAnswer holds an answer against the description of its route: its status,
// its type, its body.
func (d description) checkAnswer(method, path string, a *reply) []string {
	operation := d.operation(method, path)
	if operation == nil {
		return []string{"the route is not described"}
	}
	responses, _ := operation["responses"].(object)
	response := responses[fmt.Sprint(a.status)]
	if response == nil {
		response = responses[fmt.Sprintf("%dXX", a.status/100)]
	}
	if response == nil {
		return []string{fmt.Sprintf("the status %d is not described", a.status)}
	}
	content, _ := d.resolve(response)["content"].(object)
	media := a.header.Get("Content-Type")
	switch {
	case content == nil && len(a.body) > 0:
		return []string{"a body came, and none is described"}
	case content == nil:
		return nil
	case content[media] == nil:
		return []string{fmt.Sprintf("the type %q is not described", media)}
	case media == "text/event-stream":
		return nil
	}
	var value any
	if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(&value); err != nil {
		return []string{"it is not JSON: " + err.Error()}
	}
	return d.check(at(content, media, "schema"), value, "", true)
}
