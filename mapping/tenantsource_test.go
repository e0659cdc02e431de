package mapping_test

import (
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// Of several sources the same tenant is another one in each.
func TestTenantsOfSource(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	rs := bind(t, conn, mapping.Options{}, `
rules:
  - {event: com, table: clientes, on: insert, tenant: codigo, columns: [id]}
  - {event: sem, table: clientes, on: insert, columns: [id]}
  - {event: nulo, table: clientes, on: insert, tenant: "nullif(codigo, codigo)", columns: [id]}
`)
	rs.Of("loja_1")
	var tenants []string
	for _, e := range run(t, mapping.NewMapper(rs, nil), change(rel, cdc.Insert, nil, client())) {
		tenants = append(tenants, e.Tenant)
	}
	diff(t, "tenants", tenants, []string{"loja_1/C1", "loja_1", "loja_1"})
	var seen []string
	one := bind(t, conn, mapping.Options{}, "rules:\n  - {event: com, table: clientes, on: insert, tenant: codigo, columns: [id]}\n")
	one.Of("loja_3")
	run(t, mapping.NewMapper(one, nil, mapping.WithObserver(observed(func(o *mapping.Observation) {
		if o.HasTenant {
			seen = append(seen, string(o.Tenant))
		}
	}))), change(rel, cdc.Insert, nil, client()))
	diff(t, "observed", seen, []string{"loja_3/C1"})
	parked := bind(t, conn, mapping.Options{}, `
rules:
  - {event: com, table: clientes, on: insert, tenant: codigo, data: {x: 1 / (id - id)}}
`)
	parked.Of("loja_2")
	diff(t, "parked", string(parks(t, parked, nil, change(rel, cdc.Insert, nil, client()))[0].Tenant), "loja_2/C1")
}

// observed is an observer.
type observed func(*mapping.Observation)

func (f observed) Observe(o *mapping.Observation) { f(o) }
