package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/internal/jsonschema"
)

// Markdown returns a page about the events, as the endpoint gets them.
func Markdown(events []Event, ep *endpoint.Endpoint) []byte {
	var b bytes.Buffer
	b.WriteString("# Webhooks\n\n" + about + "\n\n| event | what it is | caused by |\n|---|---|---|\n")
	for i := range events {
		e := &events[i]
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", e.Name, anchor(e.Name), cell(e.heading()), cell(strings.Join(e.Sources, ", ")))
	}
	for i := range events {
		events[i].page(&b, ep)
	}
	return b.Bytes()
}

// anchor is the one that renderers give a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case strings.ContainsRune("-_", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 0x7f:
			return r
		}
		return -1
	}, strings.ToLower(heading))
}

// cell is a text as a cell of a table can have it.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

func (e *Event) page(b *bytes.Buffer, ep *endpoint.Endpoint) {
	fmt.Fprintf(b, "\n## %s\n\n", e.Name)
	for _, text := range []string{e.Title, e.Description} {
		if text != "" {
			b.WriteString(strings.TrimSpace(text) + "\n\n")
		}
	}
	for i := range e.Variants {
		v := &e.Variants[i]
		fmt.Fprintf(b, "On %s:\n\n| field | type | |\n|---|---|---|\n", strings.Join(v.Ops, ", "))
		rows(b, bodyOf(ep).written(v.Data), "", func(path string) string { return e.remark(v, path) })
		b.WriteString("\n")
		if v.Previous != nil {
			b.WriteString("`previous` has what the changed fields had before.\n\n")
		}
	}
	_, sample := e.Sample(ep)
	var pretty bytes.Buffer
	if json.Indent(&pretty, sample, "", "  ") == nil {
		sample = pretty.Bytes()
	}
	fmt.Fprintf(b, "```\n%s\n```\n", sample)
}

// remark is what else there is to say about a field.
func (e *Event) remark(v *Variant, path string) string {
	var out []string
	if e.sample.hidden[path] {
		out = append(out, "masked or hashed")
	}
	if slices.Contains(v.LeftOut, path) {
		out = append(out, "left out, and named in `unchanged`, where the database did not send it")
	}
	if slices.Contains(v.Failing, path) {
		out = append(out, "null, and named in `errors`, where its expression fails")
	}
	return strings.Join(out, "; ")
}

// rows are the fields of an object, those of objects within it by their paths. The fields of
// alternatives are listed once.
func rows(b *bytes.Buffer, s *jsonschema.Schema, path string, remark func(string) string) {
	seen := map[string]bool{}
	for _, o := range append([]*jsonschema.Schema{s}, s.AnyOf...) {
		for _, p := range o.Properties {
			at := strings.TrimPrefix(path+"."+p.Name, ".")
			if seen[at] {
				continue
			}
			seen[at] = true
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", cell(at), cell(kind(p.Schema)), remark(at))
			rows(b, p.Schema, at, remark)
		}
	}
}

// kind describes what a schema accepts in a few words.
func kind(s *jsonschema.Schema) string {
	if len(s.AnyOf) > 0 {
		var of []string
		for _, a := range s.AnyOf {
			of = append(of, kind(a))
		}
		return strings.Join(of, " or ")
	}
	if len(s.Type) == 0 && len(s.Enum) == 0 {
		return "any JSON"
	}
	if len(s.Enum) > 0 {
		var of []string
		for _, v := range s.Enum {
			of = append(of, "`"+string(v)+"`")
		}
		return strings.Join(of, ", ")
	}
	out := strings.Join(s.Type, " or ")
	switch {
	case s.Format != "":
		out += ", " + s.Format
	case s.MaxLength > 0:
		out += fmt.Sprintf(", at most %d characters", s.MaxLength)
	case s.ContentEncoding != "":
		out += ", " + s.ContentEncoding
	}
	if s.Items != nil && slices.Contains(s.Type, jsonschema.Array) && !s.Items.IsNothing() {
		out += " of " + kind(s.Items)
	}
	return out
}
