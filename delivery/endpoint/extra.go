package endpoint

import (
	"slices"
	"strings"
	"unicode"
)

// bodyFields are those that Gancho itself writes into a body, attributes those
// that it gives a CloudEvent, and those that the specification has.
var (
	bodyFields = []string{"type", "timestamp", "id", "tenant", "sequence", "data", "previous", "unchanged"}
	attributes = []string{
		"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data",
		"tenant", "sequence", "previous", "unchanged",
	}
)

// decodeExtra reads the fixed fields of each body. The format is known.
func decodeExtra(v value, f Format) map[string]Hidden {
	entries := v.Entries()
	checkExtra(f, len(entries)).at(v)
	extra := make(map[string]Hidden, len(entries))
	for _, entry := range entries {
		text := entry.Value.Text()
		checkExtraName(f, entry.Name).at(entry.Key)
		checkExtraValue(f, entry.Name, text).at(entry.Value)
		refuseMask(entry.Value, text)
		extra[entry.Name] = Hidden(text)
	}
	return extra
}

func checkExtra(f Format, n int) *SettingError {
	if n > 0 && f == FormatBare {
		return mistakef("write them as headers, or use the format standard", "the format bare has no place for extra fields")
	}
	return nil
}

func checkExtraName(f Format, name string) *SettingError {
	own, base := bodyFields, name
	switch {
	case f.isCloudEvents():
		own = attributes
	case f == FormatForm: // PHP files a[b] under a, and drops leading blanks
		base, _, _ = strings.Cut(strings.TrimLeft(name, " "), "[")
	}
	switch {
	case base == "" && name != "":
		return mistakef("write such as auth[token]", "the extra field %q has no name before its bracket", name)
	case name == "" || len(name) > maxExtraName || strings.ContainsFunc(name, unicode.IsControl):
		return mistakef("write such as validationtoken", "the name of an extra field must have 1 to %d bytes and no control characters", maxExtraName)
	case slices.Contains(own, base):
		return mistakef("give it another name", "the field %s is set by Gancho", base)
	// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#naming-conventions
	case f.isCloudEvents() && (len(name) > maxAttribute || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != ""):
		return mistakef("use up to 20 lower-case letters and digits", "%q cannot be the name of a CloudEvents attribute", name)
	}
	return nil
}

func checkExtraValue(f Format, name, text string) *SettingError {
	if f.isCloudEvents() && strings.ContainsFunc(text, NotInAttribute) {
		return mistakef("remove it", "the value of the extra field %s has a control character, which CloudEvents does not allow", name)
	}
	return nil
}

// NotInAttribute reports whether CloudEvents does not allow the character in the
// text of an attribute.
func NotInAttribute(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
}
