package console

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// search is what the box over the deliveries was understood as.
type search struct {
	Filter state.Filter
	Parts  []part
}

// part is a part of a search: its kind (word search.KIND), and what was looked for.
type part struct{ Kind, Value string }

// The names that may be before a colon, in both languages.
var searchNames = map[string]string{
	"webhook-id": "id", "id": "id", "chave": "key", "key": "key", "tag": "tag", "unidade": "unit", "unit": "unit", "empresa": "unit", "tenant": "unit",
	"evento": "event", "event": "event", "endpoint": "endpoint",
}

// search understands text: webhook-ids, name=value of a tag, names of events or patterns with *, names of units and of endpoints; what is none of
// these is an ordering key. A name and a colon before a word say what it is, quotation marks keep blanks in it.
func (v *visit) search(text string) (search, error) {
	var s search
	tenants, _, err := v.tenants.all(v.ctx())
	if err != nil {
		v.log(err) // it is searched without names
	}
	events, err := v.Control.EventTypes(v.ctx(), v.actor)
	if err != nil {
		return s, err
	}
	for _, word := range words(text) {
		kind, value := "", word
		if name, rest, ok := strings.Cut(word, ":"); ok && rest != "" {
			if known := searchNames[strings.ToLower(name)]; known != "" {
				kind, value = known, rest
			}
		}
		value = strings.ReplaceAll(value, `"`, "")
		unit := slices.IndexFunc(tenants, func(t Tenant) bool { return strings.EqualFold(t.Name, value) })
		_, _, notID := queue.ParseWebhookID(value)
		switch {
		case kind != "" || value == "":
		case notID == nil:
			kind = "id"
		case strings.Contains(value, "="):
			kind = "tag"
		case strings.Contains(value, "*"), slices.ContainsFunc(events, func(e mapping.EventType) bool { return e.Name == value }):
			kind = "event"
		case unit >= 0:
			kind = "unit"
		default:
			kind = "key"
		}
		if value == "" {
			continue
		}
		shown := value
		switch kind {
		case "id":
			s.Filter.Webhooks = append(s.Filter.Webhooks, value)
		case "tag":
			s.Filter.Tags = append(s.Filter.Tags, value)
		case "event":
			s.Filter.Events = append(s.Filter.Events, value)
		case "endpoint":
			s.Filter.Endpoint = value
		case "unit":
			if unit >= 0 {
				value = tenants[unit].ID
			}
			shown, s.Filter.Tenant = v.tenantName(value), &value
		default:
			s.Filter.Key = value
		}
		if once := kind == "key" || kind == "unit" || kind == "endpoint"; once && slices.ContainsFunc(s.Parts, func(p part) bool { return p.Kind == kind }) {
			return s, &control.InvalidError{Problems: []control.Problem{{Pointer: "/q", Message: v.text("search.twice", "what", v.language.Word("search.part", kind))}}}
		}
		s.Parts = append(s.Parts, part{kind, shown})
	}
	return s, nil
}

// words splits a text at blanks that are not between quotation marks.
func words(text string) []string {
	quoted := false
	return strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return unicode.IsSpace(r) && !quoted
	})
}

// spans are the choices of how far back deliveries are shown.
var spans = map[string]time.Duration{"hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour, "all": 0}

// defaultSpan is the one of who has not chosen.
const defaultSpan = "day"
