package control

import (
	"encoding/json"
	"time"

	"gancho/internal/state"
)

// EndpointView is an endpoint as people see it.
type EndpointView struct {
	Name string `json:"name"`
	// From is file or store.
	From string `json:"from"`
	// State is the configured one: active, paused or inactive. What the endpoint
	// has come to by itself is in Live.
	State string `json:"state"`
	// Settings is its document without secrets (***).
	Settings json.RawMessage `json:"settings"`
	Keys     []KeyView       `json:"keys"`
	// Version rises with each change; 0 for those of the file.
	Version int64     `json:"version,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Updated time.Time `json:"updated,omitzero"`
	Live    *LiveView `json:"live,omitempty"`
	// Problem is why it cannot be delivered to, whatever its state.
	Problem string `json:"problem,omitempty"`
}

// KeyView is a signing key without what signs.
type KeyView struct {
	ID   int64  `json:"id,omitempty"`
	Kind string `json:"kind"` // hmac or ed25519
	// Public is whpk_<base64> of an ed25519 key.
	Public  string    `json:"public,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"` // when it stops signing
}

// LiveView is how an endpoint stands in the queue.
type LiveView struct {
	Queued int64 `json:"queued"`
	// Oldest is when the oldest queued event was committed.
	Oldest time.Time `json:"oldest,omitzero"`
	// Replays are resends and redrives that wait, Retrying the events that have
	// failed and will be tried again.
	Replays  int64 `json:"replays,omitempty"`
	Retrying int64 `json:"retrying,omitempty"`
	// Blocked events wait for somebody to activate the endpoint (on_exhausted: block).
	Blocked int64 `json:"blocked,omitempty"`
	// Dead are its dead letters.
	Dead int64 `json:"dead,omitempty"`
	// Paused is why it was paused by itself, since Since.
	Paused string    `json:"paused,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	// Held: its receiver has asked for silence until then.
	Held time.Time `json:"held_until,omitzero"`
	// Failing is since when every attempt has failed.
	Failing time.Time `json:"failing_since,omitzero"`
	// Delivering: a process is in charge of it.
	Delivering bool `json:"delivering"`
	// LogWaiting are attempts that the delivery log does not have yet, LogLost
	// those it never will, because the state database was away for too long.
	LogWaiting int64 `json:"log_waiting,omitempty"`
	LogLost    int64 `json:"log_lost,omitempty"`
}

// CreatedView is an endpoint with its new signing key.
type CreatedView struct {
	Endpoint EndpointView `json:"endpoint"`
	// Secret is the key, when it was made here: it is shown this once.
	Secret string `json:"secret,omitempty"`
	// Public is whpk_<base64> of an ed25519 key.
	Public string `json:"public,omitempty"`
	// Until is when the keys before it stop signing.
	Until time.Time `json:"previous_until,omitzero"`
}

// RemovedView says what was left behind of an endpoint.
type RemovedView struct {
	Name string `json:"name"`
	// Queued are its events in the queue, which stay there unless Dropped.
	Queued  int64 `json:"queued"`
	Dropped bool  `json:"dropped"`
	// Orphaned: the endpoint itself was gone already.
	Orphaned bool `json:"orphaned,omitempty"`
}

// ExchangeView is one request, as it was sent, and what came of it.
type ExchangeView struct {
	Request RequestView `json:"request"`
	// Answer is nil when none came.
	Answer  *AnswerView `json:"answer,omitempty"`
	Outcome string      `json:"outcome"` // delivered, retry, refused, gone
	Class   string      `json:"class"`
	Error   string      `json:"error,omitempty"`
	// Address is where the connection went (to the Proxy, where there is one),
	// Protocol and TLS how.
	Address  string     `json:"address,omitempty"`
	Proxy    string     `json:"proxy,omitempty"`
	Protocol string     `json:"protocol,omitempty"`
	TLS      string     `json:"tls,omitempty"`
	Timing   TimingView `json:"timing"`
}

// RequestView is a request without what is secret in it.
type RequestView struct {
	Method  string              `json:"method"`
	URL     string              `json:"url"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"`
}

// AnswerView is an answer; Body is its start.
type AnswerView struct {
	Status  int                 `json:"status"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body,omitempty"`
}

// TimingView is how long the parts of an exchange took, in milliseconds; 0: it
// had no such part.
type TimingView struct {
	DNS       float64 `json:"dns_ms,omitempty"`
	Connect   float64 `json:"connect_ms,omitempty"`
	TLS       float64 `json:"tls_ms,omitempty"`
	FirstByte float64 `json:"first_byte_ms,omitempty"`
	Total     float64 `json:"total_ms"`
}

// DeliveryView is an attempt of the delivery log.
type DeliveryView struct {
	Time       time.Time `json:"time"` // when it ended
	Endpoint   string    `json:"endpoint"`
	WebhookID  string    `json:"webhook_id"`
	Event      string    `json:"event"`
	Tenant     string    `json:"tenant,omitempty"`
	Key        string    `json:"key,omitempty"`
	Committed  time.Time `json:"committed"`
	Attempt    int       `json:"attempt"`
	Outcome    string    `json:"outcome"`
	Class      string    `json:"class"`
	Status     int       `json:"status,omitempty"`
	Error      string    `json:"error,omitempty"`
	DurationMS float64   `json:"duration_ms"`
	Replay     bool      `json:"replay,omitempty"`
}

// DeadView is a dead letter without its body.
type DeadView struct {
	ID        int64     `json:"id"`
	Endpoint  string    `json:"endpoint"`
	WebhookID string    `json:"webhook_id"`
	Event     string    `json:"event"`
	Tenant    string    `json:"tenant,omitempty"`
	Key       string    `json:"key,omitempty"`
	Committed time.Time `json:"committed"`
	Reason    string    `json:"reason"`
	Attempts  int       `json:"attempts"`
	First     time.Time `json:"first"` // attempt
	Last      time.Time `json:"last"`
	Status    int       `json:"status,omitempty"` // the last attempt's
	Class     string    `json:"class,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// DeadDetail is a dead letter with its body and its receiver's last answer.
type DeadDetail struct {
	DeadView
	Sequence  string          `json:"sequence"`
	Version   string          `json:"rule_version,omitempty"`
	Data      json.RawMessage `json:"data"`
	Previous  json.RawMessage `json:"previous,omitempty"`
	Unchanged json.RawMessage `json:"unchanged,omitempty"`
	// Answer is the start of the last answer's body.
	Answer string `json:"answer,omitempty"`
}

// ParkedView is a change that no event could be made of.
type ParkedView struct {
	ID        string          `json:"id"`
	Event     string          `json:"event,omitempty"`
	Rule      string          `json:"rule"`
	Table     string          `json:"table"`
	Operation string          `json:"operation"`
	Reason    string          `json:"reason"`
	Time      time.Time       `json:"time"`
	Row       json.RawMessage `json:"row,omitempty"`
}

// JobView is a resend or a redrive.
type JobView struct {
	// ID is 0 when it was a dry run.
	ID       int64          `json:"id,omitempty"`
	Kind     state.JobKind  `json:"kind"`
	Endpoint string         `json:"endpoint"`
	Filter   state.Filter   `json:"filter"`
	Rate     float64        `json:"rate,omitempty"` // events a second
	State    state.JobState `json:"state,omitempty"`
	Total    int64          `json:"total"`
	Sent     int64          `json:"sent"`
	Tenant   string         `json:"tenant,omitempty"`
	Error    string         `json:"error,omitempty"`
	Actor    string         `json:"actor,omitempty"`
	Created  time.Time      `json:"created,omitzero"`
	Started  time.Time      `json:"started,omitzero"`
	Finished time.Time      `json:"finished,omitzero"`
	DryRun   bool           `json:"dry_run,omitempty"`
}

// TokenView is an API token without its text.
type TokenView struct {
	Name      string     `json:"name"`
	Role      state.Role `json:"role"`
	Tenant    string     `json:"tenant,omitempty"`
	Created   time.Time  `json:"created"`
	CreatedBy string     `json:"created_by"`
	LastUsed  time.Time  `json:"last_used,omitzero"`
	Expires   time.Time  `json:"expires,omitzero"`
}

// CreatedToken is a token with its text, which is shown this once.
type CreatedToken struct {
	TokenView
	Token string `json:"token"`
}

// ChangeView is a line of the audit log.
type ChangeView struct {
	ID     int64           `json:"id"`
	Time   time.Time       `json:"time"`
	Actor  string          `json:"actor"`
	Tenant string          `json:"tenant,omitempty"`
	Action string          `json:"action"`
	Object string          `json:"object"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// StatusView is everything at a glance. A part that does not answer has its
// error in Errors, by its name: slot, queue, state.
type StatusView struct {
	Version   string         `json:"version"`
	Time      time.Time      `json:"time"`
	Slot      *Slot          `json:"slot,omitempty"`
	Endpoints []EndpointView `json:"endpoints"`
	// Parked are changes that no event could be made of.
	Parked int64 `json:"parked"`
	// Orphans are queued events of endpoints that are gone, by endpoint.
	Orphans map[string]int64 `json:"orphans,omitempty"`
	// Jobs are those that have not ended.
	Jobs   []JobView         `json:"jobs,omitempty"`
	Errors map[string]string `json:"errors,omitempty"`
}
