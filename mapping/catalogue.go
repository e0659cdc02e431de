package mapping

import "gancho/cdc"

// EventType is what a rule makes, as far as its file says it, for listings.
type EventType struct {
	Event, Title string
	Table        cdc.Name // as written: its schema may be empty
	On           string   // insert or update
	Rule         string   // file:line
	Version      string
	// Fields are the names at the top of the event's data, in the file's order.
	Fields []string
}

// Catalogue lists what the rules make, in file order.
func (r *Rules) Catalogue() []EventType {
	out := make([]EventType, len(r.rules))
	for i, rule := range r.rules {
		t := EventType{Event: rule.event, Title: rule.title, Table: rule.table, On: rule.ops.String(), Rule: rule.place(), Version: rule.version}
		for _, c := range rule.columns {
			t.Fields = append(t.Fields, c.name)
		}
		if rule.data != nil {
			for _, f := range rule.data.fields {
				t.Fields = append(t.Fields, f.name)
			}
		}
		out[i] = t
	}
	return out
}
