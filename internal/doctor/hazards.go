package doctor

import (
	"context"
	"fmt"
	"slices"

	"gancho/cdc"
)

// hazards looks for statements of the application that fail. The check does, too, but not
// where mistakes in the rules keep it from the source, and of the rules' tables only.
func (e *sourceExam) hazards(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	found, err := cdc.Hazards(ctx, e.conn, e.Source.Encoding, e.Source.Publication)
	var all []cdc.Hazard
	if err == nil {
		all, err = cdc.RefusedAnywhere(ctx, e.conn, e.Source.Encoding, e.Source.Publication)
	}
	if err != nil {
		e.add(cdc.Finding{ID: "source.unread", Severity: cdc.SeverityWarning, Where: atSource, Title: oneLine(err), Why: "whether statements of the application fail is not known"})
		return
	}
	var refused []cdc.Finding
	for i := range found {
		if found[i].RefusesStatements() { // of others, what the rules do with the table decides, which the check knows
			refused = append(refused, found[i].Finding())
		}
	}
	_ = cdc.ResolveFindings(ctx, e.conn, e.Source.Encoding, refused) // without it, the statements do not say who runs them
	e.add(refused...)
	if len(all) == 0 {
		e.say(cdc.SeverityOK, "application.statements", atSource, "no publication makes statements of the application fail")
	}
	e.others(all)
}

// others tells of tables outside of the rules and of Gancho's publications, whose statements
// another tool's publication makes fail: what Gancho captures does not suffer from it.
func (e *sourceExam) others(all []cdc.Hazard) {
	e.mu.Lock()
	known := map[string]bool{} // by the check, or above
	for i := range e.findings {
		known[e.findings[i].Title] = true
	}
	e.mu.Unlock()
	all = slices.DeleteFunc(all, func(h cdc.Hazard) bool { return known[h.String()] })
	if len(all) == 0 {
		return
	}
	f := cdc.Finding{ID: "application.others", Severity: cdc.SeverityWarning, Where: atSource, Title: all[0].String(), Why: "no rule is about the table, and gancho does not publish it", Remedy: all[0].Fix()}
	tables := map[cdc.Name]bool{}
	for i := range all {
		tables[all[i].Table] = true
	}
	if n := len(tables) - 1; n > 0 {
		f.Title += fmt.Sprintf("; likewise %d more tables", n)
	}
	e.add(f)
}
