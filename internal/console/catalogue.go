package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

func catalogueScreen() screen {
	return screen{name: "catalogue", path: "catalogue", role: state.Viewer, sources: true, chosen: true, routes: []route{
		{pattern: "GET /catalogue", handle: (*visit).showCatalogue},
		{pattern: "GET /catalogue/{event}", handle: (*visit).showEvent},
		{pattern: "GET /catalogue/{event}/schema.json", handle: (*visit).downloadSchema},
	}}
}

// cataloguePage is the events that the rules make, by their groups.
type cataloguePage struct{ Groups []eventGroup }

type eventGroup struct {
	Name   string // "": of events without one
	Events []mapping.EventType
}

// eventPage is what a receiver has to know of an event.
type eventPage struct {
	control.EventContract
	Schema, Sample string // "": this process does not know the source
	Operator       bool   // is shown the rules, which tenants have no use for
	MayRules       bool   // may see them, too
	More           int    // endpoints that are not shown
	Source         string
	Several        bool // there are several sources, and none of them is chosen
}

// eventEndpoints is how many endpoints of an event are shown.
const eventEndpoints = 200

func (v *visit) showCatalogue() (reply, error) {
	types, err := v.Control.EventTypes(v.ctx(), v.actor)
	if err != nil {
		return reply{}, err
	}
	var p cataloguePage
	for _, t := range types {
		i := slices.IndexFunc(p.Groups, func(g eventGroup) bool { return g.Name == t.Group })
		if i < 0 {
			i, p.Groups = len(p.Groups), append(p.Groups, eventGroup{Name: t.Group})
		}
		p.Groups[i].Events = append(p.Groups[i].Events, t)
	}
	slices.SortStableFunc(p.Groups, func(a, b eventGroup) int { // those without a group are last
		if a.Name == "" || b.Name == "" {
			return cmp.Compare(b.Name, a.Name)
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return page("catalogue", p)
}

func (v *visit) showEvent() (reply, error) {
	found, err := v.Control.EventContract(v.ctx(), v.actor, v.http.PathValue("event"))
	if err != nil {
		return reply{}, err
	}
	p := eventPage{EventContract: found, Schema: indented(found.Schema), Sample: indented(found.Sample), Operator: v.actor.Tenant == "", Source: v.source, Several: v.source == "" && len(v.sources()) > 0}
	p.MayRules = p.Operator && v.actor.Role.Covers(state.Operator)
	if p.More = max(0, len(p.Endpoints)-eventEndpoints); p.More > 0 {
		p.Endpoints = p.Endpoints[:eventEndpoints]
	}
	return page("event", p)
}

func (v *visit) downloadSchema() (reply, error) {
	found, err := v.Control.EventContract(v.ctx(), v.actor, v.http.PathValue("event"))
	if err == nil && found.Schema == nil {
		err = state.ErrNotFound
	}
	if err != nil {
		return reply{}, err
	}
	return download(found.Name+".schema.json", "application/schema+json", found.Schema)
}

// indented is JSON as people read it, "" of none.
func indented(document json.RawMessage) string {
	var out bytes.Buffer
	if json.Indent(&out, document, "", "  ") != nil {
		return string(document)
	}
	return strings.TrimSpace(out.String())
}
