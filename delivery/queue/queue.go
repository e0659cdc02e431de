package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"gancho/delivery/endpoint"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// Errors of the queue that the caller acts on. Everything else that Append and
// RunDurable return is worth repeating.
var (
	// ErrUnreachable: Redis cannot be reached, or is not ready. Try again.
	ErrUnreachable = errors.New("redis is unreachable")
	// ErrRestarted: since Open or AcceptRestart, Redis was restarted or a replica
	// promoted: the newest events may be lost. Or they are known to be: see LostError.
	// Rewind the capture to the confirmed position, then AcceptRestart.
	ErrRestarted = errors.New("redis was restarted, or has changed; events that were not durable are read from the source and appended again")
	// ErrFull: Redis is at its maxmemory. Nothing of the batch was appended.
	// Hold the capture and try again: deliveries make room.
	ErrFull = errors.New("redis is full; raise its maxmemory, or see which endpoint's backlog grows")
)

// SettingError reports a setting of the Redis server that would lose events.
type SettingError struct {
	Setting, Value string
	Fix            string // what to do instead
}

// Error says what is set, and what to set instead.
func (e *SettingError) Error() string {
	return fmt.Sprintf("check redis: %s is %q, which can lose events; %s", e.Setting, e.Value, e.Fix)
}

// LostError is an ErrRestarted of which more is known: Redis was not restarted, and
// something is missing from it.
type LostError struct {
	What string // that is missing
}

// Error says what has happened, and what follows.
func (e *LostError) Error() string {
	return e.What + " is no longer in redis: somebody has run FLUSHALL or deleted keys, or redis has evicted them; " +
		"what was queued there and confirmed to the source is lost, and everything since is appended again"
}

// Is makes it an ErrRestarted, which is answered in the same way.
func (e *LostError) Is(target error) bool { return target == ErrRestarted }

// Options are what Open needs.
type Options struct {
	// One of URL, Sentinel and Cluster says where Redis is. URL is
	// redis://[user:password@]host:port[/db], or rediss:// for TLS.
	URL      string
	Sentinel *SentinelOptions
	Cluster  *ClusterOptions
	// Prefix begins the name of every key; empty: gancho. One source's queue
	// has one prefix: two bridges that share a Redis need two.
	Prefix string
	// AllowVolatile accepts a Redis that keeps nothing over a restart.
	AllowVolatile bool
	// Overflow takes what is over a quota; nil: nothing does.
	Overflow Overflow
	// Endpoints are what events are routed to. Update changes them.
	Endpoints []*endpoint.Endpoint
	Logger    zerolog.Logger
}

// SentinelOptions are where the sentinels are that know the Redis.
type SentinelOptions struct {
	// Master is the name under which the sentinels watch it.
	Master string
	// Addresses are the sentinels', as host:port; one that answers is enough.
	Addresses []string
	// User, which may be empty, and Password are those of Redis itself.
	User, Password                 string
	SentinelUser, SentinelPassword string
	DB                             int
	TLS                            bool // to the sentinels and to Redis
}

// ClusterOptions are where the Redis Cluster is.
type ClusterOptions struct {
	// Addresses are some of its nodes', as host:port; the others are found.
	Addresses      []string
	User, Password string
	TLS            bool
}

// Queue is the events between capture and delivery, in Redis: one stream per endpoint.
// It is safe for concurrent use, but one goroutine builds batches and one appends them.
type Queue struct {
	log      zerolog.Logger
	keys     keyspace
	volatile bool // accept a server that keeps nothing
	overflow Overflow

	// At most one of them is there: a single server needs neither.
	sentinel *sentinel
	cluster  *cluster

	// client is for all but appending and confirming. Its connections, which are those
	// of nodes, note the servers' identities. Of a cluster it finds the node by the
	// first key: a pipeline may have keys of several nodes, a transaction or a script of
	// one endpoint only; what has no key, such as SCAN, is for nodes.
	client redis.UniversalClient
	nodes  *connections
	timing *connections // for timers: they refuse a server that was restarted

	servers   identities
	appender  appender
	confirmer confirmer
	sources   sources
	tally     Tally

	failuresTold int64 // how many timers that have failed have their reasons in Redis

	routes  atomic.Pointer[routes]
	local   atomic.Pointer[deliverer] // what delivers in this process, if anything
	scanned atomic.Bool               // EndpointNames has searched for what older versions left
}

// Open connects to Redis and checks that it, or each master of a cluster,
// is set so that it loses nothing. It waits while Redis is loading its data.
// The errors are ErrUnreachable, which is worth repeating (so is a cluster that
// does not serve all slots, or a failover that is under way), and a
// *SettingError or another error, which is not. Close releases the connections.
func Open(ctx context.Context, o Options) (*Queue, error) {
	q := &Queue{log: o.Logger, keys: keyspace{cmp.Or(o.Prefix, "gancho"), o.Cluster != nil}, volatile: o.AllowVolatile, overflow: o.Overflow, failuresTold: failuresTold}
	if err := q.connect(&o); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	q.servers = identities{promotable: q.promotable(), observed: map[string]string{}}
	q.appender.checked, q.appender.streams = map[string]time.Time{}, map[string]*stream{}
	q.appender.parked, q.appender.chains = q.keys.newStream(""), map[string]*chain{}
	q.appender.timers = q.keys.newTimers()
	q.confirmer.changed = make(chan struct{}, 1)
	q.sources = sources{client: q.client, key: q.keys.source(), tally: q.keys.tallyRecord(), names: map[uint16]string{}}
	q.tally.q = q
	q.Update(o.Endpoints)
	if err := q.checkServers(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open queue: %w", err), q.Close())
	}
	return q, nil
}

// Update routes the events of batches from now on to these endpoints. Events
// that an endpoint has been given already stay in its queue.
func (q *Queue) Update(endpoints []*endpoint.Endpoint) {
	r := &routes{router: newRouter(endpoints), streams: make([]*stream, len(endpoints))}
	for i := range endpoints {
		r.streams[i] = q.appender.stream(endpoints[i].Name, &q.keys)
	}
	q.routes.Store(r)
}

// promotable reports whether a replica may take a master's place automatically.
func (q *Queue) promotable() bool { return q.cluster != nil || q.sentinel != nil }

// Close releases the connections. Nothing may be running any more.
func (q *Queue) Close() error {
	problems := []error{q.appender.conns.close(), q.confirmer.conns.close(), q.timing.close(), q.nodes.close()}
	switch {
	case q.cluster != nil:
		problems = append(problems, q.cluster.conns.close(), q.client.Close())
	case q.sentinel != nil:
		problems = append(problems, q.sentinel.close())
	}
	return errors.Join(problems...)
}

// Ping reports whether Redis answers: every master of a cluster.
func (q *Queue) Ping(ctx context.Context) error {
	masters, err := q.masters(ctx)
	for i := 0; err == nil && i < len(masters); i++ {
		err = q.nodes.to(masters[i]).Ping(ctx).Err()
	}
	return annotate(err, "ping redis")
}

// keyspace names the keys. All keys of an endpoint share a hash tag, so that
// one script may touch them on a Redis Cluster.
type keyspace struct {
	prefix  string
	cluster bool
}

func (k keyspace) of(endpoint, what string) string { return k.prefix + ":{" + endpoint + "}:" + what }
func (k keyspace) events(endpoint string) string   { return k.of(endpoint, "q") }
func (k keyspace) side(endpoint string) string     { return k.of(endpoint, "x") }
func (k keyspace) log(endpoint string) string      { return k.of(endpoint, "log") }
func (k keyspace) due(endpoint string) string      { return k.of(endpoint, "rt") }
func (k keyspace) attempts(endpoint string) string { return k.of(endpoint, "at") }
func (k keyspace) dead(endpoint string) string     { return k.of(endpoint, "dead") }
func (k keyspace) state(endpoint string) string    { return k.of(endpoint, "state") }
func (k keyspace) jobs(endpoint string) string     { return k.of(endpoint, "jobs") }
func (k keyspace) lease(endpoint string) string    { return k.of(endpoint, "lease") }
func (k keyspace) fence(endpoint string) string    { return k.of(endpoint, "fence") }
func (k keyspace) source() string                  { return k.prefix + ":source" }
func (k keyspace) token() string                   { return k.prefix + ":capture" }
func (k keyspace) tokenOf(endpoint string) string {
	if endpoint == "" {
		return k.of(k.parked(), "capture")
	}
	return k.of(endpoint, "capture")
}
func (k keyspace) parked() string { return k.prefix + ":parked" }

// The keys of timers are on the slot of parked: what changes mean for them, the rules' numbers, and what the names begin with of the
// keys that have when they are due, and which change has set them.
func (k keyspace) timers() string     { return k.of(k.parked(), "timers") }
func (k keyspace) timerRules() string { return k.of(k.parked(), "timer-rules") }
func (k keyspace) timersDue() string  { return k.of(k.parked(), "timers-due:") }
func (k keyspace) timersSet() string  { return k.of(k.parked(), "timers-set:") }

func (k keyspace) expiry() string    { return k.prefix + ":expiry" }
func (k keyspace) reasons() string   { return k.prefix + ":{" + k.parked() + "}:reasons" } // on the slot of parked
func (k keyspace) leases() string    { return k.prefix + ":leases" }
func (k keyspace) endpoints() string { return k.prefix + ":endpoints" }
func (k keyspace) wake() string      { return k.prefix + wakeSuffix }
