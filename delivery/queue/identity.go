package queue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// identities of the servers whose data the queue goes on from, and of those met since.
type identities struct {
	promotable bool // a replica may take a master's place

	accepted    atomic.Pointer[map[string]string] // by address; nil before the first are
	generations atomic.Uint64                     // how often another server was met
	mu          sync.Mutex
	observed    map[string]string // the last that were met, by address; guarded by mu
}

// of tells one history of a server's data from another. The run id changes
// with each restart. Where replicas may be promoted, the replication id belongs
// to it: a server that was demoted for a while, and has lost something by that,
// comes back with the run id that it had.
func (s *identities) of(got info) string {
	if !s.promotable {
		return got["run_id"]
	}
	return got["run_id"] + "/" + got["master_replid"]
}

// errReplica: what was a master no longer is one, or is not one yet.
var errReplica = fmt.Errorf("%w: the server is a replica; a failover is under way", ErrUnreachable)

// refuseRestarted runs on each new connection that appends, before its first
// command: were newer events appended after a restart, or a failover, that lost
// older ones, Redis would refuse the older ones for ever, as "equal or smaller".
func (s *identities) refuseRestarted(ctx context.Context, addr string, cn *redis.Conn) error {
	_, err := s.recognise(ctx, addr, cn)
	return err
}

// recognise returns what the server says of itself, and more sections of its
// INFO, or ErrRestarted when it is not the one that was accepted under its address.
func (s *identities) recognise(ctx context.Context, addr string, server redis.Cmdable, more ...string) (info, error) {
	got, err := s.identify(ctx, server, more...)
	if err != nil {
		return nil, err
	}
	if accepted := s.accepted.Load(); accepted == nil || (*accepted)[addr] != s.of(got) {
		return nil, ErrRestarted
	}
	return got, nil
}

// identify asks a server who it is. A replica's connections would outlive its promotion.
func (s *identities) identify(ctx context.Context, server redis.Cmdable, more ...string) (info, error) {
	got, err := serverInfo(ctx, server, append(more, "server", "replication")...)
	if err == nil && s.promotable && got["role"] == "slave" {
		err = errReplica
	}
	return got, err
}

// masters are the addresses of the servers that were accepted.
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
// there are: a master of a cluster may have been demoted and promoted again, and
// have lost something, without one being cut. It has Sentinel's connections cut
// that lead to the wrong server. Of a single server a restart cuts them all.
func (q *Queue) inspectMasters(ctx context.Context) error {
	if !q.promotable() {
		return nil
	}
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
		got, err := serverInfo(ctx, q.nodes.to(addr), "server", "replication")
		if err != nil {
			return unreachable(err)
		}
		if got["role"] != "slave" {
			q.servers.observe(addr, q.servers.of(got))
		}
	}
	return nil
}
