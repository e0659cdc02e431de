package mapping

import (
	"time"

	"gancho/cdc"
)

// Event is what a rule made of one change: the thing that endpoints receive.
// The Mapper owns its byte slices; they are valid until the next call of Map.
type Event struct {
	cdc.Position
	// N is the event's number within its change, from 0, over the rules in
	// file order that can fire for the change's table and operation; of an event
	// about a whole transaction the rule's number among those that make such. It
	// takes 16 bits.
	N int
	// Type is the rule's event name.
	Type string
	// Rule names the rule's place, file:line, for logs and dead letters.
	Rule string
	// Version is a short hash of the rule's text.
	Version string
	// Time is the commit timestamp.
	Time time.Time
	// Tenant and Key are text forms; Tenant is empty when the rule has none.
	// Key is the ordering key within the tenant.
	Tenant, Key []byte
	// Data is a JSON object; Previous is one or nil; Unchanged is a JSON array
	// of the names left out because their value was not sent, or nil.
	Data, Previous, Unchanged []byte
}

// Parked is a change that a rule could not be applied to. It goes to the dead
// letters with its position: a run-time error neither stops other rules nor gets
// lost. Row values are only those of columns that the rule names.
type Parked struct {
	cdc.Position
	N      int // as in Event: the number that the event would have had
	Type   string
	Rule   string
	Table  string
	Op     cdc.Op
	Time   time.Time
	Reason string // what went wrong, without row data
	Row    []byte // JSON: {"new":{...},"old":{...}}, text forms of the columns that the rule names
}
