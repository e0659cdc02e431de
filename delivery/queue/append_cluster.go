package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// section is what of a batch goes into one slot of a cluster: one script, which compares the fencing token.
type section struct {
	slot         uint16
	commands     []redis.Cmder
	destinations []int  // the commands' places in the batch
	chain        *chain // counts it
	number       uint64 // as this one
	relink       bool   // as relinkScript does
	keys         []string
}

// sectionScript appends the entries unless the token of any of its streams is newer than the one they are
// appended under; 0: under none. It is in place of a MULTI/EXEC: as that, it appends nothing on a full Redis, because the
// first command that writes is an XADD. KEYS: the chain, and each stream's token.
const sectionScript = `
local newest = tonumber(ARGV[1])
for i = 2, #KEYS do
  if newest > 0 and tonumber(redis.call('GET', KEYS[i]) or '0') > newest then return redis.error_reply('FENCED by a newer token') end
end
local replies, i = {}, 4
while i <= #ARGV do
  local last = i + tonumber(ARGV[i])
  local reply = redis.pcall(unpack(ARGV, i + 1, last))
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'OOM', 1, true) and #replies == 0 then return reply end
  replies[#replies + 1] = reply
  i = last + 1
end
local count = ARGV[3] == '1' and ARGV[2] - redis.call('BITFIELD', KEYS[1], 'GET', 'i64', '#0')[1] or 1
replies[#replies + 1] = redis.call('BITFIELD', KEYS[1], 'INCRBY', 'i64', '#0', count, 'SET', 'i64', '#1', ARGV[2])
for i = 2, #KEYS do
  if newest > 0 and redis.call('GET', KEYS[i]) ~= ARGV[1] then redis.call('SET', KEYS[i], ARGV[1]) end
end
return replies`

// call is the command that appends the section.
func (s *section) call(ctx context.Context, token uint64) *redis.Cmd {
	n := 6 + len(s.keys)
	for _, c := range s.commands {
		n += 1 + len(c.Args())
	}
	args := append(make([]any, 0, n), "EVAL", sectionScript, len(s.keys))
	for _, key := range s.keys {
		args = append(args, key)
	}
	relink := 0
	if s.relink {
		relink = 1
	}
	args = append(args, token, s.number, relink)
	for _, c := range s.commands {
		args = append(append(args, len(c.Args())), c.Args()...)
	}
	return redis.NewCmd(ctx, args...)
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
			if err == nil || worse(failure) {
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

// worse reports whether an error is one that no other hides: the batch is not to be appended again.
func worse(err error) bool { return errors.Is(err, ErrRestarted) || errors.Is(err, ErrFenced) }

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
			s = &section{slot: slot, chain: q.appender.chainLocked(first), keys: []string{first.chain}}
			s.number, s.relink = s.chain.next()
			bySlot[slot] = s
			parts[addr] = append(parts[addr], s)
		}
		if token := q.keys.tokenOf(b.destinations[i].stream.endpoint); !slices.Contains(s.keys, token) {
			s.keys = append(s.keys, token)
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
		ends[i] = s.call(ctx, b.token)
		_ = pipe.Process(ctx, ends[i]) // this only queues
	}
	_, _ = pipe.Exec(ctx) // each command has its error
	for i, s := range sections {
		entries, vanished, failure := s.outcome(ends[i])
		refused = append(refused, entries...)
		if len(vanished) > 0 {
			failure = q.vanished(b.destinations[vanished[0]].stream)
		}
		if err == nil || worse(failure) {
			err = failure
		}
	}
	return refused, err
}

// outcome reads the replies to a section's script. It returns which entries were refused as
// known, and which as of a stream that has vanished.
func (s *section) outcome(exec *redis.Cmd) (refused, vanished []int, err error) {
	replies, err := exec.Slice()
	if err != nil {
		return nil, nil, unreachable(fenced(err))
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
