package console

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/presets"
	"gancho/internal/state"
	"gancho/mapping"
)

// unitScreens are the vendors' screens for units, which are tenants: what the layouts have in common is here, the rest in unitsingle.go,
// unittable.go and unitgroups.go.
func unitScreens(vendors []presets.Screen) []screen {
	var all []screen
	for i := range vendors {
		p := &vendors[i]
		s := screen{name: "unit-" + p.Name, path: unitPath(p), label: titled(p, vendors), role: state.Viewer}
		on := func(pattern string, role state.Role, handle func(*visit, *unitPage) (reply, error)) {
			s.routes = append(s.routes, route{pattern: pattern, role: role, handle: func(v *visit) (reply, error) { return v.onUnit(p, handle) }})
		}
		on("GET /"+s.path, "", (*visit).showUnit)
		on("POST /"+s.path, state.Admin, map[presets.Layout]func(*visit, *unitPage) (reply, error){
			presets.Single: (*visit).saveSingle, presets.Groups: (*visit).saveGroups, presets.Table: (*visit).saveRow,
		}[p.Layout])
		on("POST /"+s.path+"/test", state.Operator, (*visit).testUnit)
		on("POST /"+s.path+"/remove", state.Admin, (*visit).removeAddress)
		if p.Layout == presets.Table {
			on("GET /"+s.path+"/new", state.Admin, (*visit).newRow)
			on("POST /"+s.path+"/field", state.Admin, (*visit).changeField)
		}
		if len(p.Requires) > 0 {
			on("POST /"+s.path+"/switch", state.Admin, (*visit).switchUnit)
		}
		all = append(all, s)
	}
	return all
}

func unitPath(p *presets.Screen) string { return "units/" + p.Name }

// titled is a screen's title, with the vendor's name behind it where another screen has the same.
func titled(p *presets.Screen, all []presets.Screen) presets.Text {
	t := presets.Text{}
	for _, code := range language.Codes() {
		t[code] = p.Title.In(code)
		if slices.ContainsFunc(all, func(s presets.Screen) bool { return s.Name != p.Name && s.Title.In(code) == t[code] }) {
			t[code] += " (" + p.Name + ")"
		}
	}
	return t
}

// landing is where somebody is led who has signed in, below /console/: a unit to its vendor's screen.
func (v *visit) landing(tenant string) string {
	if tenant == "" || len(v.Vendors) == 0 {
		return ""
	}
	return unitPath(&v.Vendors[0])
}

// unitPage is a vendor's screen for one unit.
type unitPage struct {
	Screen *presets.Screen
	Path   string // of the screen
	Tenant string
	// Name of the unit, when more than one could be shown.
	Name string
	// Choices are the units, when one has to be chosen; nil with Choosing: its id is typed.
	Choosing bool
	Choices  []option
	View     control.UnitView
	MayEdit  bool
	Form     form
	// Unmade are the actions with events that no rule makes.
	Unmade map[string]bool
	Tested *unitTest
	Asking *unitAsking
	// Token is the value of the unit's field, on the page that has made it; HasToken: there is one.
	Token    string
	HasToken bool
	Rows     []unitRow
	Groups   []unitGroup
	// ActionOptions are the actions of the form for a new row.
	ActionOptions []option
}

// unitTest is how a test ended.
type unitTest struct {
	*webhook.Exchange
	URL string
	OK  bool
}

// unitAsking asks what becomes of what is queued for addresses that a form removes.
type unitAsking struct {
	Action string // of the form
	Sent   []sentValue
	Queued int64
}

type sentValue struct{ Name, Value string }

// onUnit finds the unit and calls the handler; or lets one be chosen.
func (v *visit) onUnit(p *presets.Screen, handle func(*visit, *unitPage) (reply, error)) (reply, error) {
	u := &unitPage{Screen: p, Path: root + unitPath(p), MayEdit: v.actor.Role.Covers(state.Admin), Tenant: cmp.Or(v.actor.Tenant, v.http.FormValue("tenant"))}
	if v.actor.Tenant == "" {
		units, names, err := v.tenants.all(v.ctx())
		if err != nil {
			v.log(err)
		}
		if len(units) == 1 && u.Tenant == "" {
			u.Tenant = units[0].ID
		}
		for _, t := range units {
			u.Choices = append(u.Choices, option{Value: t.ID, Text: cmp.Or(t.Name, t.ID)})
		}
		if u.Choosing = u.Tenant == ""; u.Choosing {
			u.Form = form{Values: url.Values{}}
			return page("unit", u)
		}
		u.Name = cmp.Or(names[u.Tenant], u.Tenant)
	}
	var err error
	if u.View, err = v.Control.Unit(v.ctx(), v.actor, p.Name, u.Tenant); err != nil {
		return reply{}, err
	}
	if u.Unmade, err = v.unmade(p); err != nil {
		return reply{}, err
	}
	if p.Field != "" {
		fields, err := v.Control.Fields(v.ctx(), v.actor, u.Tenant)
		if err != nil {
			return reply{}, err
		}
		_, u.HasToken = fields.Fields[p.Field]
	}
	return handle(v, u)
}

// unmade are the actions of which an event is none of the rules': choosing one would bring nothing.
func (v *visit) unmade(p *presets.Screen) (map[string]bool, error) {
	types, err := v.Control.EventTypes(v.ctx(), v.actor)
	if err != nil {
		return nil, err
	}
	unmade := map[string]bool{}
	for _, a := range p.Actions() {
		for _, event := range a.Events {
			made := slices.ContainsFunc(types, func(t mapping.EventType) bool { return t.Name == event })
			unmade[a.Name] = unmade[a.Name] || !made
		}
	}
	return unmade, nil
}

func (v *visit) showUnit(u *unitPage) (reply, error) { return page("unit", v.filled(u)) }

// filled fills the page's form with what there is, unless it has been filled in already.
func (v *visit) filled(u *unitPage) *unitPage {
	if u.Form.Values == nil {
		u.Form = form{Values: url.Values{}}
		switch {
		case u.Screen.Layout == presets.Groups:
			u.Form.Values = groupValues(u)
		case u.Screen.Layout == presets.Single && len(u.View.Addresses) > 0:
			u.Form.Values.Set("url", u.View.Addresses[0].URL)
		}
	}
	switch u.Screen.Layout {
	case presets.Groups:
		u.Groups = v.groups(u)
	case presets.Table:
		u.Rows = v.rows(u)
	}
	return u
}

// changed carries a change out. When it is refused, page is the answer: the page again with each mistake at its field, of which fields has
// the name for each address; or the question what becomes of queued events.
func (v *visit) changed(u *unitPage, c control.UnitChange, fields []string) (again *reply, err error) {
	c.Tenant, c.Removed = u.Tenant, v.http.PostFormValue("removed")
	view, err := v.Control.ChangeUnit(v.ctx(), v.actor, u.Screen.Name, c)
	if err == nil {
		u.View = view
		return nil, nil
	}
	var invalid *control.InvalidError
	var quota *control.QuotaError
	problems := map[string]string{}
	switch {
	case errors.As(err, &quota):
		problems[""] = v.text("unit.quota")
	case !errors.As(err, &invalid):
		return nil, err
	default:
		for i := range invalid.Problems {
			p := &invalid.Problems[i]
			if p.Code == control.CodeQueued {
				r, err := page("unit", v.ask(u))
				return &r, err
			}
			problems[fieldAt(p.Pointer, fields)] = v.unitProblem(p)
		}
	}
	u.Form = form{Values: v.http.PostForm, Problems: problems}
	r, err := refused("unit", v.filled(u))
	return &r, err
}

// fieldAt is the field of a pointer such as /addresses/2/url; "": none's.
func fieldAt(pointer string, fields []string) string {
	parts := strings.Split(pointer, "/")
	if len(parts) < 3 || parts[1] != "addresses" {
		return ""
	}
	if i, err := strconv.Atoi(parts[2]); err == nil && i < len(fields) {
		return fields[i]
	}
	return ""
}

func (v *visit) unitProblem(p *control.Problem) string {
	if said := v.language.Word("unit.url", p.Code); p.Code != "" && said != p.Code {
		return said
	}
	return v.problem(p)
}

// ask keeps what was sent, for the answer to be sent with it.
func (v *visit) ask(u *unitPage) *unitPage {
	u.Asking = &unitAsking{Action: v.http.URL.Path}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range v.http.PostForm {
			if !yield(name) {
				return
			}
		}
	}) {
		if name != "removed" {
			u.Asking.Sent = append(u.Asking.Sent, sentValue{name, v.http.PostForm.Get(name)})
		}
	}
	for _, a := range u.View.Addresses {
		u.Asking.Queued += a.Queued
	}
	return u
}

// doneUnit leads back to the unit's screen.
func (v *visit) doneUnit(u *unitPage, done string) (reply, error) {
	query := url.Values{"done": {done}}
	if v.actor.Tenant == "" {
		query.Set("tenant", u.Tenant)
	}
	return reply{location: u.Path + "?" + query.Encode()}, nil
}

// testUnit sends a test to an address of the unit, and shows how it ended.
func (v *visit) testUnit(u *unitPage) (reply, error) {
	name := v.http.PostFormValue("endpoint")
	i := slices.IndexFunc(u.View.Addresses, func(a control.Address) bool { return a.Endpoint == name })
	if i < 0 {
		return reply{}, state.ErrNotFound
	}
	return v.tested(u, &u.View.Addresses[i], 0)
}

func (v *visit) tested(u *unitPage, a *control.Address, status int) (reply, error) {
	x, err := v.Control.Test(v.ctx(), v.actor, a.Endpoint)
	if err != nil {
		return reply{}, err
	}
	u.Tested = &unitTest{Exchange: &x, URL: a.URL, OK: x.Class == webhook.ClassOK}
	u.Form = form{}
	return reply{status: status, template: "unit", data: v.filled(u)}, nil
}

// removeAddress removes an action of an address, or, for one that has left already, does with its queue as the form says.
func (v *visit) removeAddress(u *unitPage) (reply, error) {
	name, action := v.http.PostFormValue("endpoint"), v.http.PostFormValue("action")
	for _, a := range slices.Concat(u.View.Addresses, u.View.Leaving) {
		if a.Endpoint != name {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(a.Actions), func(other string) bool { return action == "" || other == action })
		again, err := v.changed(u, control.UnitChange{Addresses: []control.AddressChange{{Endpoint: name, Actions: left}}}, nil)
		if err != nil || again != nil {
			return orReply(again), err
		}
		return v.doneUnit(u, "unit_removed")
	}
	return reply{}, state.ErrNotFound
}

func orReply(r *reply) reply {
	if r == nil {
		return reply{}
	}
	return *r
}

// unitBadge is the state of an address, as the vendors have it: ATIVA.
func unitBadge(l *language.Language, a *control.Address) badge {
	kind := a.State
	look := map[string]string{"active": "good", "paused": "warn"}[kind]
	if a.State == "active" {
		if complaint, _ := a.View.Complaint(); complaint != "" {
			kind, look = string(complaint), "bad"
		}
	}
	return newBadge(cmp.Or(look, "idle"), l.Word("unit.state", kind))
}
