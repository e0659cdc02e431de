package doctor

import (
	"context"
	"fmt"

	"gancho/cdc"
	"gancho/delivery/queue"
)

// The share of its memory from which on a Redis is nearly full.
const (
	fullWarning = 0.75
	fullProblem = 0.90
)

// redis looks at every server of the queue.
func (x *examination) redis(ctx context.Context) {
	if x.Queue == nil {
		x.skip("redis.reachable", "queue", "the configuration does not say where Redis is")
		return
	}
	asking, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	servers, err := queue.Inspect(asking, *x.Queue)
	for i := range servers {
		x.server(&servers[i])
	}
	if err != nil {
		x.add(cdc.Finding{
			ID: "redis.reachable", Severity: cdc.SeverityProblem, Where: "queue", Title: oneLine(err), Why: "nothing is captured or delivered, and the source holds its WAL",
			Remedy: "check queue in the configuration, and that Redis runs and lets this machine in",
		})
		for _, id := range []string{"redis.persistence", "redis.eviction", "redis.memory"} {
			if len(servers) == 0 {
				x.skip(id, "queue", "Redis was not reached")
			}
		}
	}
}

func (x *examination) server(r *queue.ServerReport) {
	where, name := "queue", "Redis"
	if r.Address != "" {
		where, name = "queue "+r.Address, r.Address
	}
	if r.NotReady != nil {
		x.add(cdc.Finding{ID: "redis.reachable", Severity: cdc.SeverityProblem, Where: where, Title: oneLine(r.NotReady), Why: "nothing is captured or delivered meanwhile", Remedy: "look again in a minute"})
	} else {
		x.say(cdc.SeverityOK, "redis.reachable", where, "%s answers: %s", name, r.Version)
	}
	refused := map[string]bool{}
	for _, refusal := range r.Refusals {
		f := cdc.Finding{ID: redisID(refusal), Severity: cdc.SeverityProblem, Where: where, Title: fmt.Sprintf("%s is %q", refusal.Setting, refusal.Value), Why: "it can lose events; gancho run refuses to start", Remedy: refusal.Fix}
		if refusal.Persistence() && r.Volatile {
			f.Severity, f.Why = cdc.SeverityWarning, "events that wait in Redis are lost when it stops, which queue.allow_volatile accepts"
		}
		refused[f.ID] = true
		x.add(f)
	}
	if !refused["redis.persistence"] {
		x.say(cdc.SeverityOK, "redis.persistence", where, "it keeps an append-only file (appendfsync %s)", orUnknown(r.Fsync))
	}
	if !refused["redis.eviction"] {
		x.say(cdc.SeverityOK, "redis.eviction", where, "it evicts nothing")
	}
	if r.Failed != "" {
		x.add(cdc.Finding{ID: "redis.disk", Severity: cdc.SeverityProblem, Where: where, Title: "its last write to the disk failed (" + r.Failed + ")", Why: "Redis takes nothing while it cannot save (MISCONF)", Remedy: "see its log, and its disk"})
	} else {
		x.say(cdc.SeverityOK, "redis.disk", where, "its last write to the disk did not fail")
	}
	x.memory(where, r)
	if r.Replicas == 0 {
		x.add(cdc.Finding{ID: "redis.replicas", Severity: cdc.SeverityNote, Where: where, Title: "it has no replica", Why: "events that wait there are lost with its disk", Remedy: "give it a replica on another machine, with Sentinel (docs/operations.md)"})
	} else {
		x.say(cdc.SeverityOK, "redis.replicas", where, "it has %d replicas", r.Replicas)
	}
	x.clock(where, "redis.clock", name, r.Ahead)
}

// redisID is the finding that a refused setting belongs to.
func redisID(e *queue.SettingError) string {
	switch {
	case e.Persistence():
		return "redis.persistence"
	case e.Setting == "maxmemory-policy":
		return "redis.eviction"
	case e.Setting == "redis_version":
		return "redis.version"
	}
	return "redis.role"
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// memory looks at how much room is left for backlogs.
func (x *examination) memory(where string, r *queue.ServerReport) {
	f := cdc.Finding{ID: "redis.memory", Severity: cdc.SeverityOK, Where: where, Title: fmt.Sprintf("%s of %s are used (maxmemory)", Bytes(r.Used), Bytes(r.Max))}
	const full = "when it is full, appends are refused and the source holds its WAL"
	switch share := float64(r.Used) / float64(max(r.Max, 1)); {
	case r.Max == 0:
		f.Severity, f.Title = cdc.SeverityNote, Bytes(r.Used)+" are used, and maxmemory bounds nothing"
		if r.Total > 0 {
			f.Title += " but the machine's " + Bytes(r.Total)
		}
		f.Why, f.Remedy = "the kernel ends a Redis that takes all memory, where one with maxmemory refuses appends and Gancho waits", "set maxmemory, with maxmemory-policy noeviction"
	case share >= fullProblem:
		f.Severity, f.Why, f.Remedy = cdc.SeverityProblem, full, "raise maxmemory, or see in gancho status which endpoint's backlog grows"
	case share >= fullWarning:
		f.Severity, f.Why, f.Remedy = cdc.SeverityWarning, full, "raise maxmemory, or see in gancho status which endpoint's backlog grows"
	}
	x.add(f)
}
