package mapping

import "fmt"

// Identities returns what a rule stays the same rule by while the files are edited, in
// the order of the files: its table, which one it is of those with the same table and
// event, from 0, and its event.
func (rs *Ruleset) Identities() []string {
	identities, seen := make([]string, len(rs.rules)), map[[2]string]int{}
	for i, b := range rs.rules {
		of := [2]string{b.table.Relation.TableName().String(), b.event}
		identities[i] = fmt.Sprintf("%s %d %s", of[0], seen[of], b.event)
		seen[of]++
	}
	return identities
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
