package simulate

import (
	"slices"

	"gancho/internal/draft"
	"gancho/internal/jsontext"
)

// masks are those of a rule's payload.
type masks struct {
	// names are what each leaf shows, by its dotted path; see mapping.Ruleset.ShownNames.
	names map[string][]string
	off   bool
	// strict hides leaves of which nothing is known.
	strict bool
}

// hides reports whether a leaf, or what is below one, is personal by its names. A leaf
// that the rule hides itself is shown as it leaves.
func (m *masks) hides(path, key string) bool {
	for i := range len(path) {
		if i == 0 || path[i] != '.' {
			continue
		}
		if _, leaf := m.names[path[:i]]; leaf { // it is within a value of json
			return draft.Personal(key)
		}
	}
	names, known := m.names[path]
	if m.strict && !known {
		return true
	}
	return len(names) > 0 && (draft.Personal(key) || slices.ContainsFunc(names, draft.Personal))
}

// tenant is an event's tenant, as it may be shown.
func (m *masks) tenant(text string) string {
	if !m.off && text != "" && slices.ContainsFunc(m.names[""], draft.Personal) {
		return jsontext.Redacted
	}
	return text
}

// object masks the JSON of a payload; nil stays nil.
func (m *masks) object(text []byte) []byte {
	if len(text) == 0 || m.off {
		return text
	}
	return jsontext.Redact(text, m.hides)
}
