package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// section is what of a batch goes into one slot of a cluster: one transaction.
type section struct {
	slot         uint16
	commands     []redis.Cmder
	destinations []int      // the commands' places in the batch
	chain        *chain     // counts it
	link         *redis.Cmd // with this
}

// executeInSlots appends to all nodes of a cluster in parallel. What has been appended stays
// when a part fails: the batch comes again, and is refused there as known.
func (q *Queue) executeInSlots(ctx context.Context, b *Batch, touched []*stream) error {
	parts, err := q.divide(ctx, b)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards err, and the streams' counts of refused entries
	var sent sync.WaitGroup
	for addr, sections := range parts {
		recheck := time.Since(q.appender.checked[addr]) > recheckAfter
		if recheck {
			q.appender.checked[addr] = time.Now()
		}
		sent.Go(func() {
			refused, failure := q.sendSections(ctx, b, addr, sections, recheck)
			mu.Lock()
			defer mu.Unlock()
			for _, i := range refused {
				b.destinations[i].stream.refused++
			}
			if err == nil || errors.Is(failure, ErrRestarted) {
				err = failure
			}
		})
	}
	sent.Wait()
	if err != nil {
		clear(q.appender.checked)
		q.suspectCluster(ctx, err)
		return err
	}
	for addr := range parts { // one that has just answered
		q.wakeOthers(ctx, q.appender.conns.to(addr), q.ownedElsewhere(touched))
		break
	}
	return nil
}

func (q *Queue) divide(ctx context.Context, b *Batch) (map[string][]*section, error) {
	parts, bySlot := map[string][]*section{}, map[uint16]*section{}
	for i, cmd := range q.appender.commands.queue {
		slot := b.destinations[i].stream.slot
		s := bySlot[slot]
		if s == nil {
			addr, err := q.cluster.owner(ctx, slot)
			if err != nil {
				return nil, err
			}
			first := b.destinations[i].stream
			s = &section{slot: slot, chain: q.appender.chainLocked(first)}
			s.link = s.chain.link(first.chain)
			bySlot[slot] = s
			parts[addr] = append(parts[addr], s)
		}
		s.commands = append(s.commands, cmd)
		s.destinations = append(s.destinations, i)
	}
	return parts, nil
}

// sendSections writes one node's sections in one go; refused were there already.
func (q *Queue) sendSections(ctx context.Context, b *Batch, addr string, sections []*section, recheck bool) (refused []int, err error) {
	node := q.appender.conns.to(addr)
	if recheck {
		if err := q.recheck(ctx, addr, node); err != nil {
			return nil, err
		}
	}
	pipe := node.Pipeline()
	ends := make([]*redis.Cmd, len(sections))
	for i, s := range sections {
		_ = pipe.Process(ctx, redis.NewCmd(ctx, "MULTI")) // these only queue
		_ = pipe.BatchProcess(ctx, s.commands...)
		_ = pipe.Process(ctx, s.link)
		ends[i] = pipe.Do(ctx, "EXEC")
	}
	_, _ = pipe.Exec(ctx) // each command has its error
	for i, s := range sections {
		entries, vanished, failure := s.outcome(ends[i])
		refused = append(refused, entries...)
		if len(vanished) > 0 {
			failure = q.vanished(b.destinations[vanished[0]].stream)
		}
		if err == nil || errors.Is(failure, ErrRestarted) {
			err = failure
		}
	}
	return refused, err
}

// outcome reads the replies to a section's EXEC. It returns which entries were refused as
// known, and which as of a stream that has vanished.
func (s *section) outcome(exec *redis.Cmd) (refused, vanished []int, err error) {
	replies, err := exec.Slice()
	if err != nil {
		return nil, nil, appendError(s.commands, err)
	}
	if len(replies) > len(s.destinations) {
		s.chain.linked(replies[len(s.destinations)])
	}
	for i, reply := range replies[:min(len(replies), len(s.destinations))] {
		err, failed := reply.(error)
		switch {
		case reply == nil:
			vanished = append(vanished, s.destinations[i])
		case !failed:
		case refusedAsKnown(err):
			refused = append(refused, s.destinations[i])
		default:
			return refused, vanished, unreachable(err)
		}
	}
	return refused, vanished, nil
}
