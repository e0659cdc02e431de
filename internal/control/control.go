package control

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/contract"
	"gancho/internal/doctor"
	"gancho/internal/presets"
	"gancho/internal/state"
	"gancho/mapping"
)

// Actor is who asks. The command line is {cli:<user>, Admin, ""}, a token
// {token:<name>, its role, its tenant}.
type Actor struct {
	Name string
	Role state.Role
	// Tenant limits what it sees and changes to one tenant; empty: no limit.
	Tenant string
	// Token is the id of the token that it has; what it begins ends with it. 0: it has none.
	Token int64
}

// The default and the bound of [Rotation.Overlap].
const (
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 90 * 24 * time.Hour
)

// UnkeptKey is why a change that was parked without a state.key cannot be redriven.
const UnkeptKey = "without a state.key its row was not kept; changes that are parked once gancho.yaml has state: {key: '${GANCHO_STATE_KEY}'} (gancho secrets generate-key) can be redriven"

// Options are what New needs. Operations that need what is nil return an error.
type Options struct {
	Store *state.Store // nil: no state.key
	// Directory has the stored endpoints, which the process may use for other things, too. Nil: the Store's.
	Directory *state.Directory
	Queue     *queue.Queue
	QueueDown error // why there is no Queue, of one of several sources: Redis is unreachable
	// Sender makes the request of a test.
	Sender *webhook.Sender
	// File returns the endpoints of gancho.yaml as they are now.
	File func() []*endpoint.Endpoint
	// Catalogue returns the events that the rules make, in the rules' order.
	Catalogue func() []mapping.EventType
	// Contract describes these events for receivers. Nil, or without events: this process does not capture.
	Contract func() []contract.Event
	// RulesInUse returns the rules, and what this process remembers of them. Nil: it has none.
	RulesInUse func() RulesInUse
	// Tag is what events have whose tag of that name has a value; false: no rule has it. TagNames
	// are those that rules have.
	Tag      func(name, value string) (tag string, known bool)
	TagNames func() []string
	// Verdicts returns what the process that captures remembers of a row's changes, an
	// *ElsewhereError when this one does not capture. Nil: it does not.
	Verdicts func(WhyQuestion) (WhyView, error)
	// RowTimers returns the pending timers of a row; nil: the process does not capture.
	RowTimers func(context.Context, WhyQuestion) ([]queue.PendingTimer, error)
	// Recent returns the newest changes that the rule at a place ("": any) has looked at, up to n, the newest first. Nil: this process does not capture.
	Recent func(rule string, n int) (RecentChanges, error)
	// JudgeRow reads a row at the source and returns what the rules make of it. Its errors
	// hold no row data. Nil: this process does not capture.
	JudgeRow func(context.Context, WhyQuestion) (*mapping.RowJudgement, error)
	// DraftTestOf reads a row at the source and returns it as a file of cases for gancho test, nil when there is no such row. Its errors hold no row
	// data. Nil: this process does not capture.
	DraftTestOf func(context.Context, WhyQuestion) ([]byte, error)
	// Capture returns what capture waits for; nil when it does not wait.
	Capture func(ctx context.Context) error
	// Slot reads the slot at the source, which may take long to answer.
	Slot func(ctx context.Context) (cdc.Slot, error)
	// Sources returns the databases that this process reads; nil: it reads one.
	Sources func(ctx context.Context) ([]Source, error)
	// AddStats adds what the queues of several sources hold of endpoints, ResumeSources resumes an endpoint there, and hastens what
	// has failed. Nil: the Queue is the only one.
	AddStats      func(ctx context.Context, to []queue.Stats)
	ResumeSources func(ctx context.Context, endpoint string) (resumed bool, hastened int, err error)
	// EachSource calls a function with the Service of each of several sources, several at once; its error has all of theirs. OfSource does with that of one,
	// and reports whether there is one of the name. While Redis is unreachable theirs have no Queue. The Queue is that of what is no source's then. Nil: there is one source, or it is one of several
	// that is worked on, SourceName, which has a part of the Store's overflow to itself.
	EachSource func(ctx context.Context, do func(of *Service) error) error
	OfSource   func(ctx context.Context, name string, do func(of *Service) error) (known bool, err error)
	SourceName string
	// SourceSlot is its name, by which the state knows the source.
	SourceSlot string
	// WALBudget is how much WAL the source may hold for the slot, in bytes; 0: there is no budget.
	WALBudget int64
	// Hazards reads, at the source, what makes statements of the application fail
	// or rows invisible.
	Hazards func(ctx context.Context) ([]cdc.Hazard, error)
	// Backfill plans a backfill, with show also what some rows lead to. Nil: this process has no rules.
	Backfill func(ctx context.Context, f state.Filter, show bool) (BackfillPlan, error)
	// Examine looks at everything that Gancho stands on, which takes seconds. Nil: Doctor
	// does not exist.
	Examine func(ctx context.Context) (doctor.Report, error)
	// Quotas bound what tenants use. They need the Queue.
	Quotas Quotas
	// Unlogged: there is no delivery log (state.keep_log). Zone is where days begin and end; nil: UTC.
	Unlogged bool
	Zone     *time.Location
	Version  string
	// ConfigFile is the path of gancho.yaml as it was given; KeepEvents how long events are kept after their commit, 0: they are not.
	ConfigFile string
	KeepEvents time.Duration
	// Console is the address of the console's listener, such as https://webhooks.example.com. Empty: there is no console.
	Console string
	// Screens are those of vendors.
	Screens []presets.Screen
	// Resolve asks DNS for the addresses of a host; nil: as the machine does.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// unreachable is why there is no Queue; nil: there is one.
func (s *Service) unreachable() error {
	if s.Queue == nil {
		return s.QueueDown
	}
	return nil
}

// Service carries the operations.
type Service struct {
	Options
	tails  tails
	rates  rates
	glance glance
	summed summed
}

// New returns a Service.
func New(o Options) *Service {
	if o.Directory == nil && o.Store != nil {
		o.Directory = o.Store.Directory()
	}
	return &Service{Options: o, summed: summed{turn: make(chan struct{}, 1)}}
}

// EndpointView is an endpoint as people see it.
type EndpointView struct {
	Name string `json:"name"`
	// From is FromFile or FromStore.
	From string `json:"from"`
	// State is the configured one: active, paused or inactive. An automatic
	// suspension is in Live.
	State string `json:"state"`
	// Settings is its document without secrets (***).
	Settings json.RawMessage `json:"settings"`
	Keys     []KeyView       `json:"keys"`
	// Version rises with each change; 0 for those of the file.
	Version int64     `json:"version,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Updated time.Time `json:"updated,omitzero"`
	// Live is what the queue holds of it, with the store's dead letters.
	Live *queue.Stats `json:"live,omitempty"`
	// Recent is what was sent to it in the last minute, in Status only, and with a log.
	Recent *state.Recent `json:"recent,omitempty"`
	// Lately is what its newest attempts led to, in the list of endpoints and of one, with a log.
	Lately *state.Lately `json:"lately,omitempty"`
	// Tested is what its receiver said to the last test that was delivered, in the list of endpoints and of
	// one; nil where its settings have changed since.
	Tested *state.EndpointTest `json:"tested,omitempty"`
	// Problem is why it cannot be delivered to, whatever its state.
	Problem string `json:"problem,omitempty"`
}

// KeyView is a signing key without its secret part.
type KeyView struct {
	ID   int64  `json:"id,omitempty"`
	Kind string `json:"kind"` // hmac or ed25519
	// Public is whpk_<base64> of an ed25519 key.
	Public  string    `json:"public,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"` // when it stops signing
}

// CreatedView is an endpoint with its new signing key.
type CreatedView struct {
	Endpoint EndpointView `json:"endpoint"`
	// Secret is the key as the receiver needs it, when it was generated here or given
	// as a text: it is shown this once.
	Secret string `json:"secret,omitempty"`
	// Public is whpk_<base64> of an ed25519 key.
	Public string `json:"public,omitempty"`
	// Until is when the keys before it stop signing.
	Until time.Time `json:"previous_until,omitzero"`
}

// generate generates the key that the view shows.
func (v *CreatedView) generate(ed25519 bool) endpoint.Secret {
	key := endpoint.GenerateSecret()
	if ed25519 {
		key = endpoint.GenerateSigningKey()
	}
	v.show(key)
	return key
}

func (v *CreatedView) show(key endpoint.Secret) { v.Secret, v.Public = key.Reveal(), key.Public() }

// RemovedView says what was kept of an endpoint.
type RemovedView struct {
	Name string `json:"name"`
	// Queued are its events in the queue, which stay there unless Dropped.
	Queued  int64 `json:"queued"`
	Dropped bool  `json:"dropped"`
	// Orphaned: the endpoint itself was removed before.
	Orphaned bool `json:"orphaned,omitempty"`
}

// MemoryView is the memory of Redis, in bytes. Max is 0 where only the machine bounds it.
type MemoryView struct {
	Used int64 `json:"used"`
	Max  int64 `json:"max"`
}

// StatusView is everything at a glance. The error of a part that does not answer
// is in Errors, by its name: slot, queue, state; under capture is what that waits for.
type StatusView struct {
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	// Source is the one of several that it is of, which is read from time to time; empty: there is one, or it is of all.
	Source string    `json:"source,omitempty"`
	Slot   *cdc.Slot `json:"slot,omitempty"`
	// WALBudget is how much WAL the source may hold for the slot, in bytes; 0: there is no budget.
	WALBudget int64 `json:"wal_budget,omitempty"`
	// Hazards are what makes statements of the application fail, or rows of tables
	// invisible to the stream: sentences with what to do.
	Hazards   []string       `json:"hazards,omitempty"`
	Endpoints []EndpointView `json:"endpoints"`
	// OverQuota are the quotas of backlogs that are passed: sentences with what to do.
	OverQuota []string `json:"over_quota,omitempty"`
	// Memory is what Redis uses.
	Memory *MemoryView `json:"memory,omitempty"`
	// Expiring are deletions of old dead letters and parked changes that were announced:
	// sentences with what to do.
	Expiring []string `json:"expiring,omitempty"`
	// Parked is how many changes are parked.
	Parked int64 `json:"parked"`
	// Rules are those that have seen changes lately, in the order of their names.
	Rules []RuleRate `json:"rules,omitempty"`
	// Schedules are the rules with schedule, in the order of the files.
	Schedules []ScheduleView `json:"schedules,omitempty"`
	// Timers are pending ones of rules with after, by event and table.
	Timers []TimerView `json:"timers,omitempty"`
	// Orphans are queued events of endpoints that no longer exist, by endpoint.
	Orphans map[string]int64 `json:"orphans,omitempty"`
	// Jobs are those that have not ended.
	Jobs   []state.Job       `json:"jobs,omitempty"`
	Errors map[string]string `json:"errors,omitempty"`
}
