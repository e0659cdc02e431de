package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gancho/internal/control"
	"gancho/internal/state"
)

func pendingScreen() screen {
	return screen{name: "pending", path: "pending", role: state.Viewer, sources: true, chosen: true, routes: []route{
		{pattern: "GET /pending", handle: (*visit).showPending},
		{pattern: "GET /pending/dead", handle: (*visit).showDeadGroup},
		{pattern: "POST /pending/dead", role: state.Operator, handle: (*visit).actOnDead},
		{pattern: "GET /pending/dead/{id}", handle: (*visit).showDead},
		{pattern: "GET /pending/parked", handle: (*visit).showParkedGroup},
		{pattern: "POST /pending/parked", role: state.Operator, handle: (*visit).actOnParked},
		{pattern: "GET /pending/parked/{id}", handle: (*visit).showParked},
	}}
}

// pendingPage is what waits for somebody: events that were given up, and changes that no event could be made of.
type pendingPage struct {
	Dead    []state.DeadGroup
	Parked  []control.ParkedGroup
	Parking bool // the visitor sees parked changes, which are no tenant's
	Several bool // they are of several sources
	Source  string
}

func (v *visit) showPending() (_ reply, err error) {
	p := pendingPage{Parking: v.actor.Tenant == "", Source: v.source}
	if p.Dead, err = v.Control.DeadGroups(v.ctx(), v.actor, state.Filter{}); err != nil {
		return reply{}, err
	}
	if p.Parking {
		if p.Parked, err = v.Control.ParkedGroups(v.ctx(), v.actor, state.Filter{}); err != nil {
			return reply{}, err
		}
		p.Several = slices.ContainsFunc(p.Parked, func(g control.ParkedGroup) bool { return g.Source != "" })
	}
	return page("pending", p)
}

// pendingGroup are those of a group, and what can be done with all of them.
type pendingGroup struct {
	Kind   string // dead or parked
	Group  url.Values
	Chosen []fact
	Count  int64
	Dead   control.Page[state.DeadLetter]
	Parked control.Page[control.Parked]
	Pager  pager
	Form   form
	// Redrive and Drop: the visitor may. Unkept is how many of them cannot be redriven, of those that are shown.
	Redrive, Drop bool
	Unkept        int64
}

// The names of what makes a group: those of its page's query, and of its forms.
var (
	deadParts   = []string{"endpoint", "event", "class", "status"}
	parkedParts = []string{"event", "rule", "reason"}
)

// group are the parts of a group as they are given.
func group(from url.Values, parts []string) url.Values {
	out := url.Values{}
	for _, name := range parts {
		if text := from.Get(name); text != "" {
			out.Set(name, text)
		}
	}
	return out
}

// filterOf is what chooses a group: all of its parts are needed, so that a part that is missing does not choose more.
func filterOf(group url.Values) state.Filter {
	f := state.Filter{Endpoint: group.Get("endpoint"), Class: group.Get("class"), Rule: group.Get("rule"), Reason: group.Get("reason")}
	if event := group.Get("event"); event != "" {
		f.Events = []string{event}
	}
	if status, err := strconv.Atoi(group.Get("status")); err == nil {
		f.Status = &status
	}
	return f
}

func (v *visit) deadGroup(from url.Values, f form) (p pendingGroup, err error) {
	g := group(from, deadParts)
	if len(g) != len(deadParts) {
		return p, state.ErrNotFound
	}
	p = v.pendingGroup("dead", g, f)
	filter := filterOf(p.Group)
	if p.Count, err = v.Control.CountDead(v.ctx(), v.actor, filter); err != nil {
		return p, err
	}
	if p.Dead, err = v.Control.DeadLetters(v.ctx(), v.actor, filter, v.http.URL.Query().Get("cursor"), control.DefaultPage); err != nil {
		return p, err
	}
	p.Pager = v.pager(p.Dead.Next)
	return p, nil
}

func (v *visit) parkedGroup(from url.Values, f form) (p pendingGroup, err error) {
	p = v.pendingGroup("parked", group(from, parkedParts), f)
	if p.Group.Get("rule") == "" || p.Group.Get("reason") == "" {
		return p, state.ErrNotFound
	}
	filter := filterOf(p.Group)
	if p.Count, err = v.Control.CountParked(v.ctx(), v.actor, filter); err != nil {
		return p, err
	}
	if p.Parked, err = v.Control.Parked(v.ctx(), v.actor, filter, v.http.URL.Query().Get("cursor"), control.DefaultPage); err != nil {
		return p, err
	}
	for i := range p.Parked.Items {
		if !p.Parked.Items[i].Redrivable {
			p.Unkept++
		}
	}
	p.Pager = v.pager(p.Parked.Next)
	return p, nil
}

func (v *visit) pendingGroup(kind string, g url.Values, f form) pendingGroup {
	if f.Values == nil {
		f.Values = url.Values{}
	}
	p := pendingGroup{Kind: kind, Group: g, Form: f, Redrive: v.actor.Role.Covers(state.Operator), Drop: v.actor.Role.Covers(state.Admin)}
	if v.source != "" {
		g.Set(sourceField, v.source)
	}
	for _, name := range []string{sourceField, "endpoint", "event", "class", "status", "rule", "reason"} {
		text := g.Get(name)
		switch {
		case text == "" || name == "status" && text == "0":
			continue
		case name == "class":
			text = v.language.Word("class", text)
		}
		p.Chosen = append(p.Chosen, fact{Name: v.language.Word("chosen", name), Text: text, Reason: name == "reason"})
	}
	return p
}

func (v *visit) showDeadGroup() (reply, error) {
	p, err := v.deadGroup(v.http.URL.Query(), form{})
	if err != nil {
		return reply{}, err
	}
	return page("pending-group", p)
}

func (v *visit) showParkedGroup() (reply, error) {
	p, err := v.parkedGroup(v.http.URL.Query(), form{})
	if err != nil {
		return reply{}, err
	}
	return page("pending-group", p)
}

// pendingActs are what can be done with all of a group; read shows it again.
type pendingActs struct {
	redrive func(state.Job) ([]state.Job, error)
	drop    func(state.Filter) (int64, error)
	read    func(url.Values, form) (pendingGroup, error)
}

func (v *visit) actOnDead() (reply, error) {
	return v.actOn(deadParts, pendingActs{
		redrive: func(j state.Job) ([]state.Job, error) { return v.Control.CreateRedrive(v.ctx(), v.actor, j, false) },
		drop:    func(f state.Filter) (int64, error) { return v.Control.DropDead(v.ctx(), v.actor, f, false) },
		read:    v.deadGroup,
	})
}

func (v *visit) actOnParked() (reply, error) {
	return v.actOn(parkedParts, pendingActs{
		redrive: func(j state.Job) ([]state.Job, error) { return v.Control.RedriveParked(v.ctx(), v.actor, j, false) },
		drop:    func(f state.Filter) (int64, error) { return v.Control.DropParked(v.ctx(), v.actor, f, false) },
		read:    v.parkedGroup,
	})
}

func (v *visit) actOn(parts []string, acts pendingActs) (reply, error) {
	values := v.http.PostForm
	if _, err := acts.read(values, form{}); err != nil { // also: the group is a whole one
		return reply{}, err
	}
	filter := filterOf(group(values, parts))
	var jobs []state.Job
	var dropped int64
	rate, err := v.rate(values)
	switch drop := values.Get("do") == "drop"; {
	case drop && values.Get("confirm") == "":
		err = v.mistake("/confirm", v.text("pending.unconfirmed"))
	case drop:
		dropped, err = acts.drop(filter)
	case err == nil:
		jobs, err = acts.redrive(state.Job{Filter: filter, Rate: rate})
	}
	f, mistaken := v.form(values, err, "rate", "confirm")
	switch {
	case len(jobs) > 0:
		return goTo("jobs", "redrive_begun")
	case dropped > 0:
		return goTo("pending", "dropped")
	case err == nil:
		return goTo("pending", "nothing_left")
	case !mistaken:
		return reply{}, err
	}
	p, err := acts.read(values, f)
	if err != nil {
		return reply{}, err
	}
	return refused("pending-group", p)
}

// pendingOne is one of a group, with its data.
type pendingOne struct {
	Title string
	Facts []fact
	Data  []fact // documents
	// Group is the address of the group that it is in, and Sent that of its deliveries; "": of a change there are none.
	Group, Sent string
}

// fact is a name and what is known under it.
type fact struct {
	Name, Text string
	Path       string // where more is seen of it; "": nowhere
	Reason     bool   // the text was made in English
}

func (p *pendingOne) add(name, text string) {
	if text != "" {
		p.Facts = append(p.Facts, fact{Name: name, Text: text})
	}
}

// because adds a text that was stored in English.
func (p *pendingOne) because(name, text string) {
	if text != "" {
		p.Facts = append(p.Facts, fact{Name: name, Text: text, Reason: true})
	}
}

func (p *pendingOne) document(name string, body []byte) {
	if len(body) > 0 {
		p.Data = append(p.Data, fact{Name: name, Text: string(body)})
	}
}

func (v *visit) showDead() (reply, error) {
	id, err := v.number()
	if err != nil {
		return reply{}, err
	}
	d, err := v.Control.DeadLetter(v.ctx(), v.actor, id)
	if err != nil {
		return reply{}, err
	}
	p := pendingOne{
		Title: v.text("pending.one_dead"), Sent: root + "deliveries?" + queryOf("q", d.DeadEvent.ID, "span", "all"),
		Group: root + "pending/dead?" + v.query("endpoint", d.Endpoint, "event", d.Type, "class", d.Class, "status", strconv.Itoa(d.Status)),
	}
	p.add("webhook-id", d.DeadEvent.ID)
	p.add(v.text("endpoint.name"), d.Endpoint)
	p.add(v.text("pending.event"), d.Type)
	p.add(v.text("pending.key"), d.Key)
	if d.Tenant != "" {
		p.add(v.text("access.tenant"), v.tenantName(d.Tenant))
	}
	p.add(v.text("pending.committed"), v.language.Time(d.Time, v.Zone))
	p.add(v.text("pending.last"), v.language.Time(d.Last, v.Zone))
	p.add(v.text("pending.attempts"), v.language.Number(int64(d.Attempts)))
	p.add(v.text("pending.reason"), v.language.Word("class", d.Class))
	if d.Status != 0 {
		p.add(v.text("pending.status"), strconv.Itoa(d.Status))
	}
	p.because(v.text("pending.error"), d.Error)
	p.document(v.text("pending.data"), d.Data)
	p.document(v.text("pending.previous"), d.Previous)
	p.document(v.text("pending.errors"), d.Errors)
	p.document(v.text("pending.answer"), []byte(d.Answer))
	return page("pending-one", p)
}

func (v *visit) showParked() (reply, error) {
	d, err := v.Control.ParkedChange(v.ctx(), v.actor, v.http.PathValue("id"))
	if err != nil {
		return reply{}, err
	}
	p := pendingOne{Title: v.text("pending.one_parked"), Group: root + "pending/parked?" + v.query("event", d.Type, "rule", d.Rule, "reason", d.Reason)}
	p.add(v.text("sources.source"), d.Source)
	p.add(v.text("pending.position"), d.ParkedChange.ID.String())
	rule, err := v.ruleFact(d.Rule)
	if err != nil {
		return reply{}, err
	}
	p.Facts = append(p.Facts, rule)
	p.add(v.text("pending.event"), d.Type)
	p.add(v.text("pending.table"), strings.Join([]string{d.Table, d.Operation}, " · "))
	if d.RowKey != "" {
		p.add(v.text("pending.key"), d.RowKey)
	}
	p.add(v.text("pending.committed"), v.language.Time(d.Time, v.Zone))
	p.because(v.text("pending.reason"), d.Reason)
	p.because(v.text("pending.unkept"), d.Unkept)
	p.because(v.text("pending.unreadable"), d.Unreadable)
	p.document(v.text("pending.row"), d.Row)
	return reply{status: http.StatusOK, template: "pending-one", data: p}, nil
}

// ruleFact is the rule at a place. It may be edited since, or be of a process that does not capture: then nothing leads to it.
func (v *visit) ruleFact(place string) (fact, error) {
	f := fact{Name: v.text("pending.rule"), Text: place}
	if !v.has("rules") {
		return f, nil
	}
	rules, err := v.Control.Rules(v.ctx(), v.actor)
	if slices.ContainsFunc(rules, func(r control.RuleView) bool { return r.Rule == place }) {
		f.Path = root + "rules/rule?" + v.query("at", place)
	}
	return f, err
}
