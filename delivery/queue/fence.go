package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Whoever reads the source's slot appends, and the slot has one reader at a time. But one that was
// stopped, or cut off, for so long that the server gave the slot to another does not know yet: what
// it has in memory it would append beside the other. So each process takes a fencing token when it
// was given the slot, one higher than the last, and nothing is appended under a token that is no
// longer the newest.
//
// The connection that appends WATCHes the token's key from before the token is compared until its
// EXEC, which Redis refuses when somebody has written the key since. EXEC ends the watch, so that
// the same round trip begins the next one. In a cluster a batch is several transactions on several
// nodes, and each EXEC ends all watches of its connection: there each stream has a copy of the token beside it,
// which the script that appends compares. Who takes a token writes it to the copies of all streams that are registered
// before it reads anything; who registers one compares the token behind that.

// ErrFenced says that another process captures now. What this one has read and not appended is
// the other one's to append.
var ErrFenced = errors.New("another process has taken over the slot, and appends now")

// ErrStaleBatch says that the batch was filled before this process took the slot, or took it again. Drop it:
// what was in it is read again.
var ErrStaleBatch = errors.New("the batch is of an earlier turn at the slot")

// errTokenWritten: nothing was appended, because somebody has written the token, which is still ours.
var errTokenWritten = errors.New("the fencing token was written while the batch was on its way")

// takeScript raises the token above the newest one that anybody knows of. What it writes first, a
// full Redis allows: see ackScript.
var takeScript = redis.NewScript(`
redis.call('PERSIST', KEYS[1])
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if last < tonumber(ARGV[1]) then last = tonumber(ARGV[1]) end
redis.call('SET', KEYS[1], string.format('%d', last + 1))
return last + 1`)

// restoreScript raises the token, or a copy of it, to one that was taken, and returns the newest.
var restoreScript = redis.NewScript(`
redis.call('PERSIST', KEYS[1])
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return redis.call('GET', KEYS[1])`)

// Take fences out whoever appended before: batches that are filled from here on are appended until
// another process takes its turn, others are not. Call it after Claim, each time that the source has
// given this process the slot, and before anything is read of it. Without it, nobody is fenced out.
// Where another process has claimed the queue with a newer epoch, this one has to stop.
func (q *Queue) Take(ctx context.Context) error {
	a := &q.appender
	a.mu.Lock()
	defer a.mu.Unlock()
	token, err := q.raiseToken(ctx)
	if err != nil {
		return annotate(err, "take the fencing token")
	}
	if own := a.token.Load(); own == 0 || token != own+1 { // another process has captured since
		if err := q.catchUpLocked(ctx); err != nil {
			return annotate(err, "take over the capture")
		}
	}
	a.token.Store(token)
	a.conns.keep(nil) // new connections watch
	clear(a.checked)
	return nil
}

// raiseToken fences out whoever appends, this process, too, and returns a token that nobody has had.
func (q *Queue) raiseToken(ctx context.Context) (uint64, error) {
	token, err := takeScript.Run(ctx, q.client, []string{q.keys.token()}, strconv.FormatUint(q.appender.token.Load(), 10)).Uint64()
	if err == nil {
		err = q.copyToken(ctx, token)
	}
	return token, err
}

// copyToken writes the token to its copies, which a cluster has.
func (q *Queue) copyToken(ctx context.Context, token uint64) error {
	if q.cluster == nil {
		return nil
	}
	names, err := q.EndpointNames(ctx)
	if err != nil {
		return err
	}
	calls := []scriptCall{{script: restoreScript, keys: []string{q.keys.tokenOf("")}, args: []any{token}}}
	for _, name := range names {
		calls = append(calls, scriptCall{script: restoreScript, keys: []string{q.keys.tokenOf(name)}, args: []any{token}})
	}
	for _, reply := range q.runScripts(ctx, calls) {
		if err := reply.Err(); err != nil {
			return fmt.Errorf("write the token to the endpoints' copies: %w", err)
		}
	}
	return nil
}

// catchUpLocked learns what another process may have done to the queue since Claim.
func (q *Queue) catchUpLocked(ctx context.Context) error {
	q.sources.mu.Lock()
	defer q.sources.mu.Unlock()
	c := q.sources.current.Load()
	if c == nil {
		return ErrNotClaimed
	}
	record, err := q.sources.readLocked(ctx)
	if err != nil {
		return err
	}
	confirmed := max(c.confirmed, q.confirmer.confirmed.Load())
	if record != nil {
		if c.superseded(record) {
			return ErrClaimLost
		}
		confirmed = max(confirmed, record.confirmed)
	}
	q.sources.current.Store(&claim{c.epoch, c.timeline, c.source, confirmed})
	q.sources.claimed.confirmed = confirmed // for restoreSource: the slot stands there at least
	if err := q.fillHolesLocked(ctx, c.epoch, confirmed); err != nil {
		return err
	}
	q.appender.restartLocked(q.servers.masters())
	return nil
}

// Token is the fencing token of what is appended now; 0: Take was not called.
func (q *Queue) Token() uint64 { return q.appender.token.Load() }

// greetAppender runs on each new connection that appends.
func (q *Queue) greetAppender(ctx context.Context, addr string, cn *redis.Conn) error {
	if err := q.servers.refuseRestarted(ctx, addr, cn); err != nil {
		return err
	}
	token := q.appender.token.Load()
	if token == 0 || q.cluster != nil {
		return nil
	}
	if err := cn.Do(ctx, "WATCH", q.keys.token()).Err(); err != nil {
		return fmt.Errorf("watch the fencing token: %w", err)
	}
	return newest(cn.Get(ctx, q.keys.token()), token)
}

// newest compares the token in Redis with one that was taken. One that Redis has lost is put back
// by AcceptRestart.
func newest(got *redis.StringCmd, token uint64) error {
	now, err := got.Uint64()
	switch {
	case errors.Is(err, redis.Nil):
		return &LostError{"the fencing token of the capture"}
	case err != nil:
		return fmt.Errorf("read the fencing token: %w", err)
	case now > token:
		return ErrFenced
	case now < token:
		return &LostError{"the newest fencing token of the capture"}
	}
	return nil
}

// comparesToken compares the token once, where nothing watches it: in a cluster, for a stream that who has taken the
// token may not know.
func (q *Queue) comparesToken(ctx context.Context, token uint64) error {
	if token == 0 {
		return nil
	}
	return unreachable(newest(q.client.Get(ctx, q.keys.token()), token))
}

// restoreToken puts back what of the token, and of its copies, was lost with an AOF's end. The copies get the newest token
// there is: whoever was fenced out, and sees the restart first, does not put back its own.
func (q *Queue) restoreToken(ctx context.Context) error {
	token := q.appender.token.Load()
	if token == 0 {
		return nil
	}
	newest, err := restoreScript.Run(ctx, q.client, []string{q.keys.token()}, strconv.FormatUint(token, 10)).Uint64()
	if err != nil {
		return err
	}
	return q.copyToken(ctx, newest)
}
