package queue

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// pending is a position that was recorded and is not known to be durable.
type pending struct {
	lsn      uint64
	recorded time.Time
	// marks are how far each master's replication was then, by address.
	marks map[string]int64
}

// look asks one master how it stands. Another than the one that was appended
// to is ErrRestarted.
func (q *Queue) look(ctx context.Context, addr string) (info, error) {
	got, err := serverInfo(ctx, q.record.at(addr), "server", "persistence", "replication")
	if err == nil {
		err = q.recognise(addr, got)
	}
	if err != nil {
		if q.ring != nil && isWayError(err) {
			q.ring.suspect(ctx)
		}
		return nil, fmt.Errorf("check durability: %w", unreachable(err))
	}
	return got, nil
}

// lookAtAll asks all masters. That they are not those that were accepted, one
// more or one less, is ErrRestarted: what was appended may have moved with its
// slots.
func (q *Queue) lookAtAll(ctx context.Context) (map[string]info, error) {
	if q.sentinel != nil {
		if err := q.sentinel.watch(ctx); err != nil {
			return nil, fmt.Errorf("check durability: %w", err)
		}
	}
	masters, err := q.masters(ctx)
	if err != nil {
		return nil, fmt.Errorf("check durability: %w", unreachable(err))
	}
	if len(masters) != len(*q.accepted.Load()) {
		return nil, ErrRestarted
	}
	told := make(map[string]info, len(masters))
	for _, addr := range masters {
		if told[addr], err = q.look(ctx, addr); err != nil {
			return nil, err
		}
	}
	return told, nil
}

// marks returns how far each master's replication is, which everything that
// was appended until now is before.
func (q *Queue) marks(ctx context.Context) (map[string]int64, error) {
	told, err := q.lookAtAll(ctx)
	if err != nil {
		return nil, err
	}
	marks := make(map[string]int64, len(told))
	for addr, got := range told {
		if marks[addr], err = strconv.ParseInt(got["master_repl_offset"], 10, 64); err != nil {
			return nil, fmt.Errorf("check durability: parse master_repl_offset: %w", err)
		}
	}
	return marks, nil
}

// durable reports whether a position is on the disk of every master, as they
// told of themselves just now, and with their replicas.
func (q *Queue) durable(p *pending, told map[string]info) (bool, error) {
	now, all := time.Now(), true
	for addr, got := range told {
		if q.mode == durableByAge {
			synced, err := q.synced(got)
			if err != nil {
				return false, err
			}
			all = all && synced
		}
		s := q.standbys[addr]
		before, caughtUp := s.most, s.caughtUp(got, p.marks[addr], now)
		s.tell(&q.log, q.nameOf(addr), got, before, caughtUp, now)
		all = all && caughtUp
	}
	return all, nil
}

// synced reports whether a server has no write outstanding.
func (q *Queue) synced(got info) (bool, error) {
	if got["aof_enabled"] != "1" {
		if q.volatile {
			return true, nil
		}
		return false, &SettingError{"appendonly", "no", "run CONFIG SET appendonly yes: until then nothing is confirmed to the source"}
	}
	if got["aof_last_write_status"] != "ok" {
		return false, fmt.Errorf("check durability: redis cannot write its AOF; see its log and its disk")
	}
	rewriting := got["aof_rewrite_in_progress"] == "1" || got["rdb_bgsave_in_progress"] == "1"
	return got["aof_pending_bio_fsync"] == "0" && !(q.strictAOF && rewriting), nil
}
