package mapping

import (
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// Event is what a rule made of one change: the thing that endpoints receive.
// The Mapper owns its byte slices; they are valid until the next call of Map.
type Event struct {
	cdc.Position
	// N is the event's number within its change: its rule's, as Number has given it.
	// Rules without numbers count from 0, in file order, over those that can fire for the
	// change's table and operation; of an event about a whole transaction, over those
	// that make such. It takes 16 bits.
	N int
	// Type is the rule's event name.
	Type string
	// Rule names the rule's place, file:line, for logs and dead letters.
	Rule string
	// Version is a short hash of the rule's text.
	Version string
	// Time is the commit timestamp.
	Time time.Time
	// Tenant and Key are text forms; Tenant is empty when the rule has none.
	// Key is the ordering key within the tenant.
	Tenant, Key []byte
	// Op is the operation: of an event about a whole transaction that of the net change.
	Op cdc.Op
	// Data is a JSON object; Previous is one or nil; Unchanged is a JSON array
	// of the names left out because their value was not sent, or nil.
	Data, Previous, Unchanged []byte
	// Errors is a JSON array of the names that are null because their expression
	// failed, or nil.
	Errors []byte
	// Tags is a JSON array of the rule's tags, each a name=value; nil: there are none.
	Tags []byte
	// Change is what a Redriver needs of the change, as WithEventChanges has it kept: the whole row, whatever the
	// rule shows of it. It is not to be stored as it is. Nil: it was not kept.
	Change []byte
}

// EventType is an event that rules make, as far as their files say it. Group,
// Title and Description are for people, and empty where no rule has them.
type EventType struct {
	Name        string `json:"name"`
	Group       string `json:"group,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Rules are those that make it, in the order of the files: at least one.
	Rules []EventRule `json:"rules"`
}

// EventRule is one of the rules that make an event.
type EventRule struct {
	Place string `json:"rule"`  // file:line
	Table string `json:"table"` // as written: its schema may be missing; empty of a rule with schedule
	On    string `json:"on"`    // insert or update; with after: insert or update, after 1h; schedule
	// Schedule is the timetable of a rule that has one.
	Schedule string `json:"schedule,omitempty"`
	// Fields are the names at the top of the event's data, in the file's order.
	Fields  []string `json:"fields,omitempty"`
	Version string   `json:"version"` // of the rule's text
}

// Each collects texts of the rules that make the event, each text once.
func (e *EventType) Each(of func(*EventRule) []string) []string {
	var out []string
	for i := range e.Rules {
		for _, text := range of(&e.Rules[i]) {
			if !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out
}

// EventTypes lists the events that the rules make, in the order of the files.
func (r *Rules) EventTypes() []EventType {
	out := []EventType{}
	for _, rule := range r.all {
		i := slices.IndexFunc(out, func(e EventType) bool { return e.Name == rule.event })
		if i < 0 {
			i, out = len(out), append(out, EventType{Name: rule.event})
		}
		e := &out[i]
		for _, text := range []struct {
			to   *string
			from strictyaml.Value
		}{{&e.Group, rule.group}, {&e.Description, rule.description}} {
			if text.from.Valid() {
				*text.to = strings.TrimSpace(text.from.Raw())
			}
		}
		e.Title = r.Title(e.Name)
		e.Rules = append(e.Rules, EventRule{Place: rule.place(), Table: rule.tableText(), On: rule.occasion(), Fields: rule.fields(), Version: rule.version, Schedule: rule.scheduleText()})
	}
	return out
}

// Title is what people call the event of that name; empty where no rule says it.
func (r *Rules) Title(event string) string { return titleOf(r.all, event) }

// Title is that of the rules of tables.
func (rs *Ruleset) Title(event string) string {
	return titleOf(mapped(rs.rules, func(b *boundRule) *rule { return b.rule }), event)
}

// titleOf is the title in the last of the rules that has one.
func titleOf(rules []*rule, event string) (title string) {
	for _, r := range rules {
		if r.event == event && r.title.Valid() {
			title = strings.TrimSpace(r.title.Raw())
		}
	}
	return title
}

// occasion says when the rule makes its event.
func (r *rule) occasion() string {
	switch {
	case r.schedule != nil:
		return cdc.Schedule.String()
	case r.after != nil:
		return r.ops.String() + ", after " + r.after.value.Raw()
	}
	return r.ops.String()
}

func (r *rule) fields() []string {
	out := names(r.columns)
	if r.data != nil {
		out = append(out, mapped(r.data.fields, func(f *field) string { return f.name })...)
	}
	return out
}

// checkEventTypes refuses two titles, groups or descriptions of one event: each
// is the event's, and one rule that has it is enough.
func checkEventTypes(rules []*rule) strictyaml.Errors {
	var errs strictyaml.Errors
	first := map[[2]string]strictyaml.Value{}
	for _, r := range rules {
		for _, text := range []struct {
			key   string
			value strictyaml.Value
		}{{"group", r.group}, {"title", r.title}, {"description", r.description}} {
			id := [2]string{r.event, text.key}
			given, found := first[id]
			switch {
			case !text.value.Valid() || r.event == "":
			case !found:
				first[id] = text.value
			case text.value.Raw() != given.Raw():
				errs = append(errs, text.value.Mistake(-1, "remove one: one rule that has it is enough, and what is special to a rule can be a comment",
					"event %s has another %s, at %s", r.event, text.key, given.Place()))
			}
		}
	}
	return errs
}
