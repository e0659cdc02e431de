package bridge

import "gancho/mapping"

// observers are several of the mapper's.
type observers []mapping.Observer

// Observe implements mapping.Observer.
func (all observers) Observe(o *mapping.Observation) {
	for _, one := range all {
		one.Observe(o)
	}
}
