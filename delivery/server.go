package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// durability is how the queue learns that what it wrote has reached the disk.
type durability uint8

const (
	durableAtReply durability = iota + 1 // appendfsync always, or volatile and accepted
	durableByWait                        // WAITAOF
	durableByAge                         // everysec before 7.2: older than durableAge, and not restarted since
)

// durableAge is how old a reply under appendfsync everysec has to be: Redis
// syncs each second, and lets a slow disk hold a write up by two.
const durableAge = 2 * time.Second

// info is what INFO told.
type info map[string]string

func serverInfo(ctx context.Context, c redis.Cmdable, sections ...string) (info, error) {
	out := info{}
	for _, s := range sections {
		text, err := c.Info(ctx, s).Result()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				out[k] = v
			}
		}
	}
	return out, nil
}

// refuseRestarted runs on each new connection that appends, before its first
// command: were newer events appended after a restart that lost older ones,
// Redis would refuse the older ones for ever, as "equal or smaller".
func (q *Queue) refuseRestarted(ctx context.Context, cn *redis.Conn) error {
	got, err := serverInfo(ctx, cn, "server")
	if err != nil {
		return err
	}
	if want := q.accepted.Load(); want == nil || *want != got["run_id"] {
		return ErrRestarted
	}
	return nil
}

// noteRunID runs on each new connection that delivers. A restart cuts all
// connections, so whoever talks to Redis after one sees generations changed
// by the time it has its answer.
func (q *Queue) noteRunID(ctx context.Context, cn *redis.Conn) error {
	got, err := serverInfo(ctx, cn, "server")
	if err != nil {
		return err
	}
	id := got["run_id"]
	if old := q.observed.Swap(&id); old != nil && *old != id {
		q.generations.Add(1)
	}
	return nil
}

// check reads the server's settings, waiting while it loads its data.
func (q *Queue) check(ctx context.Context, volatile bool) error {
	got, err := q.awaitLoaded(ctx)
	if err != nil {
		return fmt.Errorf("open queue: %w", err)
	}
	major, minor, ok := version(got["redis_version"])
	if !ok || major < 6 || major == 6 && minor < 2 {
		return &SettingError{"redis_version", got["redis_version"], "use Redis 6.2 or newer"}
	}
	if p := got["maxmemory_policy"]; p != "" && p != "noeviction" {
		return &SettingError{"maxmemory-policy", p, "run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"}
	}
	if got["role"] == "slave" {
		return &SettingError{"role", "replica", "give the address of the primary"}
	}
	runID := got["run_id"]
	q.accepted.Store(&runID)
	return q.checkPersistence(ctx, got, major > 7 || major == 7 && minor >= 2, volatile)
}

func (q *Queue) checkPersistence(ctx context.Context, got info, waits, volatile bool) error {
	const accept = ", or set queue.allow_volatile: true to accept the loss"
	if got["aof_enabled"] != "1" {
		return q.acceptVolatile(volatile, &SettingError{"appendonly", "no", "run CONFIG SET appendonly yes, and set it in redis.conf" + accept})
	}
	config, err := q.client.ConfigGet(ctx, "appendfsync").Result()
	if err == nil {
		var rewrite map[string]string
		rewrite, err = q.client.ConfigGet(ctx, "no-appendfsync-on-rewrite").Result()
		q.strictAOF = rewrite["no-appendfsync-on-rewrite"] == "yes"
	}
	switch fsync := config["appendfsync"]; {
	case err != nil && !isReply(err):
		return fmt.Errorf("open queue: read appendfsync: %w", unreachable(err))
	case err != nil && waits:
		q.log.Info().Str("cause", err.Error()).Msg("redis does not show its configuration: durability is taken from WAITAOF alone")
		q.mode = durableByWait
	case err != nil:
		return q.acceptVolatile(volatile, &SettingError{"appendfsync", "unknown, because CONFIG is forbidden", "allow the user CONFIG GET, use Redis 7.2 or newer" + accept})
	case fsync == "always":
		q.mode = durableAtReply
	case fsync == "everysec" && waits:
		q.mode = durableByWait
	case fsync == "everysec":
		q.mode = durableByAge
	default:
		return q.acceptVolatile(volatile, &SettingError{"appendfsync", fsync, "run CONFIG SET appendfsync everysec, and set it in redis.conf" + accept})
	}
	return nil
}

func (q *Queue) acceptVolatile(accepted bool, refusal *SettingError) error {
	if !accepted {
		return refusal
	}
	q.log.Warn().Str("setting", refusal.Setting).Str("value", refusal.Value).
		Msg("events may be lost when redis stops: queue.allow_volatile is set")
	q.mode = durableAtReply
	return nil
}

func (q *Queue) awaitLoaded(ctx context.Context) (info, error) {
	for said := false; ; said = true {
		got, err := serverInfo(ctx, q.client, "server", "persistence", "memory", "replication")
		if err == nil && got["loading"] != "1" {
			return got, nil
		}
		if err != nil && !strings.HasPrefix(err.Error(), "LOADING") {
			return nil, unreachable(err)
		}
		if !said {
			q.log.Info().Msg("redis is loading its data: waiting")
		}
		if !pause(ctx, loadingPause) {
			return nil, unreachable(ctx.Err())
		}
	}
}

// loadingPause is the time between two looks at a server that is loading.
const loadingPause = 200 * time.Millisecond

// pause waits. It reports false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func version(s string) (major, minor int, ok bool) {
	a, rest, _ := strings.Cut(s, ".")
	b, _, _ := strings.Cut(rest, ".")
	major, err1 := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	return major, minor, err1 == nil && err2 == nil
}

// isReply reports whether the server itself answered with the error.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// unreachable marks errors of the way to the server, and those of a server
// that is not ready, as ErrUnreachable.
func unreachable(err error) error {
	if errors.Is(err, ErrRestarted) || errors.Is(err, context.Canceled) {
		return err
	}
	var network net.Error
	way := errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout)
	if text := err.Error(); way || isReply(err) &&
		(strings.HasPrefix(text, "LOADING") || strings.HasPrefix(text, "MASTERDOWN") || strings.HasPrefix(text, "BUSY") || strings.HasPrefix(text, "TRYAGAIN")) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}
