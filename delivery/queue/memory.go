package queue

import (
	"context"
	"fmt"
	"strconv"
)

// MemoryError says that so much of Redis's maxmemory is used that nothing is appended until some of it is
// free. It is ErrFull, too, and comes before Redis is: what else it keeps still has room.
type MemoryError struct{ Percent, Resume int }

// Error says when it goes on, and what to do.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("redis uses %d %% of its maxmemory, and events are appended again at %d %% (queue.max_memory_percent); raise its maxmemory, or see which endpoint's backlog grows", e.Percent, e.Resume)
}

// Is reports whether it is ErrFull.
func (e *MemoryError) Is(target error) bool { return target == ErrFull }

// Memory returns the memory that Redis uses, and its maxmemory (0: nothing but the machine
// bounds it), in bytes; of a cluster, those of the master that is nearest to its bound.
func (q *Queue) Memory(ctx context.Context) (used, most int64, err error) {
	masters, err := q.masters(ctx)
	for i := 0; err == nil && i < len(masters); i++ {
		var got info
		if got, err = serverInfo(ctx, q.nodes.to(masters[i])); err != nil {
			break
		}
		u, _ := strconv.ParseInt(got["used_memory"], 10, 64) // "": the server does not say
		m, _ := strconv.ParseInt(got["maxmemory"], 10, 64)
		if i == 0 || float64(u)/float64(max(m, 1)) > float64(used)/float64(max(most, 1)) {
			used, most = u, m
		}
	}
	return used, most, annotate(err, "read the memory of redis")
}

// MemoryPercent returns how much of its maxmemory the fullest master uses, in percent; 0: there is no
// limit, or none is known.
func (q *Queue) MemoryPercent(ctx context.Context) (int, error) {
	masters, err := q.masters(ctx)
	if err != nil {
		return 0, annotate(err, "measure the memory of redis")
	}
	most := 0
	for _, addr := range masters {
		text, err := q.confirmer.conns.to(addr).Info(ctx, "memory").Result()
		if err != nil {
			return 0, annotate(err, "measure the memory of redis")
		}
		got := info{}
		got.add(text)
		most = max(most, got.memory())
	}
	return most, nil
}

// memory is how much of its maxmemory a server uses, in percent, as it counts itself: without the
// buffers of replicas and the append-only file.
func (i info) memory() int {
	number := func(name string) int64 {
		n, err := strconv.ParseInt(i[name], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	limit := number("maxmemory")
	if limit <= 0 {
		return 0
	}
	used := max(0, number("used_memory")-number("mem_not_counted_for_evict"))
	return int(min(used*100/limit, 1000))
}
