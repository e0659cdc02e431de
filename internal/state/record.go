package state

import (
	"encoding/json"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// Endpoint is an endpoint as it is stored.
type Endpoint struct {
	// ID never changes and is never reused; a name may be.
	ID   int64
	Name string
	// Tenants are those of the settings; none: all.
	Tenants []string
	State   endpoint.State
	// Document are the settings as a JSON object with the keys of an endpoint in
	// gancho.yaml, without name, state and secrets. It is stored encrypted.
	Document json.RawMessage
	// Public is Document with *** for every value that is a secret.
	Public json.RawMessage
	// Secrets are those that sign now, the newest first.
	Secrets []Secret
	// Sealed is why there are neither Document nor Secrets; nil: there are.
	Sealed *KeyError
	// Version rises with each change; UpdateEndpoint refuses an older one.
	Version          int64
	Created, Updated time.Time
}

// Secret is a signing key of an endpoint.
type Secret struct {
	ID     int64
	Secret endpoint.Secret
	// PublicKey is whpk_<base64> of an ed25519 key, empty for HMAC.
	PublicKey string
	Created   time.Time
	// Expires is when it stops signing; zero: never.
	Expires time.Time
}

// Role is what a token may do; each may do what those before it may.
type Role string

// Covers reports whether the role may do what another one may.
func (r Role) Covers(other Role) bool { return r.rank() >= other.rank() && other.rank() > 0 }

// Valid reports whether it is one of the roles.
func (r Role) Valid() bool { return r.rank() > 0 }

func (r Role) rank() int { return 1 + slices.Index([]Role{Viewer, Operator, Admin}, r) }

// The roles.
const (
	Viewer   Role = "viewer"   // read
	Operator Role = "operator" // pause, activate, test, redrive, resend
	Admin    Role = "admin"    // endpoints, secrets, tokens, drop
)

// Token is an API token. Its text is shown once; what is kept is its SHA-256.
type Token struct {
	ID   int64  `json:"-"`
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Tenant limits it to one tenant's endpoints and events; empty: all.
	Tenant    string    `json:"tenant,omitempty"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
	LastUsed  time.Time `json:"last_used,omitzero"` // zero: not yet
	Expires   time.Time `json:"expires,omitzero"`   // zero: never
}

// Change is an entry of the audit log.
type Change struct {
	ID     int64     `json:"id"`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`            // token:<name>, cli:<user>, bridge
	Tenant string    `json:"tenant,omitempty"` // of what was changed; empty: not one tenant's
	Action string    `json:"action"`           // endpoint.add, endpoint.edit, secret.rotate, dead.drop, ...
	Object string    `json:"object"`           // endpoint/crm-centro
	// Before and After are JSON without secrets; null: there was or is nothing.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Attempt is a row of the delivery log: what the queue's log has, kept.
type Attempt = queue.LogRecord

// DeadLetter is an event that no attempt has delivered, with its body. JSON has
// it without the body.
type DeadLetter struct {
	ID       int64  `json:"id"`
	Endpoint string `json:"endpoint"`
	queue.DeadEvent
}

// JobKind says where a job's events come from.
type JobKind string

// The kinds of jobs.
const (
	Resend  JobKind = "resend"  // events that are kept
	Redrive JobKind = "redrive" // dead letters, which it removes
	// RedriveParked maps parked changes again, and removes those that this leads to an
	// event, or to nothing any more. Only a process that captures has the rules for it.
	RedriveParked JobKind = "redrive_parked"
	// Backfill reads rows that are there already. Its numbers are of rows, its Filter has the table, the events
	// and Where. Only a process that captures does it.
	Backfill JobKind = "backfill"
)

// JobState is how far a job is.
type JobState string

// The states of jobs.
const (
	Queued   JobState = "queued"
	Running  JobState = "running"
	Paused   JobState = "paused" // a backfill that somebody has stopped for a while
	Done     JobState = "done"
	Canceled JobState = "canceled"
	Failed   JobState = "failed"
)

// Filter chooses events or dead letters; its parts are joined by "and", and an
// empty part chooses all.
type Filter struct {
	IDs      []int64   `json:"ids,omitempty"`       // of dead letters
	Parked   []string  `json:"positions,omitempty"` // ids of parked changes
	Webhooks []string  `json:"webhook_ids,omitempty"`
	Endpoint string    `json:"endpoint,omitempty"` // dead letters' and attempts'
	Tenant   *string   `json:"tenant,omitempty"`   // nil: all; "": those without one
	Tenants  []string  `json:"tenants,omitempty"`  // any of them
	Sources  []string  `json:"sources,omitempty"`  // patterns with *, of the sources whose tenants theirs are, where there are several
	Key      string    `json:"key,omitempty"`
	Tags     []string  `json:"tags,omitempty"`    // name=value, each of them: as events have them
	Events   []string  `json:"events,omitempty"`  // patterns with *
	Table    string    `json:"table,omitempty"`   // backfills': as SQL writes its name
	Where    string    `json:"where,omitempty"`   // backfills': an SQL expression over the table's columns
	From     time.Time `json:"from,omitzero"`     // commit time (attempts: their own), inclusive
	To       time.Time `json:"to,omitzero"`       // exclusive
	Outcome  string    `json:"outcome,omitempty"` // attempts': delivered, retry, ...
	Latest   bool      `json:"-"`                 // attempts': only the newest of each event at each endpoint
	Class    string    `json:"class,omitempty"`   // dead letters': how the last attempt has failed
	Status   *int      `json:"status,omitempty"`  // dead letters': the last answer's; 0: none came
	Rule     string    `json:"rule,omitempty"`    // parked changes'
	Reason   string    `json:"reason,omitempty"`  // parked changes'

	// Endpoints are those of an actor who may choose from no others.
	Endpoints []string `json:"-"`
}

// Job sends kept events, dead letters or what parked changes lead to. Whoever runs it goes on where
// it stopped.
type Job struct {
	ID       int64    `json:"id,omitempty"` // 0: a dry run, which only counts
	Kind     JobKind  `json:"kind"`
	Endpoint string   `json:"endpoint"` // where to; empty: parked changes have none
	Filter   Filter   `json:"filter"`
	Rate     float64  `json:"rate,omitempty"` // events a second; 0: no limit
	State    JobState `json:"state,omitempty"`
	Total    int64    `json:"total"` // counted when it was created; of a backfill the rows
	// Estimated: the total is what the server's statistics say.
	Estimated bool      `json:"estimated,omitempty"`
	Sent      int64     `json:"sent"`
	Silent    int64     `json:"silent,omitempty"` // parked changes for which their rule no longer fires: removed
	Kept      int64     `json:"kept,omitempty"`   // changes that are still parked, for a reason of their own
	Tenant    string    `json:"tenant,omitempty"` // of who created it; empty: all
	Error     string    `json:"error,omitempty"`  // why it failed
	Waits     string    `json:"waits,omitempty"`  // what it waits for: a quota; empty: nothing
	Source    string    `json:"source,omitempty"` // the slot of the source that a backfill, or a redrive of parked changes, is of
	Actor     string    `json:"actor,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	DryRun    bool      `json:"dry_run,omitempty"` // it was counted, and not stored
	// Cursor is where it goes on; the store's own.
	Cursor string `json:"-"`

	claim  claim
	closed error // why its Filter's Where cannot be decrypted
}
