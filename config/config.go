package config

import (
	"time"

	"gancho/delivery/endpoint"
)

// Secret is a text that is never printed.
type Secret = endpoint.Hidden

// Config is a whole configuration file, valid and with its defaults.
type Config struct {
	// File is the file's name as given to Load.
	File   string
	Source Source
	// Sources are set where there are several; nil: Source is the only one.
	Sources *Sources
	// SourceName is that of the source which For has chosen among several; empty: there is one, without a name.
	SourceName string
	Queue      Queue
	State      State
	HTTP       HTTP
	Console    Console
	Quotas     Quotas
	Notify     Notify
	Tracing    Tracing
	Mapping    Mapping
	Privacy    Privacy
	Log        Log
	Doctor     Doctor
	// Rules are the rule files that the patterns of the file match, each once,
	// in the order of the patterns and then of their names.
	Rules     []string
	Endpoints []*endpoint.Endpoint
	// Shutdown is how long requests in flight may still take once the bridge is
	// to stop.
	Shutdown time.Duration
}

// Source is the legacy database.
type Source struct {
	DSN Secret
	// LookupDSN is the database for the rules' lookups, such as a replica; empty:
	// DSN.
	LookupDSN   Secret
	Slot        string
	Publication string
	// Location is the time zone of the source's timestamps without time zone.
	Location *time.Location
	// OnSchemaChange says what happens when a column that a rule uses no longer
	// exists or has another type: stop or park.
	OnSchemaChange string
	// Encoding is what text of the database is taken for, where its server cannot
	// convert it: latin1, win1252, utf8, or empty.
	Encoding string
	// LagWarning is the WAL held for the slot, in bytes, above which a warning is
	// logged.
	LagWarning int64
	// WALBudget is the WAL held for the slot, in bytes, that the source can bear; 0: there is no
	// budget. DropSlot gives the slot up beyond it.
	WALBudget int64
	DropSlot  bool
}

// Queue is the Redis that holds events until they are delivered: exactly one of
// Redis, Sentinel and Cluster is set.
type Queue struct {
	Redis    Secret
	Sentinel *Sentinel
	Cluster  *Cluster
	// Prefix begins the name of every key.
	Prefix string
	// AllowVolatile accepts a Redis without persistence: events that it holds
	// are lost with it.
	AllowVolatile bool
	// MaxMemoryPercent is how much of its maxmemory Redis may use before capture waits.
	MaxMemoryPercent int
	// KeepParked is how long changes stay parked after their commit; 0: for ever.
	KeepParked time.Duration
}

// Sentinel is how to find the sentinels that know the Redis.
type Sentinel struct {
	Master    string   // the name under which they monitor it
	Addresses []string // host:port
	// User and Password are those of Redis itself.
	User             string
	Password         Secret
	SentinelUser     string
	SentinelPassword Secret
	DB               int
	TLS              bool
}

// Cluster is how to find a Redis Cluster.
type Cluster struct {
	Addresses []string // host:port, of some of its nodes
	User      string
	Password  Secret
	TLS       bool
}

// State is where Gancho keeps its own tables: endpoints, secrets, dead letters,
// the delivery log. Without a key there is no state, and none of these.
type State struct {
	// DSN is empty when the file has none, which stands for the source.
	DSN Secret
	// Key encrypts what is stored; several, with ids, while one is replaced.
	// Its user checks its form and reports a mistake at KeyLine.
	Key     Secret
	KeyLine int
	// KeepEvents is how long events are kept for resends after their commit; 0:
	// not at all, which is the default in the source's own database, whose disk is
	// not Gancho's.
	KeepEvents time.Duration
	// KeepChanges keeps the change beside each kept event, with which it can run through other rules.
	KeepChanges bool
	// KeepLog is how long the delivery log is kept; 0: none is written.
	KeepLog time.Duration
	// KeepAnswers says of which attempts the delivery log has the receiver's
	// answer: failed, all or off.
	KeepAnswers string
	// KeepDead is how long dead letters are kept after their last attempt; 0: for ever.
	KeepDead time.Duration
}

// On reports whether Gancho has state.
func (s *State) On() bool { return s.Key != "" }

// Mapping is how rules are applied.
type Mapping struct {
	// TransactionMemory is how much of one transaction, in bytes, waits in memory
	// for its commit; more goes to a temporary file.
	TransactionMemory int64
	// EvaluateLocal refuses expressions that only PostgreSQL can evaluate (rules.evaluate: local).
	EvaluateLocal bool
}

// Privacy names what no payload may hold, and the keys of the hashes that hide values.
type Privacy struct {
	// Deny are columns, as table.column or schema.table.column.
	Deny []string
	// Secrets are the keys of the rules' hmac(), by name.
	Secrets map[string]Secret
}

// Log is how much is logged.
type Log struct {
	Level string // trace, debug, info, warn or error
}

// defaults is the configuration of an empty file. The location is set when the
// file is read.
func defaults() *Config {
	return &Config{
		Source:   Source{Slot: "gancho", Publication: "gancho", OnSchemaChange: "stop", LagWarning: 1 << 30},
		Queue:    Queue{KeepParked: defaultKeepFailed, MaxMemoryPercent: 85},
		State:    State{KeepLog: 30 * 24 * time.Hour, KeepAnswers: "failed", KeepDead: defaultKeepFailed},
		Mapping:  Mapping{TransactionMemory: 64 << 20},
		HTTP:     HTTP{Listen: "127.0.0.1:8620"},
		Quotas:   defaultQuotas(),
		Log:      Log{Level: "info"},
		Shutdown: 20 * time.Second,
	}
}

const defaultTimezone = "America/Sao_Paulo"
