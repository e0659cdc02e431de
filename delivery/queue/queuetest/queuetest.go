// Package queuetest is what the tests of the queue, and of what delivers from
// it, share: a Redis of their own, a queue on it that is claimed, and events.
package queuetest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// Patience is how long a test waits for what has to happen before it fails.
const Patience = time.Minute

// StartRedis starts a server for the test, with settings as names and values.
func StartRedis(t testing.TB, settings ...string) *testservers.Redis {
	t.Helper()
	o := testservers.RedisOptions{Settings: map[string]string{}}
	for i := 0; i < len(settings); i += 2 {
		o.Settings[settings[i]] = settings[i+1]
	}
	r, err := testservers.StartRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Client returns a client of the server, which the test's end closes.
func Client(t testing.TB, r *testservers.Redis) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// server is a Redis, or what leads to one.
type server interface{ URL() string }

// Open opens the queue and claims it for the usual source.
func Open(t testing.TB, r server, endpoints ...endpoint.Endpoint) *queue.Queue {
	t.Helper()
	q := OpenOnly(t, r, endpoints...)
	if _, err := q.Claim(t.Context(), Source(), false); err != nil {
		t.Fatal(err)
	}
	return q
}

// OpenOnly opens the queue without claiming it, as another process does.
func OpenOnly(t testing.TB, r server, endpoints ...endpoint.Endpoint) *queue.Queue {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Options{URL: r.URL(), Endpoints: Endpoints(endpoints...), Logger: Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close queue: %v", err)
		}
	})
	return q
}

// Endpoints are copies of endpoints, as a process shares them.
func Endpoints(all ...endpoint.Endpoint) []*endpoint.Endpoint {
	out := make([]*endpoint.Endpoint, len(all))
	for i := range all {
		e := all[i]
		out[i] = &e
	}
	return out
}

// Source is the usual source.
func Source() queue.Source {
	return queue.Source{SystemID: "7300000000000000001", Database: "academia", Slot: "gancho", Timeline: 1, ConfirmedFlush: 0x1000}
}

// Logger logs to the test when it is verbose.
func Logger(t testing.TB) zerolog.Logger {
	t.Helper()
	if testing.Verbose() {
		return zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel).With().Timestamp().Logger()
	}
	return zerolog.Nop()
}

// Event is the i-th of a test: transactions of one change each.
func Event(i int, key string) *mapping.Event {
	return &mapping.Event{
		Position: cdc.Position{Commit: cdc.LSN(LSN(i))},
		Type:     "cobranca.liquidada", Rule: "rules.yaml:1", Version: "v1",
		Time:   time.UnixMicro(1_767_225_600_000_000 + int64(i)).UTC(),
		Tenant: []byte("1"), Key: []byte(key),
		Op: cdc.Update, Data: fmt.Appendf(nil, `{"id":%d,"key":%q}`, i, key),
	}
}

// LSN is the commit LSN of the i-th event, in bytes.
func LSN(i int) uint64 { return uint64(0x2000 + 0x100*i) }

// AppendEvents appends events from..to (excluded) in batches of the size.
func AppendEvents(t testing.TB, q *queue.Queue, from, to, size int, key func(int) string) {
	t.Helper()
	b := q.NewBatch()
	for i := from; i < to; {
		b.Reset()
		for ; i < to && b.Len() < size; i++ {
			if n, err := b.Add(Event(i, key(i))); err != nil || n == 0 {
				t.Fatalf("add event %d: %d endpoints, %v", i, n, err)
			}
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
}

// replays counts the jobs of Replay.
var replays atomic.Int64

// Replay queues events to be sent again, as a job of their own.
func Replay(ctx context.Context, q *queue.Queue, endpoint string, messages []webhook.Message) error {
	if len(messages) == 0 {
		return nil
	}
	job := fmt.Sprintf("test-%d", replays.Add(1))
	_, err := q.ReplayPart(ctx, endpoint, &queue.Part{Job: job, Position: "1", Messages: messages})
	return err
}

// KeyModulo spreads events over n keys.
func KeyModulo(n int) func(int) string { return func(i int) string { return fmt.Sprint("k", i%n) } }

// Eventually waits for what Redis notifies nobody of. It asks for a tenth of the time at
// most: what costs much to ask, such as all metrics, would take a processor's whole time.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const shortest, longest = 10 * time.Millisecond, 250 * time.Millisecond
	deadline := time.After(Patience)
	tick := time.NewTicker(shortest)
	defer tick.Stop()
	for began := time.Now(); !ok(); began = time.Now() {
		tick.Reset(min(max(shortest, 9*time.Since(began)), longest))
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for %s", what)
		}
	}
}

// Drained waits until the endpoint's stream is empty.
func Drained(t testing.TB, q *queue.Queue, endpoint string) {
	t.Helper()
	Eventually(t, "an empty stream of "+endpoint, func() bool {
		s, err := Stats(t.Context(), q, endpoint)
		return err == nil && s.Backlog == 0
	})
}

// Stats returns what the queue holds of one endpoint.
func Stats(ctx context.Context, q *queue.Queue, endpoint string) (queue.Stats, error) {
	all, err := q.Stats(ctx, []string{endpoint})
	if err != nil {
		return queue.Stats{}, err
	}
	return all[0], nil
}

// Owned reports whether a process has the endpoint's lease.
func Owned(t testing.TB, q *queue.Queue, endpoint string) bool {
	t.Helper()
	s, err := Stats(t.Context(), q, endpoint)
	return err == nil && s.Owned
}

// Calls are how often the server has executed each command, in scripts too.
func Calls(t testing.TB, c *redis.Client) map[string]int {
	t.Helper()
	text, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(text) {
		if name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls="); ok {
			n, _, _ := strings.Cut(rest, ",")
			if out[name], err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// Confirmations are what RunDurable has confirmed.
type Confirmations struct{ newest atomic.Uint64 }

// Add is the function that RunDurable calls.
func (c *Confirmations) Add(lsn uint64) { c.newest.Store(lsn) }

// Newest is the last position that was confirmed, or 0.
func (c *Confirmations) Newest() uint64 { return c.newest.Load() }

// RunDurable runs it until the test ends, or returns its error to the channel.
func RunDurable(t testing.TB, q *queue.Queue) (*Confirmations, <-chan error) {
	t.Helper()
	c, ended := &Confirmations{}, make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { ended <- q.RunDurable(ctx, c.Add) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return c, ended
}

// Fields returns what an entry of a stream says, by the names that the fields of the side stream have: an entry of a main stream has
// them in one. It reads the format on its own, as the page of it says.
func Fields(t testing.TB, values map[string]any) map[string]any {
	t.Helper()
	packed, _ := values["c"].(string)
	head, rest, ok := strings.Cut(packed, "\n")
	if !ok {
		return values
	}
	numbers := strings.Fields(head)
	fields := map[string]any{"c": numbers[0]}
	for i, text := range numbers[1:] {
		n, err := strconv.Atoi(text)
		if err != nil || n > len(rest) {
			t.Fatalf("entry %q", packed)
		}
		if n > 0 || i < 6 { // the names and the data are always there
			fields[[]string{"t", "n", "k", "v", "o", "d", "p", "u", "e", "g", "h"}[i]] = rest[:n]
		}
		rest = rest[n:]
	}
	return fields
}
