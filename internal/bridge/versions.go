package bridge

import (
	"reflect"
	"slices"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/mapping"
)

const (
	// settingsKept is how many pairs of a version of the rules and one of the endpoints are
	// remembered, rulesKept and rostersKept how many of each: endpoints are paused and
	// activated far more often than rules are loaded.
	settingsKept = 1 << 12
	rulesKept    = 16
	rostersKept  = 64
)

// verdictSettings are what verdicts are about: the numbers of the versions of the rules and of
// the endpoints, which change apart, and the backfill whose rows were read last.
type verdictSettings struct {
	rules, roster uint64
	scope         readScope
}

// readScope is which backfill reads rows, and for whom.
type readScope struct {
	job      int64
	endpoint string // that gets the events; "": all do
	tenant   uint64 // the hash of that whose events are made; 0: those of all are
}

// narrow notes which endpoints the backfill is not for.
func (s *readScope) narrow(endpoints []control.WhyEndpoint) {
	for i := range endpoints {
		if e := &endpoints[i]; s.endpoint != "" && e.Endpoint != s.endpoint {
			e.Refused = control.RefusedBackfill
		}
	}
}

// read has the rows that follow be those of a backfill.
func (v *verdicts) read(h *readHeader) {
	scope := readScope{job: h.Job, endpoint: h.Endpoint}
	if h.Tenant != nil {
		scope.tenant = v.hash([]byte(*h.Tenant))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.settings[v.version]; s.scope != scope {
		s.scope = scope
		v.changeLocked(s)
	}
}

// verdictRules are a version of the rules.
type verdictRules struct {
	*mapping.Ruleset
	texts []mapping.RuleText
}

// use has what follows judged by these rules. Those of a visit that was prepared again are the same rules, and no version of their own: else
// those that older answers need would soon have to make room.
func (v *verdicts) use(rules *mapping.Ruleset) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.settings[v.version]
	before := v.rules[s.rules]
	if before != nil && before.Ruleset == rules { // of the visit before
		return
	}
	loaded := &verdictRules{rules, rules.Texts()}
	if before != nil && before.Ruleset != nil && reflect.DeepEqual(before.texts, loaded.texts) {
		v.rules[s.rules] = loaded // their schedules may be others
		return
	}
	s.rules++
	v.rules[s.rules] = loaded
	delete(v.rules, s.rules-rulesKept)
	v.changeLocked(s)
}

// offer has what follows offered to these endpoints.
func (v *verdicts) offer(endpoints []*endpoint.Endpoint) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.settings[v.version]
	before := v.rosters[s.roster]
	known := make(map[string]*addressee, len(before))
	for _, a := range before {
		known[a.name] = a
	}
	var now []*addressee
	for _, e := range endpoints {
		if v.source != "" && !queue.TakesSource(e, v.source) {
			continue
		}
		a := known[e.Name]
		if !a.is(e) {
			a = &addressee{e.Name, e.State, e.Events, e.Tenants}
		}
		now = append(now, a)
	}
	if slices.Equal(now, before) {
		return
	}
	s.roster++
	v.rosters[s.roster] = now
	delete(v.rosters, s.roster-rostersKept)
	v.changeLocked(s)
}

// addressee is what of an endpoint says whether it gets an event. Rosters that have the same one share it: of thousands of
// endpoints, one is paused at a time.
type addressee struct {
	name            string
	state           endpoint.State
	events, tenants []string
}

// is reports whether it is the endpoint as it is now; nil is none.
func (a *addressee) is(e *endpoint.Endpoint) bool {
	return a != nil && a.state == e.State && slices.Equal(a.events, e.Events) && slices.Equal(a.tenants, e.Tenants)
}

// changeLocked makes a new version of the settings.
func (v *verdicts) changeLocked(s verdictSettings) {
	if v.used {
		v.version++
		v.used = false
	}
	delete(v.settings, v.version-settingsKept)
	v.settings[v.version] = s
}

// knownSettings are those that are remembered.
type knownSettings struct {
	settings map[uint16]verdictSettings
	rules    map[uint64]*verdictRules
	rosters  map[uint64][]*addressee
}

// of returns what a record's verdicts are about; complete: both are remembered.
func (k *knownSettings) of(r *verdictRecord) (rules *verdictRules, roster []*addressee, complete bool) {
	s, known := k.settings[r.settings]
	if rules = k.rules[s.rules]; rules == nil || !known {
		return &verdictRules{}, nil, false // older than the last reloads
	}
	roster, complete = k.rosters[s.roster]
	return rules, roster, complete
}
