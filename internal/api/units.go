package api

import (
	"bytes"
	"encoding/json"

	"gancho/internal/control"
)

// showUnit is what a unit has set on a vendor's screen.
func (c *call) showUnit() (answer, error) {
	tenant := c.query.text("tenant")
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Unit(c.ctx, c.actor, c.name(), tenant)
	return answer{body: view}, err
}

// changeUnit changes addresses of a unit, all or none.
func (c *call) changeUnit() (answer, error) {
	var change control.UnitChange
	var addresses []addressBody
	err := c.decode(
		member{name: "tenant", into: &change.Tenant, expects: "a text"},
		member{name: "addresses", into: &addresses, expects: `a list of objects with the keys endpoint, url and actions`},
		member{name: "state", into: &change.State, expects: "active or inactive"},
		member{name: "removed", into: &change.Removed, expects: "deliver, drop or keep"})
	if err != nil {
		return answer{}, err
	}
	for _, a := range addresses {
		change.Addresses = append(change.Addresses, control.AddressChange(a))
	}
	view, err := c.control.ChangeUnit(c.ctx, c.actor, c.name(), change)
	return answer{body: view}, err
}

// showFields are the fields of a tenant's requests, without their values.
func (c *call) showFields() (answer, error) {
	tenant := c.query.text("tenant")
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Fields(c.ctx, c.actor, tenant)
	return answer{body: view}, err
}

func (c *call) changeFields() (answer, error) {
	var tenant string
	var fields map[string]*string
	err := c.decode(
		member{name: "tenant", into: &tenant, expects: "a text"},
		member{name: "fields", into: &fields, expects: `an object of texts, or null for a field that is to go`, required: true})
	if err != nil {
		return answer{}, err
	}
	view, err := c.control.ChangeFields(c.ctx, c.actor, tenant, fields)
	return answer{body: view}, err
}

// addressBody is an address in a body. Other keys than its own are a mistake.
type addressBody struct {
	Endpoint string   `json:"endpoint"`
	URL      string   `json:"url"`
	Actions  []string `json:"actions"`
}

// UnmarshalJSON reads it.
func (a *addressBody) UnmarshalJSON(src []byte) error {
	type plain addressBody
	decoder := json.NewDecoder(bytes.NewReader(src))
	decoder.DisallowUnknownFields()
	return decoder.Decode((*plain)(a))
}
