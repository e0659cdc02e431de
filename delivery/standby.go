package delivery

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// standby is what is known of a master's replicas. Replication is
// asynchronous: a replica that is promoted lacks what its master had not sent
// yet. So nothing is confirmed before every replica that may be promoted has
// it, and as many as min-replicas-to-write demands.
//
// A replica that is gone may be on the other side of a network that is cut in
// two, and be promoted there. It is waited for as long as that usually takes
// (standbyGrace); then it counts as lost, or a replica that does not come back
// would hold up the source's WAL for ever. With min-replicas-to-write it never
// counts as lost.
type standby struct {
	required int       // min-replicas-to-write
	most     int       // that were in step at once, of late
	fewer    time.Time // since when it has been fewer; zero: it has not
}

// standbyGrace is longer than sentinels and clusters take for a failover.
const standbyGrace = time.Minute

func (q *Queue) newStandby(ctx context.Context, addr string, got info) *standby {
	s := &standby{most: len(replicaOffsets(got))}
	config, err := q.nodes.at(addr).ConfigGet(ctx, "min-replicas-to-write").Result()
	if err == nil { // one who may not read the configuration waits for those that there are
		s.required, _ = strconv.Atoi(config["min-replicas-to-write"])
	}
	if s.most == 0 && q.moves() {
		q.log.Warn().Str("master", q.nameOf(addr)).
			Msg("this master has no replica in step: positions are confirmed when they are on its own disk, as with a single server")
	}
	return s
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

// replicaOffsets are those of the replicas that are in step.
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
func (s *standby) caughtUp(got info, offset int64, now time.Time) bool {
	offsets := replicaOffsets(got)
	switch {
	case len(offsets) >= s.most, !s.fewer.IsZero() && now.Sub(s.fewer) > standbyGrace:
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

// alone reports that there are no replicas, and that none is waited for.
func (s *standby) alone(got info) bool {
	return s.most == 0 && s.required == 0 && got["connected_slaves"] == "0"
}
