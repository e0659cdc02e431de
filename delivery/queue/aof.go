package queue

import (
	"context"
	"fmt"
	"slices"
	"strconv"

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
