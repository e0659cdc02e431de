package mapping

import (
	"fmt"
	"slices"
)

// Identities returns what a rule stays the same rule by while the files are edited, in
// the order of the files: its table, which one it is of those with the same table and
// event, from 0, and its event.
func (rs *Ruleset) Identities() []string {
	identities := make([]string, len(rs.rules))
	for i, b := range rs.rules {
		identities[i] = rs.identity(b)
	}
	return identities
}

// Versions are short hashes of the rules as they are written, without what is for people, in
// the order of Identities.
func (rs *Ruleset) Versions() []string {
	return mapped(rs.rules, func(b *boundRule) string { return b.rule.version })
}

// identity is a rule's, an heir's rule having its parent's; "": it is none of the rules.
func (rs *Ruleset) identity(b *boundRule) string {
	if b.inherits != nil {
		b = b.inherits
	}
	table, before := b.table.Relation.TableName(), 0
	for _, other := range rs.rules {
		if other == b {
			return fmt.Sprintf("%s %d %s", table, before, b.event)
		}
		if other.event == b.event && other.table.Relation.TableName() == table {
			before++
		}
	}
	return ""
}

// identified is the rule of an identity; nil: there is none.
func (rs *Ruleset) identified(identity string) *boundRule {
	i := slices.Index(rs.Identities(), identity)
	if i < 0 {
		return nil
	}
	return rs.rules[i]
}

// Number gives the rules numbers of 16 bits, no two the same, in the order of Identities.
// Event.N is then the number of the event's rule, and the events of a change are in the
// order of the numbers, whatever the order of the files. An heir's rule has its parent's
// number. Call it before a Mapper has the rules.
func (rs *Ruleset) Number(numbers []int) {
	rs.numbered = true
	clear(rs.perTransaction)
	for i, b := range rs.rules {
		b.number = numbers[i]
		if b.perTransaction() {
			rs.perTransaction[b.number] = b
		}
	}
	for _, heir := range rs.heirs {
		heir.number = heir.inherits.number
	}
}
