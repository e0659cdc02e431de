package console

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gancho/internal/control"
	"gancho/internal/presets"
	"gancho/internal/state"
)

// unitRow is an action of an address.
type unitRow struct {
	Action  presets.Action
	Address *control.Address
	Unmade  bool
}

// rows are the actions that the addresses get, in the screen's order.
func (v *visit) rows(u *unitPage) []unitRow {
	var all []unitRow
	for _, a := range u.Screen.Actions() {
		for i := range u.View.Addresses {
			if at := &u.View.Addresses[i]; slices.Contains(at.Actions, a.Name) {
				all = append(all, unitRow{Action: a, Address: at, Unmade: u.Unmade[a.Name]})
			}
		}
	}
	return all
}

// newRow shows the form for an action and an address.
func (v *visit) newRow(u *unitPage) (reply, error) {
	if u.Screen.Field != "" && !u.HasToken {
		return v.showUnit(u)
	}
	u.Form = form{Values: url.Values{}}
	return page("unit-new", v.rowForm(u))
}

// rowForm is the page of the form, with the actions to choose from.
func (v *visit) rowForm(u *unitPage) *unitPage {
	u.ActionOptions = nil
	for _, a := range u.Screen.Actions() {
		u.ActionOptions = append(u.ActionOptions, option{Value: a.Name, Text: a.Title.In(v.language.Code), Selected: a.Name == u.Form.Values.Get("action")})
	}
	return u
}

// saveRow adds an action to an address, and sends it a test.
func (v *visit) saveRow(u *unitPage) (reply, error) {
	action, at := v.http.PostFormValue("action"), strings.TrimSpace(v.http.PostFormValue("url"))
	known := map[string][]string{}
	for _, a := range u.View.Addresses {
		known[a.Endpoint] = a.Actions
	}
	again, err := v.changed(u, control.UnitChange{Addresses: []control.AddressChange{{URL: at, Actions: []string{action}}}}, []string{"url"})
	if again != nil && u.Asking == nil {
		again.template = "unit-new"
		v.rowForm(u)
	}
	if err != nil || again != nil {
		return orReply(again), err
	}
	for i := range u.View.Addresses {
		a := &u.View.Addresses[i]
		if before, was := known[a.Endpoint]; slices.Contains(a.Actions, action) && (!was || !slices.Contains(before, action)) {
			return v.tested(u, a, http.StatusCreated)
		}
	}
	u.Form = form{Values: v.http.PostForm, Problems: map[string]string{"url": v.text("unit.there")}}
	return refused("unit-new", v.rowForm(u))
}

// changeField makes a new value of the unit's field, and shows it this once.
func (v *visit) changeField(u *unitPage) (reply, error) {
	switch v.http.PostFormValue("do") {
	case "install":
		if u.HasToken {
			return v.doneUnit(u, "")
		}
	case "change":
	default:
		return reply{}, state.ErrNotFound
	}
	token := strings.ToLower(rand.Text())
	if _, err := v.Control.ChangeFields(v.ctx(), v.actor, u.Tenant, map[string]*string{u.Screen.Field: &token}); err != nil {
		return reply{}, err
	}
	u.Token, u.HasToken = token, true
	return reply{status: http.StatusCreated, template: "unit", data: v.filled(u)}, nil
}
