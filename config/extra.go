package config

import (
	"slices"
	"strings"
	"unicode"
)

// formats are the shapes of a request's body.
var formats = []string{"standard", "cloudevents", "cloudevents-binary", "bare", "form"}

// fields are those that Gancho itself writes into a body, by format.
func fields(format string) []string {
	if strings.HasPrefix(format, "cloudevents") {
		return []string{"id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data", "sequence", "tenant", "previous", "unchanged"}
	}
	return []string{"type", "timestamp", "id", "tenant", "sequence", "data", "previous", "unchanged"}
}

// maxExtraName bounds the length of a field's name, in bytes.
const maxExtraName = 200

// decodeExtra reads the fixed fields of each body. The format is known.
func (e *Endpoint) decodeExtra(v value) map[string]Secret {
	entries := v.Entries()
	if len(entries) > 0 && e.Format == "bare" {
		v.Errorf("write them as headers, or use the format standard", "the format bare has no place for extra fields")
	}
	extra := make(map[string]Secret, len(entries))
	for _, entry := range entries {
		name := entry.Name
		switch {
		case name == "" || len(name) > maxExtraName || strings.ContainsFunc(name, unicode.IsControl):
			entry.Key.Errorf("", "the name of an extra field must have 1 to %d bytes and no control characters", maxExtraName)
		case slices.Contains(fields(e.Format), name):
			entry.Key.Errorf("give it another name", "the field %s is set by Gancho", name)
		case strings.HasPrefix(e.Format, "cloudevents") && !attributeName(name):
			entry.Key.Errorf("use up to 20 lower-case letters and digits", "%q cannot be the name of a CloudEvents attribute", name)
		}
		text := entry.Value.Text()
		shown(entry.Value, text)
		extra[name] = Secret(text)
	}
	return extra
}

// attributeName: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#naming-conventions
func attributeName(s string) bool {
	return len(s) <= 20 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// shown refuses what Gancho shows in the place of a secret: it is a copy of
// what was read somewhere, and would overwrite the secret.
func shown(v value, text string) {
	if text == hidden {
		v.Errorf("write the value itself", "*** only stands for a value that is not shown")
	}
}
