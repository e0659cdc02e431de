package queue

import (
	"time"

	"gancho/delivery/endpoint"

	"github.com/rs/zerolog"
)

// MaxRoutes is the router's bound.
const MaxRoutes = maxRoutes

// Size is how many lists the router remembers.
func (r *router) Size() int { return r.size }

// NewRouter is newRouter.
func NewRouter(eps []endpoint.Endpoint) *router { return newRouter(eps) }

// Match is match.
func (r *router) Match(eventType string, tenant []byte) []int { return r.match(eventType, tenant) }

// SlotOf is the cluster slot of a key.
func SlotOf(key string) uint16 { return slotOf(key) }

// Standby is what a queue knows of a master's replicas.
type Standby struct{ s standby }

// NewStandby is of a master with a min-replicas-to-write and some replicas in step.
func NewStandby(required, most int) *Standby {
	return &Standby{standby{required: required, most: most}}
}

// CaughtUp is whether a position may be confirmed, by what INFO says.
func (s *Standby) CaughtUp(told map[string]string, offset int64, now time.Time) bool {
	return s.s.caughtUp(told, offset, now)
}

// Report logs what somebody has to know.
func (s *Standby) Report(log *zerolog.Logger, told map[string]string, offset int64, now time.Time) {
	before := s.s.most
	s.s.report(log, "m", told, before, s.s.caughtUp(told, offset, now), now)
}

// After is what is known of a master without replicas, at an address, where
// those were the masters before.
func After(at string, masters []string, now time.Time, before map[string]int) *Standby {
	var old []*standby
	for addr, most := range before {
		old = append(old, &standby{at: addr, most: most})
	}
	s := &Standby{standby{at: at}}
	s.s.inherit(old, masters, now)
	return s
}

// Sentinels are some that have been asked.
type Sentinels struct{ s sentinel }

// Choose is the master by the answers, which are addresses and their epochs;
// an empty address: no answer.
func (s *Sentinels) Choose(addresses []string, epochs []uint64) (string, error) {
	answers := make([]answer, len(addresses))
	for i := range answers {
		answers[i] = answer{addr: addresses[i], epoch: epochs[i]}
		if addresses[i] == "" {
			answers[i].err = ErrUnreachable
		}
	}
	return s.s.choose(answers)
}
