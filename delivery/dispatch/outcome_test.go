package dispatch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// warnings are the messages from warn up, in order, each with its reason.
func (j *journal) warnings() (out []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range bytes.Lines(j.text.Bytes()) {
		var l struct{ Level, Message, Why, Reason, Outcome string }
		if json.Unmarshal(line, &l) == nil && (l.Level == "warn" || l.Level == "error") {
			out = append(out, strings.TrimRight(l.Message+": "+l.Why+l.Reason+l.Outcome, ": "))
		}
	}
	return out
}

// dispatchInto is dispatch with a log that the test reads.
func dispatchInto(t *testing.T, j *journal, q *queue.Queue, r *receiver, o dispatch.Options, eps ...endpoint.Endpoint) (*dispatch.Dispatcher, func()) {
	t.Helper()
	o.Logger = zerolog.New(j)
	return runDispatcher(t, q, r, o, eps...)
}

// retryState is what Redis keeps of an event that has failed.
type retryState struct {
	N, Refused, Apart int
	First, Last       time.Time
	due               time.Time
	blocked           bool
}

// keptOf returns what is kept of the endpoint's only failed event, if any.
func keptOf(t *testing.T, c *redis.Client, endpoint string) (k retryState, ok bool) {
	t.Helper()
	for id, text := range c.HGetAll(t.Context(), "gancho:{"+endpoint+"}:at").Val() {
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			t.Fatal(err)
		}
		score := c.ZScore(t.Context(), "gancho:{"+endpoint+"}:rt", id).Val()
		if k.blocked = score > 1e18; !k.blocked {
			k.due = time.UnixMilli(int64(score))
		}
		return k, true
	}
	return retryState{}, false
}

// pass makes everything that Redis keeps of the endpoint older, as if time had
// passed while an owner could have made attempts.
func pass(t *testing.T, c *redis.Client, endpoint string, d time.Duration) {
	t.Helper()
	d = d.Truncate(time.Millisecond) // as Redis has it: all by the same
	ctx, key := t.Context(), func(what string) string { return "gancho:{" + endpoint + "}:" + what }
	for id, text := range c.HGetAll(ctx, key("at")).Val() {
		var a map[string]any
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"first", "last"} {
			s, _ := a[field].(string)
			at, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				t.Fatal(err)
			}
			a[field] = at.Add(-d).Format(time.RFC3339Nano)
		}
		older, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		c.HSet(ctx, key("at"), id, older)
	}
	for _, z := range c.ZRangeWithScores(ctx, key("rt"), 0, -1).Val() {
		c.ZAdd(ctx, key("rt"), redis.Z{Member: z.Member, Score: z.Score - float64(d.Milliseconds())})
	}
	for _, field := range []string{"since", "hold", "failing", "open", "trouble", "noticed", "idling", "undelivered", "shut_out"} {
		if ms, err := c.HGet(ctx, key("state"), field).Int64(); err == nil {
			c.HSet(ctx, key("state"), field, strconv.FormatInt(ms-d.Milliseconds(), 10))
		}
	}
}

// passUnowned is pass for time in which the endpoint had no owner.
func passUnowned(t *testing.T, c *redis.Client, endpoint string, d time.Duration) {
	t.Helper()
	pass(t, c, endpoint, d)
	key := "gancho:{" + endpoint + "}:state"
	seen, err := c.HGet(t.Context(), key, "seen").Int64()
	if err != nil {
		t.Fatalf("Redis does not know when attempts were last possible: %v", err)
	}
	c.HSet(t.Context(), key, "seen", seen-d.Milliseconds())
}

// TestDowntimeCountsAgainstNobody: an endpoint without an owner for four days is not
// suspended, and its event not given up, by the second failure; with an owner it is.
func TestDowntimeCountsAgainstNobody(t *testing.T) {
	t.Parallel()
	const down = 96 * time.Hour
	for name, c := range map[string]struct {
		ep      endpoint.Endpoint
		owned   bool
		attempt int // after which the event, or the endpoint, is given up; 0: never
	}{
		"pause_after":             {endpoint.Endpoint{}, false, 0},
		"max_age":                 {endpoint.Endpoint{PauseAfter: -1}, false, 0},
		"pause_after, with owner": {endpoint.Endpoint{}, true, 2},
		"max_age, with owner":     {endpoint.Endpoint{PauseAfter: -1}, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			c.ep.Name = "a"
			q := queuetest.Open(t, r, c.ep)
			queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
			rc := queuetest.Client(t, r)
			for attempt := 1; attempt <= 3; attempt++ {
				sink := newReceiver()
				sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return refused() }
				_, stop := startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, c.ep)
				sink.until(t, fmt.Sprintf("attempt %d", attempt), func(all []arrival) bool { return len(all) == 1 })
				stop() // acknowledges it
				s, err := queuetest.Stats(t.Context(), q, "a")
				if err != nil {
					t.Fatal(err)
				}
				if over := s.Reason != "" || s.Dead != 0; over != (attempt == c.attempt) {
					t.Fatalf("after attempt %d: suspended because of %q, %d dead letters", attempt, s.Reason, s.Dead)
				} else if over {
					return
				}
				if c.owned {
					pass(t, rc, "a", down)
				} else {
					passUnowned(t, rc, "a", down)
				}
			}
		})
	}
}

func answer(code int, kind webhook.OutcomeKind) webhook.Outcome {
	o := status(code)
	o.Kind = kind
	return o
}

// noLogin is an attempt without a token, because the token server does not take the client.
func noLogin() webhook.Outcome {
	return webhook.Outcome{Kind: webhook.Refused, Class: webhook.ClassLogin, Err: errors.New("login failed at token_url https://login.example.com: answered 401 (invalid_client)")}
}

func wishing(o webhook.Outcome, w webhook.Wish) webhook.Outcome {
	o.Wish = w
	return o
}

func after(o webhook.Outcome, d time.Duration) webhook.Outcome {
	o.RetryAfter = d
	return o
}

// step is one attempt: what is answered, and how long until the next one; 0:
// there is none; negative: how long that is after the first.
type step struct {
	answer webhook.Outcome
	wait   time.Duration
}

// What is answered, and what it means: when the event is sent again, where it
// ends, and what the log says. Each attempt is made by another process, after
// the time that the one before has written.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	const second, minute, hour = time.Second, time.Minute, time.Hour
	down, wrong := status(500), answer(422, webhook.Refused)
	gone := answer(410, webhook.Gone)
	reached := refused() // the connection
	reached.Class = webhook.ClassTimeout
	failed := func(n int) (out []string) {
		for range n {
			out = append(out, "delivery attempted: retry")
		}
		return out
	}
	steps := func(o webhook.Outcome, waits ...time.Duration) (out []step) {
		for _, w := range waits {
			out = append(out, step{o, w})
		}
		return out
	}
	for name, c := range map[string]struct {
		ep      endpoint.Endpoint
		steps   []step
		dead    string // the reason
		paused  string // its beginning
		blocked bool
		n       int // attempts
		log     []string
	}{
		"schedule": {
			ep: endpoint.Endpoint{PauseAfter: -1}, n: 11, dead: "no success in 11 attempts",
			steps: steps(down, 5*second, 30*second, 2*minute, 10*minute, 30*minute, hour, 3*hour, 6*hour, 12*hour, 24*hour, 0),
			log:   append([]string{"event moved to the dead letters: no success in 11 attempts"}, failed(1)...),
		},
		"refused": {
			n: 4, dead: "the receiver has refused it: no success in 4 attempts", steps: steps(wrong, 10*second, minute, 10*minute, 0),
			log: []string{"event moved to the dead letters: the receiver has refused it: no success in 4 attempts", "delivery attempted: refused"},
		},
		"refused at the door, alone": { // TestShutOut has others
			n: 4, steps: steps(answer(401, webhook.Refused), 10*second, minute, 10*minute, 0), dead: "the receiver has refused it: no success in 4 attempts",
		},
		"refused by the token server": {
			n: 4, steps: steps(noLogin(), 10*second, minute, 10*minute, 0),
			paused: "misconfigured: login failed at token_url https://login.example.com: answered 401 (invalid_client); correct the endpoint's auth",
		},
		"refused at the door, never to be paused": {
			ep: endpoint.Endpoint{PauseAfter: -1}, n: 4, dead: "the receiver has refused it: no success in 4 attempts",
			steps: steps(answer(403, webhook.Refused), 10*second, minute, 10*minute, 0),
		},
		"refused at the door, and block": {
			ep: endpoint.Endpoint{OnExhausted: endpoint.Block}, n: 4, blocked: true, steps: steps(answer(401, webhook.Refused), 10*second, minute, 10*minute, 0),
		},
		"each kind on its schedule": {
			n: 7, dead: "the receiver has refused it: no success in 7 attempts",
			steps: []step{{down, 5 * second}, {wrong, 10 * second}, {reached, 30 * second}, {wrong, minute}, {down, 2 * minute}, {wrong, 10 * minute}, {wrong, 0}},
		},
		"own schedules": {
			ep: endpoint.Endpoint{Retry: []time.Duration{hour}, RetryRefused: []time.Duration{}}, n: 2, dead: "the receiver has refused it: no success in 2 attempts",
			steps: []step{{down, hour}, {wrong, 0}},
		},
		"success at last": {steps: []step{{down, 5 * second}, {wrong, 10 * second}, {delivered(), 0}}},
		"age": { // the last attempt is when it is an hour old: 2595 s were waited for
			ep: endpoint.Endpoint{MaxAge: hour}, n: 7, dead: "no success in 7 attempts within 1h0m0s (max_age)",
			steps: steps(down, 5*second, 30*second, 2*minute, 10*minute, 30*minute, -hour, 0),
		},
		"age of the first": {
			ep: endpoint.Endpoint{MaxAge: second, Retry: []time.Duration{hour, hour}}, n: 2, dead: "no success in 2 attempts within 1s (max_age)",
			steps: steps(down, -second, 0),
		},
		"retry-after": { // longer than the schedule, and shorter
			n: 2, steps: []step{{after(status(503), 2*hour), -2 * hour}, {after(status(429), second), 30 * second}, {delivered(), 0}},
		},
		"retry-after for too long": {steps: []step{{after(status(503), 48*hour), -24 * hour}, {delivered(), 0}}},
		"abort":                    {n: 1, dead: "the receiver asked not to repeat it (webhook-delivery: abort)", steps: []step{{wishing(down, webhook.WishAbort), 0}}},
		"abort, and no dead letters otherwise": {
			ep: endpoint.Endpoint{OnExhausted: endpoint.Block}, n: 2, dead: "the receiver asked not to repeat it (webhook-delivery: abort)",
			steps: []step{{down, 5 * second}, {wishing(wrong, webhook.WishAbort), 0}},
		},
		"abort of a success": {steps: []step{{wishing(delivered(), webhook.WishAbort), 0}}},
		"gone": {
			steps: []step{{gone, 0}}, paused: "the receiver answered 410 Gone",
			log: []string{"endpoint suspended: its events are kept until somebody resumes it: the receiver answered 410 Gone", "delivery attempted: gone"},
		},
		"a chat that was deleted":  {steps: []step{{answer(404, webhook.Gone), 0}}, paused: "the receiver answered 404: what the url leads to was deleted; give the endpoint a new url"},
		"a chat that is elsewhere": {steps: []step{{answer(400, webhook.Gone), 0}}, paused: "status 400"},
		"gone, and abort":          {n: 1, steps: []step{{wishing(gone, webhook.WishAbort), 0}}, paused: "the receiver answered 410 Gone", dead: "the receiver asked not to repeat it (webhook-delivery: abort)"},
		"pause":                    {n: 1, steps: []step{{wishing(down, webhook.WishPause), 5 * second}}, paused: "the receiver asked for it (webhook-delivery: pause)"},
		"pause, and thanks":        {steps: []step{{wishing(delivered(), webhook.WishPause), 0}}, paused: "the receiver asked for it (webhook-delivery: pause)"},
		"block": {
			ep: endpoint.Endpoint{OnExhausted: endpoint.Block, Retry: []time.Duration{hour}}, n: 2, blocked: true, steps: steps(down, hour, 0),
			log: []string{"attempts exhausted: the event's key is blocked: no success in 2 attempts", "delivery attempted: retry"},
		},
		"pause when exhausted": {
			ep: endpoint.Endpoint{OnExhausted: endpoint.Pause, Retry: []time.Duration{hour}}, n: 2, paused: "an event's attempts were exhausted: ", steps: steps(down, hour, 0),
		},
		"failing for too long": { // the event is kept, although its attempts are used up
			ep: endpoint.Endpoint{PauseAfter: 90 * minute, Retry: []time.Duration{hour, hour}}, n: 3, paused: "every attempt has failed since ", steps: steps(down, hour, hour, 0),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			c.ep.Name = "a"
			q := queuetest.Open(t, r, c.ep)
			queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
			rc := queuetest.Client(t, r)
			var log *journal
			for i, s := range c.steps {
				sink := newReceiver()
				sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return s.answer }
				log = &journal{}
				_, stop := dispatchInto(t, log, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, c.ep)
				sink.until(t, fmt.Sprintf("attempt %d", i+1), func(all []arrival) bool { return len(all) == 1 })
				stop() // acknowledges it
				if s.wait == 0 {
					break
				}
				k, ok := keptOf(t, rc, "a")
				if !ok || k.N != i+1 {
					t.Fatalf("attempt %d: kept %+v, %t", i+1, k, ok)
				}
				d := k.due.Sub(k.Last)
				switch {
				case s.wait > 0 && (d < s.wait-time.Millisecond || d > s.wait*12/10):
					t.Errorf("attempt %d: the next is due after %s, want %s to %s", i+1, d, s.wait, s.wait*12/10)
				case s.wait < 0 && (k.due.Sub(k.First)+s.wait).Abs() > time.Millisecond: // from the first failure, as Redis keeps it
					t.Errorf("attempt %d: the next is due %s after the first, want %s", i+1, k.due.Sub(k.First), -s.wait)
				}
				pass(t, rc, "a", d)
			}
			if c.log != nil {
				if diff := cmp.Diff(c.log, log.warnings()); diff != "" {
					t.Error("log: " + diff)
				}
			}
			checkEnd(t, q, rc, c.dead, c.paused, c.blocked, c.n)
		})
	}
}

// An event that alone is answered 403, as by a firewall that does not like what is in it, becomes
// a dead letter: others are delivered meanwhile.
func TestOneForbiddenEvent(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 1, RetryRefused: []time.Duration{10 * time.Millisecond}}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.Key == "k0" {
			return answer(403, webhook.Refused)
		}
		return delivered()
	}
	queuetest.AppendEvents(t, q, 0, 3, 3, queuetest.KeyModulo(3))
	_, stop := runDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, ep)
	defer stop()
	queuetest.Eventually(t, "a dead letter", func() bool {
		dead, err := q.Dead(t.Context(), "a", "", 10)
		return err == nil && len(dead) == 1 && dead[0].Reason == "the receiver has refused it: no success in 2 attempts"
	})
	if s, err := queuetest.Stats(t.Context(), q, "a"); err != nil || s.Reason != "" {
		t.Errorf("suspended because of %q, %v", s.Reason, err)
	}
}

// checkEnd checks where the only event has ended.
func checkEnd(t *testing.T, q *queue.Queue, rc *redis.Client, reason, paused string, blocked bool, n int) {
	t.Helper()
	dead, err := q.Dead(t.Context(), "a", "", 10)
	if err != nil || len(dead) > 1 || (len(dead) == 1) != (reason != "") {
		t.Fatalf("dead letters: %+v, %v", dead, err)
	}
	if len(dead) == 1 && (dead[0].Reason != reason || dead[0].Attempts != n) {
		t.Errorf("dead after %d attempts: %q; want %d: %q", dead[0].Attempts, dead[0].Reason, n, reason)
	}
	k, kept := keptOf(t, rc, "a")
	if kept != (n > 0 && reason == "" && (blocked || paused != "")) || kept && (k.blocked != blocked || k.N != n) {
		t.Errorf("kept %+v, %t; want blocked %t, %d attempts", k, kept, blocked, n)
	}
	s, err := queuetest.Stats(t.Context(), q, "a")
	if err != nil || !strings.HasPrefix(s.Reason, paused) || (s.Reason != "") != (paused != "") {
		t.Errorf("paused because of %q, %v; want %q", s.Reason, err, paused)
	}
}
