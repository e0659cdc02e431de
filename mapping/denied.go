package mapping

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// What a privilege was taken away from while the rules run parks the changes that need it,
// of its rules alone; timers and the runs of schedules wait. The Source remembers what that
// is, and asks again for it.

// denial is the refusal of a query for a missing privilege, with what grants it.
type denial struct {
	error
	remedy remedy
}

func (d *denial) Unwrap() error { return d.error }

// isDenied: the server refuses the query for a missing privilege, which somebody may grant.
func isDenied(err error) bool {
	_, known := errors.AsType[*denial](err)
	return known || cdc.FaultOf(err) == cdc.FaultDenied
}

// deniedHint says what to do about a query that is refused, in one line.
func deniedHint(err error) string {
	d, ok := errors.AsType[*denial](err)
	if !ok {
		return refusalHint(err)
	}
	hint := d.remedy.line()
	if all := d.remedy.statements; len(all) > 0 && all[0].Who.Role != "" && !slices.ContainsFunc(all, func(s cdc.Statement) bool { return s.Who.Role != all[0].Who.Role }) {
		hint = "as " + all[0].Who.Role + ", " + hint
	}
	return hint
}

// explain adds to the refusal of a query for what the privilege that it needs. A name
// that is not found is such a refusal, too, when the role may not use a schema in which it
// is: the server passes over it. Another error stays as it is.
func (s *Source) explain(ctx context.Context, what string, refusal error, query string, denied map[uint32]map[string]string) error {
	lost := absent(refusal, query)
	if cdc.FaultOf(refusal) != cdc.FaultDenied && lost == "" || inRoutine(refusal) || s.conn == nil || s.conn.IsClosed() {
		return refusal
	}
	if r, known := s.remedyOf(what, refusal); known {
		return &denial{refusal, r} // the server logs what it is asked
	}
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	p := privileges{s.conn, s.path, denied}
	var r remedy
	var err error
	if lost != "" {
		var role string
		if role, err = p.role(ctx); err == nil {
			r.statements, err = p.missingUsage(ctx, query, lost, role)
		}
	} else {
		r, err = p.missing(ctx, refusal, query)
	}
	if err != nil || r.empty() {
		return refusal
	}
	if resolved, err := cdc.ResolveOwners(ctx, s.conn, s.encoding, r.statements); err == nil {
		r.statements = resolved
	}
	return &denial{refusal, r}
}

// ruleQuery is a query that the rules run on the source.
type ruleQuery struct {
	kind, title  string
	value        strictyaml.Value
	session, sql string
	arguments    int
	what         string // as note names it
	rules        []*boundRule
}

// consequence is what becomes of what needs a privilege that is missing, and what is to be done
// once it is granted; empty: nothing.
type consequence struct{ meanwhile, then string }

var (
	changesPark = consequence{"the changes that need it are parked, and other rules go on", "gancho parked redrive"}
	timersWait  = consequence{"the timers of its rule wait, none is lost, and other rules go on", ""}
	runsWait    = consequence{"the runs of its schedule wait, and other rules go on", ""}
)

// refused is what becomes of what the query is for while the server refuses it.
func (q *ruleQuery) refused() consequence {
	is := func(kind func(*boundRule) bool) bool {
		return !slices.ContainsFunc(q.rules, func(b *boundRule) bool { return !kind(b) })
	}
	switch {
	case is(func(b *boundRule) bool { return b.after != nil }):
		return timersWait
	case is(func(b *boundRule) bool { return b.schedule != nil }):
		return runsWait
	}
	return changesPark
}

// queries are those that the rules run, each once.
func (rs *Ruleset) queries() []ruleQuery {
	var out []ruleQuery
	seen := map[string]int{}
	for _, b := range rs.readers() {
		for _, l := range b.lookups {
			if n, known := seen[l.id]; known {
				out[n].rules = append(out[n].rules, b)
				continue
			}
			seen[l.id] = len(out)
			out = append(out, ruleQuery{"lookup", l.title(), l.value, l.session, l.batch, len(l.arguments()), l.path() + " of " + l.place, []*boundRule{b}})
		}
		if read, is := b.rowsRead(); is {
			out = append(out, read)
		}
	}
	return out
}

// try runs a query for no change.
func (s *Source) try(ctx context.Context, q ruleQuery) error {
	return s.queryAfter(ctx, q.session, q.sql, emptyArrays(q.arguments), nil, func([]cdc.Datum) error { return nil })
}

// Denied returns what rules may no longer read, and which privileges they need; nil when
// nothing is known to be denied. Their changes are parked, under every policy, their timers and
// runs wait, and other rules go on. Safe from any goroutine.
func (s *Source) Denied() error {
	var all []string
	for _, f := range s.Denials() {
		all = append(all, f.Title+"; "+f.Why+"; "+f.Fix())
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; also "))
}

// Denials is Denied as findings, in the order of their titles. Safe from any goroutine.
func (s *Source) Denials() []cdc.Finding {
	s.deniedMu.Lock()
	defer s.deniedMu.Unlock()
	var out []cdc.Finding
	for _, what := range slices.Sorted(maps.Keys(s.denied)) {
		out = append(out, s.denied[what].finding)
	}
	return out
}

// Recheck looks whether what is denied was granted meanwhile, and no longer says so of
// what was, or of what is refused for another reason now: nobody asks that again while the
// refusal stays the same. The changes that come next are not parked in any case.
func (s *Source) Recheck(ctx context.Context, rs *Ruleset, by *Source) {
	by.path = rs.path
	for _, q := range rs.queries() {
		s.deniedMu.Lock()
		denied := s.denied[q.what] != nil
		s.deniedMu.Unlock()
		if !denied {
			continue
		}
		err := by.try(ctx, q)
		switch refusal := by.explain(ctx, q.what, err, q.sql, rs.denied); {
		case err == nil:
			s.note(q.what, nil)
		case ctx.Err() == nil && isDenied(refusal):
			s.remember(q.what, refusal, q.refused())
		case ctx.Err() == nil && isBroken(refusal):
			s.forget(q.what)
		}
	}
}

// forget no longer counts what as denied.
func (s *Source) forget(what string) {
	s.deniedMu.Lock()
	defer s.deniedMu.Unlock()
	delete(s.denied, what)
}

// Inherit takes over what Check of another source has found to be denied for the same
// rules, and forgets what was denied before. Safe from any goroutine.
func (s *Source) Inherit(from *Source) {
	from.deniedMu.Lock()
	denied := maps.Clone(from.denied)
	from.deniedMu.Unlock()
	s.deniedMu.Lock()
	defer s.deniedMu.Unlock()
	for what, lost := range denied {
		if s.denied[what] == nil {
			s.complain(what, lost)
		}
	}
	s.denied = denied
}

// lostPrivilege is what a rule may no longer read, and the server's words for it.
type lostPrivilege struct {
	finding cdc.Finding
	message string
	remedy  remedy
}

// remedyOf is what ends a refusal that is known already.
func (s *Source) remedyOf(what string, refusal error) (remedy, bool) {
	s.deniedMu.Lock()
	defer s.deniedMu.Unlock()
	lost := s.denied[what]
	if lost == nil || lost.message != withoutData(refusal).Error() {
		return remedy{}, false
	}
	return lost.remedy, true
}

// note remembers whether reading what for changes succeeded or was denied, and logs what is new.
func (s *Source) note(what string, err error) {
	s.deniedMu.Lock()
	defer s.deniedMu.Unlock()
	before := s.denied[what]
	switch {
	case err == nil && before != nil:
		delete(s.denied, what)
		s.log.Info().Str("for", what).Msg("the privilege is there again")
	case isDenied(err) && (before == nil || before.message != withoutData(err).Error()):
		s.complain(what, s.rememberLocked(what, err, changesPark))
	}
}

func (s *Source) complain(what string, lost *lostPrivilege) {
	s.log.Error().Str("for", what).Str("error", lost.message).Str("fix", lost.finding.Fix()).Str("meanwhile", lost.finding.Why).Msg("a privilege is missing")
}

// remember notes that reading what is denied.
func (s *Source) remember(what string, err error, so consequence) {
	s.deniedMu.Lock()
	defer s.deniedMu.Unlock()
	s.rememberLocked(what, err, so)
}

func (s *Source) rememberLocked(what string, err error, so consequence) *lostPrivilege {
	lost := &lostPrivilege{message: withoutData(err).Error(), remedy: words("%s", refusalHint(err))}
	if d, ok := errors.AsType[*denial](err); ok {
		lost.remedy = d.remedy
	}
	lost.finding = cdc.Finding{
		ID: "privilege.lost", Severity: cdc.SeverityProblem, Where: what,
		Title: what + " may not be read: " + lost.message, Why: so.meanwhile,
		Statements: lost.remedy.statements, Remedy: lost.remedy.words,
	}
	if so.then != "" {
		lost.finding.Remedy = strings.TrimPrefix(lost.remedy.words+", then "+so.then, ", ")
	}
	if s.denied == nil {
		s.denied = map[string]*lostPrivilege{}
	}
	s.denied[what] = lost
	return lost
}
