package delivery

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// GuardAddress is the guard's verdict on an address, without a connection.
func GuardAddress(allow []netip.Prefix, addr netip.Addr) error { return newGuard(allow).check(addr) }

// MaxRoutes is the router's bound.
const MaxRoutes = maxRoutes

// Reserved are the headers that an endpoint may not set.
func Reserved() []string { return slices.Clone(reserved) }

// Size is how many lists the router remembers.
func (r *Router) Size() int { return r.size }

// Transports is how many pools of connections the sender has.
func (s *Sender) Transports() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.transports)
}

// Targets is how many endpoints the sender remembers.
func (s *Sender) Targets() (n int) {
	s.targets.Range(func(any, any) bool { n++; return true })
	return n
}

// AppendStringNumbers is the scanner behind Endpoint.StringNumbers.
var AppendStringNumbers = appendStringNumbers

// FormValue is a JSON value as fields of a form.
func FormValue(name string, value []byte) string { return string(appendFormValue(nil, name, value)) }

// Loaded is how many endpoints this process has and has read to their ends.
func (d *Dispatcher) Loaded() (n int) {
	for _, c := range d.owned() {
		c.mu.Lock()
		if c.loaded && c.main.tail && c.side.tail {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// Skipping is how many events the process remembers since a restart of Redis.
func (d *Dispatcher) Skipping() (n int) {
	for _, c := range d.owned() {
		c.mu.Lock()
		n += len(c.skip)
		c.mu.Unlock()
	}
	return n
}

// SpecialNetworks are those that the guard refuses by name.
func SpecialNetworks() (list []netip.Prefix) {
	for _, s := range specials {
		list = append(list, s.prefix)
	}
	return list
}

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

// Tell looks at what INFO says, and logs what somebody has to know.
func (s *Standby) Tell(log *zerolog.Logger, told map[string]string, offset int64, now time.Time) {
	before := s.s.most
	s.s.tell(log, "m", told, before, s.s.caughtUp(told, offset, now), now)
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

// BodyWriter returns what appends bodies for the endpoint.
func BodyWriter(ep *Endpoint) func(dst []byte, m *Message) []byte {
	f := newShape(ep)
	return f.appendBody
}
