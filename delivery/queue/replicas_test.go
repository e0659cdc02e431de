package queue_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue"

	"github.com/rs/zerolog"
)

// told is the part of INFO that names the replicas.
func told(offsets ...int64) map[string]string {
	out := map[string]string{}
	for i, o := range offsets {
		out[fmt.Sprint("slave", i)] = fmt.Sprintf("ip=10.0.0.%d,port=6379,state=online,offset=%d,lag=1", i+1, o)
	}
	return out
}

func TestReplicasThatHaveToCatchUp(t *testing.T) {
	t.Parallel()
	syncing := told(100, 100)
	syncing["slave1"] = "ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0"
	for name, c := range map[string]struct {
		required, most int
		told           map[string]string
		want           bool
	}{
		"none":                {0, 0, told(), true},
		"in step":             {0, 2, told(100, 120), true},
		"one behind":          {0, 2, told(100, 99), false},
		"one gone":            {0, 2, told(100), false},
		"one being copied":    {0, 2, syncing, false},
		"a new one, behind":   {0, 0, told(50), false},
		"fewer than required": {2, 1, told(100), false},
		"as required":         {2, 2, told(100, 100), true},
	} {
		if got := queue.NewReplicas(c.required, c.most).CaughtUp(c.told, 100, time.Now()); got != c.want {
			t.Errorf("%s: caught up %v, want %v", name, got, c.want)
		}
	}
}

// A replica that is gone may be promoted elsewhere, for a while.
func TestReplicaThatIsGone(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	s := queue.NewReplicas(0, 1)
	for _, step := range []struct {
		after time.Duration
		told  map[string]string
		want  bool
	}{
		{0, told(100), true},
		{time.Hour, told(), false}, // nobody has looked for an hour: it may have gone just now
		{time.Hour + 59*time.Second, told(), false},
		{time.Hour + 61*time.Second, told(), true},
		{time.Hour + 2*time.Minute, told(90), false}, // it is back
		{time.Hour + 3*time.Minute, told(100), true},
		{time.Hour + 4*time.Minute, told(), false},
	} {
		if got := s.CaughtUp(step.told, 100, at(step.after)); got != step.want {
			t.Errorf("after %s: caught up %v, want %v", step.after, got, step.want)
		}
	}
	required := queue.NewReplicas(1, 1)
	for _, after := range []time.Duration{0, time.Hour, 24 * time.Hour} {
		if required.CaughtUp(told(), 100, at(after)) {
			t.Errorf("after %s: caught up without the replica that min-replicas-to-write demands", after)
		}
	}
}

// After a restart or a failover the replicas come back one by one: until then
// a position that only the master has is not safe.
func TestReplicasThatHaveNotComeBack(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for name, c := range map[string]struct {
		at      string
		masters []string
		before  map[string]int
		want    bool // confirmed at once, without replicas
	}{
		"at the start":                 {"a", []string{"a"}, nil, true},
		"none before":                  {"a", []string{"a"}, map[string]int{"a": 0}, true},
		"restarted":                    {"a", []string{"a"}, map[string]int{"a": 1}, false},
		"the only replica, promoted":   {"b", []string{"b"}, map[string]int{"a": 1}, true},
		"one of two, promoted":         {"b", []string{"b"}, map[string]int{"a": 2}, false},
		"another master was restarted": {"a", []string{"a", "b"}, map[string]int{"a": 0, "b": 2}, true},
	} {
		s := queue.After(c.at, c.masters, start, c.before)
		if got := s.CaughtUp(told(), 100, start.Add(time.Second)); got != c.want {
			t.Errorf("%s: caught up %v, want %v", name, got, c.want)
		}
		if !s.CaughtUp(told(), 100, start.Add(time.Hour)) {
			t.Errorf("%s: still waiting after an hour", name)
		}
	}
}

// Whoever looks for why the source holds its WAL finds it in the log, once.
func TestWaitingForReplicasIsTold(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, start := zerolog.New(&out), time.Now()
	s := queue.NewReplicas(0, 2)
	for _, step := range []struct {
		after time.Duration
		told  map[string]string
		want  string // the line's text; empty: none
	}{
		{0, told(100, 100), ""},
		{time.Second, told(100, 50), ""},
		{30 * time.Second, told(100, 50), ""},
		{62 * time.Second, told(100, 50), "positions wait for replicas"},
		{63 * time.Second, told(100, 50), ""},
		{64 * time.Second, told(100, 100), "caught up"},
		{65 * time.Second, told(100, 100), ""},
		{70 * time.Second, told(100), ""},
		{140 * time.Second, told(100), "not waited for any more"},
		{141 * time.Second, told(100), ""},
	} {
		out.Reset()
		s.Report(&log, step.told, 100, start.Add(step.after))
		if got := out.String(); (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("after %s: logged %q, want %q", step.after, got, step.want)
		}
	}
}
