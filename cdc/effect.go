package cdc

import (
	"slices"
	"strings"
)

// Action is what a statement does to what is there.
type Action string

// The actions of statements.
const (
	Add     Action = "add"
	Alter   Action = "change"
	Destroy Action = "destroy"
)

// Action returns what the statement does: it adds something, or changes what is there.
func (s *Statement) Action() Action {
	switch verb, _, _ := strings.Cut(s.SQL, " "); {
	case verb == "DROP" || verb == "REVOKE" || s.step == stepLeave || strings.HasPrefix(s.SQL, "SELECT pg_drop_"):
		return Destroy
	case verb == "CREATE" || verb == "GRANT" || verb == "SELECT":
		return Add
	}
	return Alter
}

// Tables are those that the statement is about, or changes.
func (s *Statement) Tables() []Name {
	var tables []Name
	for _, o := range s.needs {
		if o.kind == 't' {
			tables = append(tables, Name{o.schema, o.name})
		}
	}
	return tables
}

// Lock is the lock that the statement takes on its Tables, "" for none.
// https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
func (s *Statement) Lock() string {
	switch {
	case len(s.Tables()) == 0:
		return ""
	case s.step == stepTable || s.step == stepIdentity || s.step == stepRestore:
		return "ACCESS EXCLUSIVE"
	case slices.Contains([]step{stepIndex, stepNarrow, stepPublication, stepMove, stepWiden, stepLeave, stepDropIndex}, s.step):
		return "SHARE UPDATE EXCLUSIVE"
	}
	return ""
}

// Cost is what the statement costs now, and what it costs for ever.
func (s *Statement) Cost() string {
	const instant = "an instant; reads and writes of rows do not wait"
	switch s.step {
	case stepServer:
		return "a restart of the server"
	case stepTable:
		return "writes the whole table again, while nobody can read or write it"
	case stepIndex:
		return "reads the table twice; reads and writes of rows go on, an ALTER TABLE and what queues behind it waits. From then on each INSERT writes one more index, and an UPDATE of these columns all indexes"
	case stepIdentity:
		return "an instant, in which reads and writes wait; nothing is rewritten. From then on " + s.identityCost()
	case stepRestore:
		return "an instant, in which reads and writes wait; nothing is rewritten. The WAL has less of old rows from then on"
	case stepDropIndex:
		return "waits for transactions that use the table; reads and writes of rows go on"
	case stepLeave:
		return instant + ". Changes of the table are no longer captured"
	case stepNarrow, stepPublication, stepMove, stepWiden, stepOption:
		return instant
	case stepSlot:
		return "waits for transactions that are running, locks nothing; from then on the server keeps the WAL that gancho has not read"
	}
	return "an instant; locks no table"
}

// WritesWholeRows reports whether the old rows of its table are written as a whole with it: REPLICA IDENTITY FULL.
func (s *Statement) WritesWholeRows() bool {
	return s.step == stepIdentity && s.key == nil && strings.HasSuffix(s.SQL, " FULL;")
}

func (s *Statement) identityCost() string {
	if s.WritesWholeRows() {
		return "each UPDATE and DELETE writes the whole old row to the WAL, too"
	}
	return "a DELETE, and an UPDATE that changes a key, writes the old values of the key to the WAL"
}

// Manual says why the statement is for a person to run at a time of their choice; "" if a
// program may run it.
func (s *Statement) Manual() string {
	switch s.step {
	case stepServer:
		return "takes effect with a restart of the server"
	case stepTable:
		return "locks the table for as long as it takes to write it again: choose the time"
	}
	return ""
}
