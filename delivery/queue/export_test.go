package queue

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// MaxRoutes is the router's bound.
const MaxRoutes = maxRoutes

// Size is how many lists the router remembers.
func (r *Router) Size() int { return r.router.size }

// SlotOf is the cluster slot of a key.
func SlotOf(key string) uint16 { return slotOf(key) }

// KeyOn is a key on a master of a cluster that has one slot only.
func KeyOn(slot uint16) (string, error) {
	q := &Queue{cluster: &cluster{}, keys: keyspace{prefix: "gancho"}}
	view := &clusterView{}
	view.owners[slot] = "m"
	q.cluster.view.Store(view)
	return q.keyOn("m")
}

// DialFresh is dialFresh.
func DialFresh(dial dialer) dialer { return dialFresh(dial) }

// Waits is whether WAITAOF is trusted of a server with this INFO.
func Waits(server map[string]string) bool { return info(server).waits() }

// AwaitsRewrite is whether a server with this INFO is waited for, and why somebody has to know.
func AwaitsRewrite(server map[string]string) (bool, error) { return awaitsRewrite(info(server)) }

// Remembered are the positions that are kept of n that wait.
func Remembered(n uint64) []uint64 {
	var w durableWork
	for lsn := range n {
		w.remember(recordedPosition{lsn: lsn})
	}
	var out []uint64
	for _, p := range w.recorded {
		out = append(out, p.lsn)
	}
	return out
}

// ProvenBy are the answers of a proof of an fsync to looks at a server, which had forked so
// often, two seconds apart.
func ProvenBy(forks ...string) []bool {
	var p fsyncProof
	var out []bool
	for i, n := range forks {
		got := info{"aof_last_write_status": "ok", "aof_pending_bio_fsync": "0", "total_forks": n}
		synced, err := p.look(got, time.Now().Add(time.Duration(i)*2*time.Second), false)
		out = append(out, synced && err == nil)
	}
	return out
}

// Replicas is what a queue knows of a master's replicas.
type Replicas struct{ s replicas }

// NewReplicas is of a master with a min-replicas-to-write and some replicas in step.
func NewReplicas(required, most int) *Replicas {
	return &Replicas{replicas{required: required, most: most}}
}

// CaughtUp is whether a position may be confirmed, by what INFO says.
func (s *Replicas) CaughtUp(told map[string]string, offset int64, now time.Time) bool {
	return s.s.caughtUp(told, offset, now)
}

// Report logs what somebody has to know.
func (s *Replicas) Report(log *zerolog.Logger, told map[string]string, offset int64, now time.Time) {
	before := s.s.most
	s.s.report(log, "m", told, before, s.s.caughtUp(told, offset, now), now)
}

// After is what is known of a master without replicas, at an address, where
// those were the masters before.
func After(at string, masters []string, now time.Time, before map[string]int) *Replicas {
	var old []*replicas
	for addr, most := range before {
		old = append(old, &replicas{of: addr, most: most})
	}
	s := &Replicas{replicas{of: at}}
	s.s.inherit(old, masters, now)
	return s
}

// Sentinels are some that have been asked.
type Sentinels struct{ s sentinel }

// Choose is the master by the answers, which are addresses and their epochs;
// an empty address: no answer.
func (s *Sentinels) Choose(addresses []string, epochs []uint64) (string, error) {
	answers := make([]answer, len(addresses))
	for i := range answers {
		answers[i] = answer{addr: addresses[i], epoch: epochs[i]}
		if addresses[i] == "" {
			answers[i].err = ErrUnreachable
		}
	}
	return s.s.choose(answers)
}

// FireInSlots queues events as FireTimers does, and dies before the timers are removed.
func (q *Queue) FireInSlots(ctx context.Context, endpoints []string, fired []FiredTimer) error {
	return q.fireInSlots(ctx, endpoints, fired)
}

// TellFailures sets how many timers that have failed have their reasons in Redis.
func (q *Queue) TellFailures(n int64) { q.failuresTold = n }
