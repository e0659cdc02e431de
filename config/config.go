package config

import (
	"net/netip"
	"time"
)

// Config is a whole configuration file, valid and with its defaults.
type Config struct {
	// File is the file's name as given to Load.
	File    string
	Source  Source
	Queue   Queue
	State   State
	HTTP    HTTP
	Mapping Mapping
	Privacy Privacy
	Log     Log
	// Rules are the rule files that the patterns of the file match, each once,
	// in the order of the patterns and then of their names.
	Rules     []string
	Endpoints []Endpoint
	// Shutdown is how long requests in flight may take to end when the bridge
	// is told to stop.
	Shutdown time.Duration
}

// Source is the legacy database.
type Source struct {
	DSN Secret
	// LookupDSN is where rules look up what changes do not carry, such as a
	// replica; empty: at DSN.
	LookupDSN   Secret
	Slot        string
	Publication string
	// Location is the time zone of the source's timestamps without time zone.
	Location *time.Location
	// OnSchemaChange says what happens when a column that a rule uses is gone
	// or has changed its type: stop or park.
	OnSchemaChange string
}

// Queue is the Redis that holds the events until they are delivered.
type Queue struct {
	Redis Secret
	// AllowVolatile accepts a Redis without persistence: events that it holds
	// are lost with it.
	AllowVolatile bool
}

// State is where Gancho keeps its own tables. DSN is empty when the file has
// none, which stands for the source; Key encrypts what is stored there.
type State struct {
	DSN, Key Secret
}

// HTTP is the bridge's own server, for health and metrics.
type HTTP struct {
	Listen string // host:port
}

// Mapping is how rules are applied.
type Mapping struct {
	// TransactionMemory is how much of one transaction, in bytes, waits in memory
	// for its commit; more goes to a temporary file.
	TransactionMemory int64
}

// Privacy names what no payload may hold, and the keys of what hides values.
type Privacy struct {
	// Deny are columns, as table.column or schema.table.column.
	Deny []Denied
	// Secrets are the keys of the rules' hmac(), by name.
	Secrets map[string]Secret
}

// Denied is a column that no payload may hold, and where the file says so.
type Denied struct {
	Column string
	Line   int
}

// Log is how much is logged.
type Log struct {
	Level string // trace, debug, info, warn or error
}

// Endpoint is one receiver of events.
type Endpoint struct {
	// Line is where the file begins it.
	Line int
	// Name identifies the endpoint's queue: another name is another queue.
	Name string
	URL  string
	// Tenants are the tenants whose events it receives; empty: all.
	Tenants []string
	// Events are patterns of event names, in which * stands for any text; empty: all.
	Events []string
	// Secrets sign each request, the newest first.
	Secrets []Secret
	// Headers are added to each request.
	Headers     map[string]Secret
	Format      string // standard or bare
	Order       string // key, endpoint or none
	State       string // active, paused or inactive
	OnExhausted string // dead_letter, block or pause
	// Concurrency is the number of requests in flight at once.
	Concurrency int
	// Timeout covers a whole request, from the connection to the end of the answer.
	Timeout time.Duration
	// Retry are the waits before each further attempt.
	Retry []time.Duration
	// Rate is the highest number of requests per second, 0 for no limit.
	Rate float64
	// AllowPrivate are the address ranges, otherwise refused, that the URL may
	// resolve to.
	AllowPrivate []netip.Prefix
	AllowHTTP    bool
}

// defaults is the configuration of an empty file. The location is set when the
// file is read.
func defaults() *Config {
	return &Config{
		Source:   Source{Slot: "gancho", Publication: "gancho", OnSchemaChange: "stop"},
		Mapping:  Mapping{TransactionMemory: 64 << 20},
		HTTP:     HTTP{Listen: "127.0.0.1:8620"},
		Log:      Log{Level: "info"},
		Shutdown: 20 * time.Second,
	}
}

const defaultTimezone = "America/Sao_Paulo"

// defaultEndpoint: the retries are those of DESIGN section 7, the time limit is Svix's.
func defaultEndpoint() Endpoint {
	return Endpoint{
		Format: "standard", Order: "key", State: "active", OnExhausted: "dead_letter", Concurrency: 16, Timeout: 15 * time.Second,
		Retry: []time.Duration{
			5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
			time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
		},
	}
}
