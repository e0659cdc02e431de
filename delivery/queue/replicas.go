package queue

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// replicas is what is known of one master's replicas. Replication is
// asynchronous: a replica that is promoted lacks what its master had not sent
// yet. So nothing is confirmed before every replica that may be promoted has
// it, and as many as min-replicas-to-write demands.
//
// An unreachable replica may be on the other side of a network that is cut in
// two, and be promoted there. It is waited for as long as that usually takes
// (replicaGrace); then it counts as lost, or a replica that does not come back
// would hold the source's WAL for ever. With min-replicas-to-write it never
// counts as lost.
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

// inherit takes over how many replicas there were before a restart or a
// failover: those that have not come back yet may still be promoted. A new
// master was one of its predecessor's.
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

// nameOf is how a master is called in the log.
func (q *Queue) nameOf(addr string) string {
	switch {
	case q.sentinel != nil:
		return q.sentinel.name
	case addr == "":
		return "redis"
	}
	return addr
}

// replicaOffsets are those of the replicas that are in sync.
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

// alone reports that there are no replicas, and that none is waited for.
func (s *replicas) alone(got info) bool {
	return s.most == 0 && s.required == 0 && got["connected_slaves"] == "0"
}
