package control

import (
	"strings"

	"gancho/internal/state"
)

// maxTags is how many tags a filter may have: as many as an event.
const maxTags = 5

// tagged has the filter's tags, given as name=value with the value that the rule's expression
// has before it is hashed, as events have them. What was given is neither stored nor logged.
func (s *Service) tagged(f state.Filter) (state.Filter, error) {
	if len(f.Tags) == 0 {
		return f, nil
	}
	const place = "/tags"
	if len(f.Tags) > maxTags {
		return f, invalid(place, "leave some out", "the filter has %d tags; an event has at most %d", len(f.Tags), maxTags)
	}
	if s.Tag == nil {
		return f, invalid(place, "ask a bridge, or give the command a gancho.yaml with rules", "the names of tags are in rules, which this process does not have")
	}
	var stored []string
	for _, text := range f.Tags {
		name, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return f, invalid(place, "write name=value, such as pedido=4711", "a tag of the filter has no value")
		}
		tag, known := s.Tag(name, value)
		if !known {
			hint := "write tags: in a rule; what happens from then on is found by them"
			if names := s.TagNames(); len(names) > 0 {
				hint = "the rules have " + strings.Join(names, ", ")
			}
			return f, invalid(place, hint, "no rule has the tag %q", name)
		}
		stored = append(stored, tag)
	}
	f.Tags = stored
	return f, nil
}
