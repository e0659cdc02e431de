package console

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

func auditScreen() screen {
	return screen{name: "audit", path: "audit", role: state.Viewer, routes: []route{{pattern: "GET /audit", handle: (*visit).showAudit}}}
}

// auditActions are the codes of what the audit log has: what somebody changed, or read.
func auditActions() []string {
	return []string{
		"backfill.cancel", "backfill.create", "backfill.pause", "backfill.resume", "console.link", "dead.drop", "dead.expire", "dead.read",
		"delivery.read", "endpoint.activate", "endpoint.add", "endpoint.deactivate", "endpoint.edit", "endpoint.pause", "endpoint.remove",
		"endpoint.test", "event.read", "events.compare", "fields.edit", "forget", "parked.drop", "parked.read", "parked.rekey", "queue.drop",
		"redrive.cancel", "redrive.create", "redrive_parked.cancel", "redrive_parked.create", "resend.cancel", "resend.create", "row.read",
		"rows.simulate", "secret.rekey", "secret.rotate", "session.begin", "session.end", "token.create", "token.revoke", "unit.edit",
	}
}

// actionText says an action's code; what is none is said as it is.
func actionText(l *language.Language, code string) string {
	if !slices.Contains(auditActions(), code) {
		return code
	}
	return l.Word("audit.did", strings.ReplaceAll(code, ".", "_"))
}

// auditPage is who changed what.
type auditPage struct {
	Filter  form
	Action  field
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
	p.Action = v.actionChoice(p.Filter)
	for _, c := range found.Items {
		p.Entries = append(p.Entries, auditEntry{c, differences(c.Before, c.After)})
	}
	return page("audit", p)
}

// actionChoice is the field for what was done, by the words for it.
func (v *visit) actionChoice(f form) field {
	out := newField(f, "action", v.text("audit.action"))
	codes := auditActions()
	if out.Value != "" && !slices.Contains(codes, out.Value) {
		codes = append(codes, out.Value)
	}
	for _, code := range codes {
		out.Options = append(out.Options, option{code, actionText(v.language, code), code == out.Value})
	}
	slices.SortFunc(out.Options, func(a, b option) int { return strings.Compare(a.Text, b.Text) })
	out.Options = append([]option{{Text: v.text("audit.any"), Selected: out.Value == ""}}, out.Options...)
	return out
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
