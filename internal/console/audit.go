package console

import (
	"encoding/json"
	"maps"
	"slices"

	"gancho/internal/control"
	"gancho/internal/state"
)

func auditScreen() screen {
	return screen{name: "audit", path: "audit", role: state.Viewer, routes: []route{{pattern: "GET /audit", handle: (*visit).showAudit}}}
}

// auditPage is who changed what.
type auditPage struct {
	Filter  form
	Entries []auditEntry
	Pager   pager
}

type auditEntry struct {
	state.Change
	Differences []difference
}

// difference is a value before and after a change, as JSON; "": there was or is none.
type difference struct{ Name, Before, After string }

func (v *visit) showAudit() (reply, error) {
	query := v.http.URL.Query()
	found, err := v.Control.Audit(v.ctx(), v.actor, state.AuditFilter{Object: query.Get("object"), Action: query.Get("action")}, query.Get("cursor"), control.DefaultPage)
	if err != nil {
		return reply{}, err
	}
	p := auditPage{Filter: form{Values: query}, Pager: v.pager(found.Next)}
	for _, c := range found.Items {
		p.Entries = append(p.Entries, auditEntry{c, differences(c.Before, c.After)})
	}
	return page("audit", p)
}

// differences are the members of two objects that are not the same in both.
func differences(before, after json.RawMessage) []difference {
	was, is := members(before), members(after)
	names := maps.Clone(was)
	maps.Copy(names, is)
	var out []difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if d := (difference{name, string(was[name]), string(is[name])}); d.Before != d.After {
			out = append(out, d)
		}
	}
	return out
}

// members are those of an object; what is none is a member without a name.
func members(document json.RawMessage) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	if len(document) > 0 && json.Unmarshal(document, &out) != nil {
		out = map[string]json.RawMessage{"": document}
	}
	return out
}
