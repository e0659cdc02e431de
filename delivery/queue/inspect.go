package queue

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// ServerReport is what one Redis says of itself, for people: see [Inspect].
type ServerReport struct {
	// Address is that of a node of a cluster, "" otherwise.
	Address string
	// Version is what the server calls itself, such as "redis 7.0.15" or "valkey 9.0.1".
	Version string
	// Refusals are the settings under which [Open] refuses the server, or would without
	// Options.AllowVolatile (see Volatile).
	Refusals []*SettingError
	// Volatile: of the refusals, those of persistence are accepted.
	Volatile bool
	// NotReady is why it cannot be used yet, such as a replica during a failover; nil: it can.
	NotReady error
	// Used and Max are bytes of memory; Max is 0 where only the machine bounds it, whose
	// memory is Total, 0 where the server does not say.
	Used, Max, Total int64
	Replicas         int
	// Fsync is appendfsync, "" where CONFIG is forbidden or nothing is appended.
	Fsync string
	// Failed is the last write to the disk that failed: rdb_last_bgsave_status or
	// aof_last_write_status; "": none.
	Failed string
	// Ahead is how far the server's clock is ahead of this machine's; negative: behind.
	Ahead time.Duration
}

// Inspect asks every master what Open would check, and more, without refusing any, and
// changes nothing. The error is one of the way there, as of [Open]; it does not wait
// while a server is loading.
func Inspect(ctx context.Context, o Options) ([]ServerReport, error) {
	q := &Queue{log: o.Logger, volatile: o.AllowVolatile}
	if err := q.connect(&o); err != nil {
		return nil, err
	}
	q.servers = identities{promotable: q.promotable(), observed: map[string]string{}}
	defer func() { _ = q.Close() }() // all that was sent has been answered
	masters := []string{""}
	if q.cluster != nil {
		view, err := q.cluster.current(ctx, 0)
		if err != nil {
			return nil, unreachable(err)
		}
		masters = view.masters
	}
	reports := make([]ServerReport, 0, len(masters))
	for _, addr := range masters {
		r, err := q.inspect(ctx, addr)
		if err != nil {
			return reports, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

func (q *Queue) inspect(ctx context.Context, addr string) (ServerReport, error) {
	r := ServerReport{Address: addr, Volatile: q.volatile}
	got, err := serverInfo(ctx, q.nodes.to(addr))
	if err != nil {
		return r, annotate(err, "read INFO")
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(got[name], 10, 64) // "": the server does not say
		return n
	}
	r.Used, r.Max, r.Total, r.Replicas = number("used_memory"), number("maxmemory"), number("total_system_memory"), int(number("connected_slaves"))
	r.Version = "redis " + got["redis_version"]
	if got["valkey_version"] != "" {
		r.Version = "valkey " + got["valkey_version"]
	}
	for _, name := range []string{"rdb_last_bgsave_status", "aof_last_write_status"} {
		if status := got[name]; status != "" && status != "ok" {
			r.Failed = name + ": " + status
		}
	}
	if got["loading"] == "1" {
		r.NotReady = errors.New("it is loading its data")
	}
	if err := q.checkServer(got); err != nil {
		r.refuse(err)
	}
	_, synced, err := q.durabilityOf(ctx, addr, got)
	r.Fsync = strings.TrimSpace(synced.String())
	if err != nil {
		r.refuse(err)
	}
	asked := time.Now()
	if at, err := q.nodes.to(addr).Time(ctx).Result(); err == nil {
		r.Ahead = at.Sub(asked.Add(time.Since(asked) / 2))
	}
	return r, nil
}

// refuse notes an error of a check.
func (r *ServerReport) refuse(err error) {
	if refusal, ok := errors.AsType[*SettingError](err); ok {
		r.Refusals = append(r.Refusals, refusal)
		return
	}
	r.NotReady = err
}

// Persistence reports whether the setting decides about what survives a restart.
func (e *SettingError) Persistence() bool {
	return e.Setting == "appendonly" || e.Setting == "appendfsync"
}
