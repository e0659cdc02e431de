package console

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/presets"
)

// unitGroup is a group of actions with the addresses of each.
type unitGroup struct {
	presets.Group
	Actions []unitAction
}

type unitAction struct {
	presets.Action
	Fields []addressField
	Unmade bool
	Add    string // label of its +
}

// addressField is a field, with the endpoint whose address it had when the page was made; empty: none's.
type addressField struct {
	field
	Endpoint string
	State    *badge
}

// The names of an action's fields: addresses and endpoints, both with a number behind.
const (
	urlField      = "url"
	endpointField = "endpoint"
)

func groupField(kind, action string, n int) string { return fmt.Sprintf("%s.%s.%d", kind, action, n) }

// groupValues are the fields as the unit has them.
func groupValues(u *unitPage) url.Values {
	values := url.Values{}
	for _, action := range u.Screen.Actions() {
		n := 0
		for _, a := range u.View.Addresses {
			if slices.Contains(a.Actions, action.Name) {
				values.Set(groupField(urlField, action.Name, n), a.URL)
				values.Set(groupField(endpointField, action.Name, n), a.Endpoint)
				n++
			}
		}
	}
	return values
}

// maxAddressFields bounds the fields of one action.
const maxAddressFields = 100

// groups are the fields as they are filled in: one at least for each action, and an empty one more for the action whose + was pressed.
func (v *visit) groups(u *unitPage) []unitGroup {
	states := map[string]badge{}
	for i := range u.View.Addresses {
		a := &u.View.Addresses[i]
		if b := unitBadge(v.language, a); b.Kind != "good" {
			states[a.Endpoint] = b
		}
	}
	var all []unitGroup
	for _, g := range u.Screen.Groups {
		out := unitGroup{Group: g}
		for _, a := range g.Actions {
			title := a.Title.In(v.language.Code)
			action := unitAction{Action: a, Unmade: u.Unmade[a.Name], Add: v.text("unit.add", "action", title)}
			for n := range maxAddressFields {
				name := groupField(urlField, a.Name, n)
				if !u.Form.Values.Has(name) && n > 0 {
					break
				}
				label := title
				if n > 0 {
					label = fmt.Sprintf("%s (%d)", title, n+1)
				}
				f := addressField{field: newField(u.Form, name, label), Endpoint: u.Form.Values.Get(groupField(endpointField, a.Name, n))}
				f.Type = "url"
				if b, ok := states[f.Endpoint]; ok {
					f.State = &b
				}
				action.Fields = append(action.Fields, f)
			}
			out.Actions = append(out.Actions, action)
		}
		all = append(all, out)
	}
	return all
}

// saveGroups saves all addresses; or, when a + was pressed, shows the form with a field more.
func (v *visit) saveGroups(u *unitPage) (reply, error) {
	values := v.http.PostForm
	if add := values.Get("add"); add != "" {
		for n := range maxAddressFields {
			if name := groupField(urlField, add, n); !values.Has(name) {
				values.Set(name, "")
				break
			}
		}
		u.Form = form{Values: values}
		return page("unit", v.filled(u))
	}
	changes, fields := groupChanges(u, values)
	again, err := v.changed(u, control.UnitChange{Addresses: changes}, fields)
	if err != nil || again != nil {
		return orReply(again), err
	}
	return v.doneUnit(u, "unit_saved_all")
}

// groupChanges are the addresses of the fields, and the name of the first field of each. An endpoint that the page had and no field has
// any more is removed.
func groupChanges(u *unitPage, values url.Values) (changes []control.AddressChange, fields []string) {
	at := map[string]int{} // by endpoint or URL
	change := func(c control.AddressChange, key, field string) *control.AddressChange {
		i, ok := at[key]
		if !ok {
			i = len(changes)
			at[key] = i
			changes, fields = append(changes, c), append(fields, field)
		}
		return &changes[i]
	}
	known := map[string]string{}
	for _, a := range u.View.Addresses {
		known[a.Endpoint] = a.URL
	}
	for _, action := range u.Screen.Actions() {
		for n := range maxAddressFields {
			name := groupField(urlField, action.Name, n)
			if !values.Has(name) {
				break
			}
			text, of := strings.TrimSpace(values.Get(name)), values.Get(groupField(endpointField, action.Name, n))
			shown, there := known[of]
			if of != "" && there {
				change(control.AddressChange{Endpoint: of}, "endpoint "+of, name)
			}
			var c *control.AddressChange
			switch {
			case text == "":
				continue
			case there && text == shown:
				c = change(control.AddressChange{Endpoint: of}, "endpoint "+of, name)
			default:
				c = change(control.AddressChange{URL: text}, "url "+text, name)
			}
			if !slices.Contains(c.Actions, action.Name) {
				c.Actions = append(c.Actions, action.Name)
			}
		}
	}
	return changes, fields
}

// switchUnit switches on or off what the screen requires: all addresses of the unit.
func (v *visit) switchUnit(u *unitPage) (reply, error) {
	to := v.http.PostFormValue("do")
	again, err := v.changed(u, control.UnitChange{State: to}, nil)
	switch {
	case err != nil || again != nil:
		return orReply(again), err
	case to == endpoint.Active.String():
		return v.doneUnit(u, "unit_switched_on")
	}
	return v.doneUnit(u, "unit_switched_off")
}
