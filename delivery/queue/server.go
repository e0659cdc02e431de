package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"gancho/internal/retry"

	"github.com/redis/go-redis/v9"
)

// durability is how the queue learns that what it wrote has reached the disk;
// of several servers, what the weakest of them needs.
type durability uint8

const (
	durableAtReply durability = iota + 1 // appendfsync always, or volatile and accepted
	durableByWait                        // WAITAOF
	durableByLooks                       // without a WAITAOF to trust: fsyncProof, and not restarted since
)

type info map[string]string

func (i info) add(text string) {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			i[k] = v
		}
	}
}

func (i info) replicationOffset() (int64, error) {
	n, err := strconv.ParseInt(i["master_repl_offset"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse master_repl_offset: %w", err)
	}
	return n, nil
}

// serverInfo reads INFO. One command with all sections costs less than one for each, and
// before Redis 7 INFO takes no more than one.
func serverInfo(ctx context.Context, c redis.Cmdable) (info, error) {
	text, err := c.Info(ctx).Result()
	if err != nil {
		return nil, err
	}
	out := info{}
	out.add(text)
	return out, nil
}

// checkServers reads the settings of every master, waiting while one loads its
// data, and accepts them as those that are appended to.
func (q *Queue) checkServers(ctx context.Context) error {
	masters := []string{""}
	if q.cluster != nil {
		view, err := q.cluster.current(ctx, 0)
		if err != nil {
			return err
		}
		if view.missing > 0 {
			return fmt.Errorf("%w: %d slots of the cluster are served by no node; see CLUSTER NODES", ErrUnreachable, view.missing)
		}
		masters = view.masters
	}
	accepted, known := map[string]string{}, map[string]*replicas{}
	kept, rewriting := &persistence{mode: durableAtReply, fsync: map[string]fsync{}}, map[string]bool{}
	for _, addr := range masters {
		got, err := q.awaitLoaded(ctx, addr)
		if err != nil {
			return err
		}
		if err := q.checkServer(got); err != nil {
			return err
		}
		if err := q.checkPersistence(ctx, addr, got, kept); err != nil {
			return err
		}
		accepted[addr] = q.servers.of(got)
		q.servers.observe(addr, accepted[addr])
		known[addr] = q.newReplicas(ctx, addr, masters, got)
		rewriting[addr] = rewritesAOF(got)
	}
	q.confirmer.kept.Store(kept)
	q.confirmer.replicas, q.confirmer.rewriting = known, rewriting
	q.servers.accepted.Store(&accepted)
	return nil
}

// checkServer refuses what no persistence can compensate.
func (q *Queue) checkServer(got info) error {
	if major, minor := got.version(); major < 6 || major == 6 && minor < 2 {
		return &SettingError{"redis_version", got["redis_version"], "use Redis 6.2 or newer"}
	}
	if err := checkEviction(got); err != nil {
		return err
	}
	switch {
	case got["role"] == "slave" && q.promotable():
		return errReplica
	case got["role"] == "slave":
		return &SettingError{"role", "replica", "give the address of the primary, or of its sentinels (queue.sentinel)"}
	case got["cluster_enabled"] == "1" && q.cluster == nil:
		return &SettingError{"cluster-enabled", "yes", "give the nodes' addresses as queue.cluster: of one node only, events of other slots would be refused"}
	}
	return nil
}

func checkEviction(got info) error {
	if p := got["maxmemory_policy"]; p != "" && p != "noeviction" {
		return &SettingError{"maxmemory-policy", p, "run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"}
	}
	return nil
}

// persistence is how the servers keep what they are given.
type persistence struct {
	mode  durability
	fsync map[string]fsync // by address
}

// fsync is when a server syncs its append-only file; the zero value: CONFIG is forbidden.
type fsync struct {
	when   string // appendfsync
	pauses bool   // no-appendfsync-on-rewrite: not while it rewrites its files, also under always
}

// String names the settings that matter.
func (f fsync) String() string {
	if f.pauses {
		return f.when + " with no-appendfsync-on-rewrite"
	}
	return f.when
}

func readFsync(ctx context.Context, c *redis.Client) (fsync, error) {
	config, err := c.ConfigGet(ctx, "*appendfsync*").Result()
	return fsync{when: config["appendfsync"], pauses: config["no-appendfsync-on-rewrite"] == "yes"}, err
}

// checkPersistence adds how one server keeps what it is given.
func (q *Queue) checkPersistence(ctx context.Context, addr string, got info, kept *persistence) error {
	mode, synced, err := q.durabilityOf(ctx, addr, got)
	if err == nil && synced.when == "" {
		q.log.Info().Msg("redis does not show its configuration: durability is taken from WAITAOF alone")
	}
	if refusal, ok := errors.AsType[*SettingError](err); ok {
		err = q.acceptVolatile(refusal)
	}
	kept.mode = max(kept.mode, mode)
	kept.fsync[addr] = synced
	return err
}

// durabilityOf reads how a server keeps what it is given; a *SettingError: not safely. In a
// cluster WAITAOF is of no use: it is about what its own connection has written, and that
// is on one node.
func (q *Queue) durabilityOf(ctx context.Context, addr string, got info) (durability, fsync, error) {
	const accept = ", or set queue.allow_volatile: true to accept the loss"
	if got["aof_enabled"] != "1" {
		return durableAtReply, fsync{}, &SettingError{"appendonly", "no", "run CONFIG SET appendonly yes, and set it in redis.conf" + accept}
	}
	synced, err := readFsync(ctx, q.nodes.to(addr))
	known, waits := synced.when == "always" || synced.when == "everysec", q.cluster == nil && got.waits()
	switch {
	case err != nil && !isReply(err):
		return durableAtReply, synced, annotate(err, "read appendfsync")
	case err != nil && !waits:
		instead := ", use Redis 8 or newer"
		if q.cluster != nil {
			instead = "" // whose WAITAOF is of no use
		}
		return durableAtReply, synced, &SettingError{"appendfsync", "unknown, because CONFIG is forbidden", "allow the user CONFIG GET" + instead + accept}
	case err == nil && !known:
		return durableAtReply, synced, &SettingError{"appendfsync", synced.when, "run CONFIG SET appendfsync everysec, and set it in redis.conf" + accept}
	case waits: // also under always: it knows whether a rewrite of the AOF is the first
		return durableByWait, synced, nil
	case synced.when == "always" && !synced.pauses:
		return durableAtReply, synced, nil
	}
	return durableByLooks, synced, nil
}

// recheckSettings looks at what was checked when the server was accepted and may be
// changed while it runs.
func (q *Queue) recheckSettings(ctx context.Context, addr string, got info) error {
	if err := checkEviction(got); err != nil {
		return err
	}
	if got["aof_enabled"] != "1" {
		q.confirmer.rewriting[addr] = true // when it is enabled again
		if q.volatile {
			return nil
		}
		return &SettingError{"appendonly", "no", "run CONFIG SET appendonly yes: until then nothing is confirmed to the source"}
	}
	if q.confirmer.rewriting[addr] = q.confirmer.rewriting[addr] && rewritesAOF(got); q.confirmer.rewriting[addr] {
		return &notReadyError{errors.New("it is writing a new append-only file, which may be its first")}
	}
	accepted := q.confirmer.kept.Load().fsync[addr]
	if accepted.when == "" {
		return nil
	}
	now, err := readFsync(ctx, q.confirmer.conns.to(addr))
	if err == nil && now != accepted {
		err = fmt.Errorf("%w: appendfsync was changed from %s to %s", ErrRestarted, accepted, now)
	}
	return err
}

// rewritesAOF reports whether the server writes, or is about to write, a new AOF.
// When that was just enabled, there is no other, and what was written since is nowhere; so
// nothing is confirmed meanwhile: it may have been disabled and enabled again unnoticed.
func rewritesAOF(got info) bool {
	return got["aof_rewrite_in_progress"] == "1" || got["aof_rewrite_scheduled"] == "1"
}

// rewriteGrace is how long a rewrite may last before somebody has to know of it.
const rewriteGrace = time.Minute

// awaitsRewrite is rewritesAOF, and an error of a rewrite that lasts.
func awaitsRewrite(got info) (bool, error) {
	if seconds, err := strconv.Atoi(got["aof_current_rewrite_time_sec"]); err == nil && seconds >= int(rewriteGrace.Seconds()) {
		return true, &notReadyError{fmt.Errorf("it has been rewriting its append-only file for %d s; what is written meanwhile counts as durable when that has ended", seconds)}
	}
	return rewritesAOF(got), nil
}

func (q *Queue) acceptVolatile(refusal *SettingError) error {
	if !q.volatile {
		return refusal
	}
	q.log.Warn().Str("setting", refusal.Setting).Str("value", refusal.Value).
		Msg("events may be lost when redis stops: queue.allow_volatile is set")
	return nil
}

func (q *Queue) awaitLoaded(ctx context.Context, addr string) (info, error) {
	for logged := false; ; logged = true {
		got, err := serverInfo(ctx, q.nodes.to(addr))
		if err == nil && got["loading"] != "1" {
			return got, nil
		}
		if err != nil && !refuses(err, "LOADING") {
			return nil, unreachable(err)
		}
		if !logged {
			q.log.Info().Msg("redis is loading its data: waiting")
		}
		if err := retry.Wait(ctx, 200*time.Millisecond); err != nil {
			return nil, unreachable(err)
		}
	}
}

// Backoff returns the wait after the n-th failure of Redis in a row.
func Backoff(n int) time.Duration {
	return retry.Backoff{Min: 50 * time.Millisecond, Max: 2 * time.Second}.Delay(n)
}

// scriptCall is a script with the keys of one endpoint; of several, but not in a cluster.
type scriptCall struct {
	script *redis.Script
	keys   []string
	args   []any
}

// runScripts runs scripts in one pipeline, and those that a server does not know yet in a
// second one. Each reply has its own error: one of several servers may be unreachable.
func (q *Queue) runScripts(ctx context.Context, calls []scriptCall) []*redis.Cmd {
	pipe := q.client.Pipeline()
	replies := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		replies[i] = c.script.EvalSha(ctx, pipe, c.keys, c.args...)
	}
	if _, err := pipe.Exec(ctx); err == nil {
		return replies
	}
	unknown := q.client.Pipeline()
	for i, c := range calls {
		if err := replies[i].Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			replies[i] = c.script.Eval(ctx, unknown, c.keys, c.args...)
		}
	}
	if unknown.Len() > 0 {
		_, _ = unknown.Exec(ctx) // each reply has its error
	}
	return replies
}

// version is what Redis, or what speaks like it, calls itself; 0 when unknown.
func (i info) version() (major, minor int) {
	_, _ = fmt.Sscanf(i["redis_version"], "%d.%d", &major, &minor)
	return major, minor
}

// waits reports whether the server's WAITAOF is to be trusted. It came with Redis 7.2, and
// answers before the fsync under everysec there and in Valkey, which reports a
// redis_version of its own choice, 7.2.4 today, beside its own version.
func (i info) waits() bool {
	major, _ := i.version()
	return major >= 8 && i["valkey_version"] == "" && (i["server_name"] == "" || i["server_name"] == "redis")
}

// isReply reports whether the server itself answered with the error.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// notReady are the words with which a server refuses what it will accept later, or
// its successor will; MISCONF: it cannot write to its disk.
var notReady = []string{
	"LOADING", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MOVED", "ASK", "READONLY", "NOREPLICAS", "MISCONF",
	"max number of clients",
}

// notReadyError is the refusal of a server that will be ready, or replaced.
type notReadyError struct{ cause error }

// Error says that the server is there.
func (e *notReadyError) Error() string { return "redis is not ready: " + e.cause.Error() }

// Unwrap returns what the server has answered.
func (e *notReadyError) Unwrap() error { return e.cause }

// Is makes it an ErrUnreachable: both are answered by trying again.
func (e *notReadyError) Is(target error) bool { return target == ErrUnreachable }

// refuses reports whether a server's answer begins with the word. Where a script or a
// transaction was refused, the answer that matters is quoted.
func refuses(err error, word string) bool {
	text := err.Error()
	return strings.HasPrefix(text, word) || strings.Contains(text, "-"+word) || strings.Contains(text, ": "+word) || strings.HasPrefix(text, "ERR "+word)
}

// fenced is ErrFenced where a script has refused an older token, and else the error.
func fenced(err error) error {
	if err != nil && isReply(err) && refuses(err, "FENCED") {
		return ErrFenced
	}
	return err
}

// unreachable marks errors of the way to a server, or of one not ready, as
// ErrUnreachable, and the refusal of one that is full as ErrFull.
func unreachable(err error) error {
	if err == nil || errors.Is(err, ErrRestarted) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrFull) || errors.Is(err, context.Canceled) {
		return err
	}
	if isReply(err) {
		switch {
		case refuses(err, "OOM"):
			return fmt.Errorf("%w (%w)", ErrFull, err)
		case slices.ContainsFunc(notReady, func(word string) bool { return refuses(err, word) }):
			return &notReadyError{err}
		}
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// annotate says what failed, and marks the error as unreachable does; nil stays nil.
func annotate(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, unreachable(err))...)
}

// isWayError reports whether the error is one that unreachable marks.
func isWayError(err error) bool { return errors.Is(unreachable(err), ErrUnreachable) }
