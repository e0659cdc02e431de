package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// identity tells one history of a server's data from another. The run id
// changes with each restart. Where replicas may be promoted, the replication id
// belongs to it: a server that was demoted for a while, and has lost something
// by that, comes back with the run id that it had.
func (q *Queue) identity(got info) string {
	if q.ring == nil && q.sentinel == nil {
		return got["run_id"]
	}
	return got["run_id"] + "/" + got["master_replid"]
}

// errReplica: who was a master is one no more, or not yet.
var errReplica = fmt.Errorf("%w: the server is a replica; a failover is under way", ErrUnreachable)

// refuseRestarted runs on each new connection that appends, before its first
// command: were newer events appended after a restart, or a failover, that lost
// older ones, Redis would refuse the older ones for ever, as "equal or smaller".
func (q *Queue) refuseRestarted(ctx context.Context, addr string, cn *redis.Conn) error {
	got, err := serverInfo(ctx, cn, "server", "replication")
	if err != nil {
		return err
	}
	return q.recognise(addr, got)
}

// recognise returns ErrRestarted when the server is not the one that was
// accepted under its address.
func (q *Queue) recognise(addr string, got info) error {
	if q.moves() && got["role"] == "slave" {
		return errReplica
	}
	accepted := q.accepted.Load()
	if accepted == nil || (*accepted)[addr] != q.identity(got) {
		return ErrRestarted
	}
	return nil
}

// moves reports whether masters change by themselves.
func (q *Queue) moves() bool { return q.ring != nil || q.sentinel != nil }

// noteIdentity runs on each new connection that delivers. A restart cuts all
// connections, so whoever talks to Redis after one sees generations changed
// by the time it has its answer. The same is true of a failover to a server
// that is not known yet; what it leaves out, attend finds.
func (q *Queue) noteIdentity(ctx context.Context, addr string, cn *redis.Conn) error {
	got, err := serverInfo(ctx, cn, "server", "replication")
	if err != nil {
		return err
	}
	if q.moves() && got["role"] == "slave" {
		return errReplica // its connections would outlive its promotion
	}
	q.observe(addr, q.identity(got))
	return nil
}

// observe counts a generation when the server is new.
func (q *Queue) observe(addr, identity string) {
	q.observedMu.Lock()
	defer q.observedMu.Unlock()
	old, known := q.observed[addr]
	q.observed[addr] = identity
	if known && old != identity || !known && q.accepted.Load() != nil {
		q.generations.Add(1)
	}
}

// attend looks at all masters through the connections that there are: a
// master of a cluster may have been demoted and promoted again, and have lost
// something, without one being cut. It has Sentinel's connections cut that lead
// to the wrong server.
func (q *Queue) attend(ctx context.Context) error {
	if !q.moves() {
		return nil
	}
	if q.sentinel != nil {
		if err := q.sentinel.watch(ctx); err != nil {
			return err
		}
	}
	masters, err := q.masters(ctx)
	if err != nil {
		return err
	}
	for _, addr := range masters {
		got, err := serverInfo(ctx, q.nodes.at(addr), "server", "replication")
		if err != nil {
			return unreachable(err)
		}
		if got["role"] != "slave" {
			q.observe(addr, q.identity(got))
		}
	}
	return nil
}
