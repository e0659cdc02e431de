package console

import (
	"strings"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/state"
)

// saveSingle does what the button says with the one address of a unit, which gets all actions. Saving does not activate.
func (v *visit) saveSingle(u *unitPage) (reply, error) {
	c := control.AddressChange{URL: strings.TrimSpace(v.http.PostFormValue("url"))}
	for _, a := range u.Screen.Actions() {
		c.Actions = append(c.Actions, a.Name)
	}
	was := endpoint.Inactive.String()
	do := v.http.PostFormValue("do")
	if len(u.View.Addresses) > 0 {
		was = u.View.Addresses[0].State
		if c.URL != "" || do == "deactivate" { // an emptied field is no address
			c.Endpoint = u.View.Addresses[0].Endpoint
		}
	}
	change := control.UnitChange{State: endpoint.Inactive.String()}
	switch {
	case do == "activate":
		change.State = endpoint.Active.String()
	case do == "deactivate" && c.Endpoint != "":
		c.URL = ""
	case do != "save":
		return reply{}, state.ErrNotFound
	case was != change.State:
		change.State = "" // it stays as it is
	}
	change.Addresses = []control.AddressChange{c}
	again, err := v.changed(u, change, []string{"url"})
	switch {
	case err != nil || again != nil:
		return orReply(again), err
	case do == "activate":
		return v.doneUnit(u, "unit_activated")
	case do == "deactivate":
		return v.doneUnit(u, "unit_deactivated")
	case change.State == "":
		return v.doneUnit(u, "unit_saved_active")
	}
	return v.doneUnit(u, "unit_saved")
}
