package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
	// ErrRestarted: Redis was restarted since OpenQueue or AcceptRestart, or a
	// replica was promoted, so the end of what was appended may be gone. Rewind the capture to the
	// confirmed position, then call AcceptRestart.
	ErrRestarted = errors.New("redis was restarted; what was not durable has to be appended again")
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

// QueueOptions are what OpenQueue needs.
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
	// Endpoints are what events are routed to. Update changes them.
	Endpoints []endpoint.Endpoint
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

// Queue is the events between capture and delivery, in Redis: one stream per
// endpoint. It is safe for concurrent use, except that batches are built by
// one goroutine and appended by one.
type Queue struct {
	log       zerolog.Logger
	keys      keyspace
	mode      durability
	strictAOF bool // no-appendfsync-on-rewrite is on
	volatile  bool // accept a server that keeps nothing

	// At most one of them is there: a single server needs neither.
	sentinel *sentinel
	ring     *ring

	// writer has one connection to each master, used by Append alone; record
	// has those of RunDurable. Both refuse to talk to a server of another
	// identity than the one that was accepted.
	writer, record *link
	// client is for everything else. Its connections, which are those of nodes,
	// note the servers' identities. Of a cluster it finds the node by the first
	// key: a pipeline may have keys of several nodes, a transaction or a script
	// those of one endpoint only; what has no key, such as SCAN, is for nodes.
	client redis.UniversalClient
	nodes  *link

	accepted    atomic.Pointer[map[string]string] // identities, by address
	observedMu  sync.Mutex
	observed    map[string]string // identities that client has seen last, by address
	generations atomic.Uint64     // how often that was another one

	routes atomic.Pointer[routes]
	local  atomic.Pointer[local] // what delivers in this process, if anything

	sourceMu sync.Mutex
	claimed  *sourceRecord // nil before Claim
	source   atomic.Pointer[claim]
	sources  map[uint16]string // epoch to source, guarded by sourceMu

	// standbys are what is known of each master's replicas; they belong to
	// RunDurable.
	standbys map[string]*standby

	appendMu sync.Mutex
	checked  map[string]time.Time // when a master's identity was looked at by Append
	streams  map[string]*stream   // by endpoint, guarded by streamMu
	streamMu sync.Mutex
	// parkedStream takes what no event could be made of.
	parkedStream *stream
	commands     commandPool // guarded by appendMu

	positions positions
}

// routes are the endpoints as Add sees them. The router belongs to the
// goroutine that builds batches.
type routes struct {
	router  *Router
	streams []*stream // by the router's index
}

// claim is what identifies events of this process's capture.
type claim struct {
	epoch  uint16
	source string
}

// OpenQueue connects to Redis and checks that it, or each master of a cluster,
// is set so that it loses nothing. It waits while Redis is loading its data.
// The errors are ErrUnreachable, which is worth repeating (a cluster that does
// not serve all slots, or a failover that is under way, is told so), and a
// *SettingError or another error, which is not. Close releases the connections.
func Open(ctx context.Context, o Options) (*Queue, error) {
	q := &Queue{
		log: o.Logger, keys: keyspaceOf(o.Prefix), volatile: o.AllowVolatile, streams: map[string]*stream{}, sources: map[uint16]string{},
		observed: map[string]string{}, checked: map[string]time.Time{},
	}
	q.positions.changed = make(chan struct{}, 1)
	q.parkedStream = newStream("", q.keys.parked())
	if err := q.connect(&o); err != nil {
		return nil, err
	}
	q.Update(o.Endpoints)
	if err := q.check(ctx, q.volatile); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// Update routes the events of batches from now on to these endpoints. Events
// that an endpoint has been given already stay in its queue.
func (q *Queue) Update(endpoints []endpoint.Endpoint) {
	r := &routes{router: NewRouter(endpoints), streams: make([]*stream, len(endpoints))}
	for i := range endpoints {
		r.streams[i] = q.stream(endpoints[i].Name)
	}
	q.routes.Store(r)
}

// Close releases the connections. Nothing may be running any more.
func (q *Queue) Close() error {
	problems := []error{q.writer.close(), q.record.close(), q.nodes.close()}
	switch {
	case q.ring != nil:
		problems = append(problems, q.ring.ask.close(), q.client.Close())
	case q.sentinel != nil:
		problems = append(problems, q.sentinel.close())
	}
	return errors.Join(problems...)
}

// Ping reports whether Redis answers: every master of a cluster.
func (q *Queue) Ping(ctx context.Context) error {
	masters, err := q.masters(ctx)
	for i := 0; err == nil && i < len(masters); i++ {
		err = q.nodes.at(masters[i]).Ping(ctx).Err()
	}
	if err != nil {
		return fmt.Errorf("ping redis: %w", unreachable(err))
	}
	return nil
}

// keyspace names the keys. All keys of an endpoint share a hash tag, so that
// one script may touch them on a Redis Cluster.
type keyspace struct{ prefix string }

func keyspaceOf(prefix string) keyspace {
	if prefix == "" {
		prefix = "gancho"
	}
	return keyspace{prefix}
}

func (k keyspace) of(endpoint, what string) string { return k.prefix + ":{" + endpoint + "}:" + what }
func (k keyspace) events(endpoint string) string   { return k.of(endpoint, "q") }
func (k keyspace) side(endpoint string) string     { return k.of(endpoint, "x") }
func (k keyspace) log(endpoint string) string      { return k.of(endpoint, "log") }
func (k keyspace) due(endpoint string) string      { return k.of(endpoint, "rt") }
func (k keyspace) attempts(endpoint string) string { return k.of(endpoint, "at") }
func (k keyspace) dead(endpoint string) string     { return k.of(endpoint, "dead") }
func (k keyspace) state(endpoint string) string    { return k.of(endpoint, "state") }
func (k keyspace) lease(endpoint string) string    { return k.of(endpoint, "lease") }
func (k keyspace) fence(endpoint string) string    { return k.of(endpoint, "fence") }
func (k keyspace) source() string                  { return k.prefix + ":source" }
func (k keyspace) parked() string                  { return k.prefix + ":parked" }
func (k keyspace) workers() string                 { return k.prefix + ":workers" }
func (k keyspace) wake() string                    { return k.prefix + ":wake" }

// backlogScript leaves the oldest event's payload in Redis.
var backlogScript = redis.NewScript(`
local n = redis.call('XLEN', KEYS[1])
if n == 0 then return {0, ''} end
local fields = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
for i = 1, #fields, 2 do
  if fields[i] == 'c' then return {n, fields[i + 1]} end
end
return {n, ''}`)

// Backlog returns how many events wait for the endpoint, those in flight
// included, and when the oldest of them was committed (zero when none waits).
func (q *Queue) Backlog(ctx context.Context, endpoint string) (n int64, oldest time.Time, err error) {
	reply, err := backlogScript.Run(ctx, q.client, []string{q.keys.events(endpoint)}).Slice()
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("read backlog of endpoint %q: %w", endpoint, unreachable(err))
	}
	n, _ = reply[0].(int64)
	if committed, _ := reply[1].(string); committed != "" {
		if oldest, err = parseMicros(committed); err != nil {
			return 0, time.Time{}, fmt.Errorf("read backlog of endpoint %q: %w", endpoint, err)
		}
	}
	return n, oldest, nil
}
