package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// sealScript writes an EXEC into the append-only file: Redis wraps two writes of a
// script in a transaction. The first command is one that a full Redis allows, for the
// reason that ackScript gives, and that takes away what a torn seal has left.
var sealScript = redis.NewScript(`
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], '')
redis.call('DEL', KEYS[1])
return 1`)

// sealServers ends a transaction that may be open in the append-only files of the
// servers that were accepted. Redis cuts a torn file behind its last whole command,
// inside a transaction if it so happens, and appends behind it; when it loads the file
// again, everything after that MULTI is dropped unless an EXEC follows. So nothing may be
// confirmed before one does. Once is enough: a file is torn only where a server
// has started, and then it has to be accepted again.
func (q *Queue) sealServers(ctx context.Context) error {
	for _, addr := range q.servers.masters() {
		key, err := q.keyOn(addr)
		if err != nil {
			return err
		}
		if err := sealScript.Run(ctx, q.confirmer.conns.to(addr), []string{key}).Err(); err != nil {
			q.suspectCluster(ctx, err)
			return annotate(err, "end open transactions in redis's append-only file")
		}
	}
	return nil
}

// keyOn returns a key, of nothing, that is on the master.
func (q *Queue) keyOn(addr string) (string, error) {
	if q.cluster == nil {
		return q.keys.of("", "seal"), nil
	}
	owners := &q.cluster.view.Load().owners
	if !slices.Contains(owners[:], addr) {
		return "", fmt.Errorf("%w: node %s has no slots any more", ErrUnreachable, addr)
	}
	for i := 0; ; i++ { // the numbers' slots are all there are, sooner or later
		if key := q.keys.of(strconv.Itoa(i), "seal"); owners[slotOf(key)] == addr {
			return key, nil
		}
	}
}

// awaitAOF returns when what this connection has written is on the server's disk.
func awaitAOF(ctx context.Context, conn *redis.Conn) error {
	reply, err := conn.Do(ctx, "WAITAOF", 1, 0, waitDurable.Milliseconds()).Slice()
	if err != nil {
		return annotate(err, "wait for the AOF")
	}
	if synced, _ := reply[0].(int64); synced < 1 {
		return &notReadyError{fmt.Errorf("its append-only file was not synced within %s; see its log and its disk", waitDurable)}
	}
	return nil
}

// fsyncTick is more than the second after its last fsync in which Redis, under everysec,
// starts none.
const fsyncTick = 1100 * time.Millisecond

// fsyncProof proves, by three looks at a server's INFO, that what it had answered before
// the first is on its disk. The first finds no fsync outstanding. The second is fsyncTick
// later: by the time of its answer Redis has started an fsync behind the first, or has
// nothing to sync. The third finds none outstanding. Neither the age of an answer
// proves that, nor a single look: when an fsync takes over two seconds Redis writes
// behind it what it had held back, skips the fsync of that, and starts the next
// a second later (flushAppendOnlyFile in its aof.c); and it answers before it syncs after
// everything that has stopped it for a while. A fork in between may be of a rewrite of the
// file: the one before it is synced when it is closed, which counts as no fsync outstanding,
// but comes before the next fsync. So the looks start again.
type fsyncProof struct {
	idle   time.Time // after the first look; zero: it was not
	forks  string    // how often the server had forked then
	ticked bool      // the second look was
	synced bool      // the third was
}

// look adds an INFO that was asked for at a time; pauses: the server starts no fsync while
// it has a child, so that it must have none from the first look to the third.
func (p *fsyncProof) look(got info, asked time.Time, pauses bool) (bool, error) {
	if got["aof_last_write_status"] != "ok" {
		return false, &notReadyError{errors.New("it cannot write its append-only file; see its log and its disk")}
	}
	child := pauses && (got["aof_rewrite_in_progress"] == "1" || got["rdb_bgsave_in_progress"] == "1")
	idle := got["aof_pending_bio_fsync"] == "0" && !child
	switch {
	case p.synced:
	case p.idle.IsZero() || got["total_forks"] != p.forks:
		*p = fsyncProof{}
		if idle {
			p.idle, p.forks = time.Now(), got["total_forks"]
		}
	case p.ticked:
		p.synced = idle
	default:
		p.ticked = asked.Sub(p.idle) >= fsyncTick
	}
	return p.synced, nil
}

// next is how long the next look would find nothing new.
func (p *fsyncProof) next() time.Duration {
	if p.idle.IsZero() || p.ticked {
		return 0
	}
	return fsyncTick - time.Since(p.idle)
}
