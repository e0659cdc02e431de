package queue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// identities of the servers whose data the queue goes on from, and of those met since.
type identities struct {
	promotable bool // a replica may take a master's place

	accepted    atomic.Pointer[map[string]string] // by address; nil before the first are
	generations atomic.Uint64                     // how often another server was met
	mu          sync.Mutex
	observed    map[string]string // the last that were met, by address; guarded by mu
}

// of tells one history of a server's data from another. The run id changes with each
// restart. The replication id belongs to it: a server that lost something by being
// demoted and promoted again has its old run id. (That a first replica, too, changes it
// costs a rewind that loses nothing.)
func (s *identities) of(got info) string { return got["run_id"] + "/" + got["master_replid"] }

// errReplica: what was a master no longer is one, or is not one yet.
var errReplica = fmt.Errorf("%w: the server is a replica; a failover is under way", ErrUnreachable)

// refuseRestarted runs on each new connection that appends, before its first
// command: were newer events appended after a restart, or a failover, that lost
// older ones, Redis would refuse the older ones for ever, as "equal or smaller".
func (s *identities) refuseRestarted(ctx context.Context, addr string, cn *redis.Conn) error {
	_, err := s.recognise(ctx, addr, cn)
	return err
}

// recognise returns what the server says of itself, or ErrRestarted when it is not the
// one that was accepted under its address.
func (s *identities) recognise(ctx context.Context, addr string, server redis.Cmdable) (info, error) {
	got, err := s.identify(ctx, server)
	if err != nil {
		return nil, err
	}
	if accepted := s.accepted.Load(); accepted == nil || (*accepted)[addr] != s.of(got) {
		return nil, ErrRestarted
	}
	return got, nil
}

// identify asks a server who it is. A replica's connections would outlive its promotion;
// Open, which has accepted nothing yet, says itself what to do about one.
func (s *identities) identify(ctx context.Context, server redis.Cmdable) (info, error) {
	got, err := serverInfo(ctx, server)
	if err == nil && got["role"] == "slave" && (s.promotable || s.accepted.Load() != nil) {
		err = errReplica
	}
	return got, err
}

// History names the history of the masters' data from which the queue goes on: it is another after a restart or a failover, in which the newest part may
// have been lost.
func (q *Queue) History() string {
	accepted := *q.servers.accepted.Load()
	var b strings.Builder
	for _, addr := range slices.Sorted(maps.Keys(accepted)) {
		_, _ = b.WriteString(addr + " " + accepted[addr] + "\n") // never fails
	}
	return b.String()
}

func (s *identities) masters() []string { return slices.Collect(maps.Keys(*s.accepted.Load())) }

// noteIdentity runs on each new connection that delivers. A restart cuts all
// connections, so whoever talks to Redis after one sees generations changed
// by the time it has its answer. The same is true of a failover to a server
// that is not known yet; what this misses, inspectMasters finds.
func (s *identities) noteIdentity(ctx context.Context, addr string, cn *redis.Conn) error {
	got, err := s.identify(ctx, cn)
	if err == nil {
		s.observe(addr, s.of(got))
	}
	return err
}

// observe counts a generation when the server is new.
func (s *identities) observe(addr, identity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.observed[addr]
	s.observed[addr] = identity
	if known && old != identity || !known && s.accepted.Load() != nil {
		s.generations.Add(1)
	}
}

// inspectMasters asks all masters who they are, through the connections that
// there are: a master may have been demoted and promoted again, and have lost
// something, without one being cut. It has Sentinel's connections cut that lead to
// the wrong server.
func (q *Queue) inspectMasters(ctx context.Context) error {
	if q.sentinel != nil {
		if err := q.sentinel.refresh(ctx); err != nil {
			return err
		}
	}
	masters, err := q.masters(ctx)
	if err != nil {
		return err
	}
	for _, addr := range masters {
		got, err := serverInfo(ctx, q.nodes.to(addr))
		if err != nil {
			return unreachable(err)
		}
		if got["role"] != "slave" {
			q.servers.observe(addr, q.servers.of(got))
		}
	}
	return nil
}

// replicas of one master. Replication is asynchronous: a promoted replica lacks
// what its master had not sent yet. So nothing is confirmed before every replica
// that may be promoted has it, and as many as min-replicas-to-write demands.
//
// An unreachable replica may be in the other part of a network that is cut in two, and
// be promoted there. It is waited for as long as that takes (replicaGrace); then it
// counts as lost, or one that never comes back would hold the source's WAL for ever.
// With min-replicas-to-write it never counts as lost.
type replicas struct {
	of       string    // the master's address; empty: it does not change
	required int       // min-replicas-to-write
	most     int       // that were in sync at the same time, recently
	fewer    time.Time // since when it has been fewer; zero: it has not
	waits    time.Time // since when positions have been waiting for it; zero: they have not
	reported bool      // that they wait
}

// replicaGrace is longer than sentinels and clusters take for a failover.
const replicaGrace = time.Minute

func (q *Queue) newReplicas(ctx context.Context, addr string, masters []string, got info) *replicas {
	s := &replicas{of: addr, most: len(replicaOffsets(got))}
	if q.sentinel != nil {
		s.of = q.sentinel.last()
	}
	s.inherit(slices.Collect(maps.Values(q.confirmer.replicas)), masters, time.Now())
	config, err := q.nodes.to(addr).ConfigGet(ctx, "min-replicas-to-write").Result()
	if err == nil { // one who may not read the configuration waits for those that there are
		s.required, _ = strconv.Atoi(config["min-replicas-to-write"])
	}
	if s.most == 0 && q.promotable() {
		q.log.Warn().Str("master", q.nameOf(addr)).
			Msg("this master has no replica in sync: positions are confirmed when they are on its own disk, as with a single server")
	}
	return s
}

// inherit adopts how many replicas there were before a restart or failover: those not
// back yet may still be promoted. A new master was one of its predecessor's.
func (s *replicas) inherit(before []*replicas, masters []string, now time.Time) {
	known := 0
	for _, old := range before {
		switch {
		case old.of == s.of:
			known = max(known, old.most)
		case !slices.Contains(masters, old.of):
			known = max(known, old.most-1)
		}
	}
	if known > s.most {
		s.most, s.fewer = known, now
	}
}

func (q *Queue) nameOf(addr string) string {
	switch {
	case q.sentinel != nil:
		return q.sentinel.name
	case addr == "":
		return "redis"
	}
	return addr
}

func replicaOffsets(got info) []int64 {
	var out []int64
	for i := 0; ; i++ {
		line, ok := got["slave"+strconv.Itoa(i)]
		if !ok {
			return out
		}
		fields := map[string]string{}
		for part := range strings.SplitSeq(line, ",") {
			k, v, _ := strings.Cut(part, "=")
			fields[k] = v
		}
		offset, err := strconv.ParseInt(fields["offset"], 10, 64)
		if err == nil && fields["state"] == "online" {
			out = append(out, offset)
		}
	}
}

// caughtUp reports whether the replicas that have to have everything up to the
// offset have it. The master's own INFO is the witness.
func (s *replicas) caughtUp(got info, offset int64, now time.Time) bool {
	offsets := replicaOffsets(got)
	switch {
	case len(offsets) >= s.most, !s.fewer.IsZero() && now.Sub(s.fewer) > replicaGrace:
		s.most, s.fewer = len(offsets), time.Time{}
	case s.fewer.IsZero():
		s.fewer = now
	}
	for _, o := range offsets {
		if o < offset {
			return false
		}
	}
	return len(offsets) >= max(s.most, s.required)
}

// report logs what somebody has to know: nothing else says why the source holds its WAL.
func (s *replicas) report(log *zerolog.Logger, master string, got info, before int, caughtUp bool, now time.Time) {
	if s.most < before {
		log.Warn().Str("master", master).Int("replicas", s.most).Int("before", before).
			Msg("a replica was unreachable for too long and is not waited for any more: what it lacks is lost if it is promoted")
	}
	switch {
	case caughtUp && s.reported:
		log.Info().Str("master", master).Msg("the replicas have caught up: positions are confirmed again")
		fallthrough
	case caughtUp:
		s.waits, s.reported = time.Time{}, false
	case s.waits.IsZero():
		s.waits = now
	case !s.reported && now.Sub(s.waits) > replicaGrace:
		s.reported = true
		log.Warn().Str("master", master).Int("in_sync", len(replicaOffsets(got))).Int("awaited", max(s.most, s.required)).
			Msg("positions wait for replicas, and the slot holds its WAL: see INFO replication, and min-replicas-to-write")
	}
}
