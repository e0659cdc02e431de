package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// numberRulesScript writes the numbers that this process knows, should Redis have lost
// them, gives the rules that have none the next ones, and returns 1 and the numbers of
// all that were asked for. It refuses an epoch that is no longer the queue's with 0, and
// with -1 when there is none. What it writes first, a full Redis allows, for the reason
// that ackScript gives.
var numberRulesScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return {-1} end
if epoch ~= ARGV[1] then return {0} end
local prefix, asked = 'rule:' .. epoch .. ':', 3 + 2 * tonumber(ARGV[2])
for i = 3, asked - 1, 2 do redis.call('HSETNX', KEYS[1], prefix .. ARGV[i], ARGV[i + 1]) end
local record, free = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #record, 2 do
  if record[i]:sub(1, #prefix) == prefix then free = math.max(free, record[i + 1] + 1) end
end
local reply = {1}
for i = asked, #ARGV do
  free = free + redis.call('HSETNX', KEYS[1], prefix .. ARGV[i], free)
  reply[#reply + 1] = tonumber(redis.call('HGET', KEYS[1], prefix .. ARGV[i]))
end
return reply`)

// NumberRules returns the numbers, from 0, of rules, which are named by whatever tells
// them apart: n of their events. They are kept beside the source's identity. A rule gets
// its number when it is first seen in the epoch of Claim, in the order given, and keeps it
// whatever the order later; that of a rule that is gone waits for its return. Call it
// after Claim, before the rules' first event is appended. Numbers beyond 16 bits are an
// error.
func (q *Queue) NumberRules(ctx context.Context, rules []string) ([]int, error) {
	q.sources.mu.Lock()
	defer q.sources.mu.Unlock()
	if q.sources.claimed == nil {
		return nil, errNotClaimed
	}
	numbers, err := q.sources.numberLocked(ctx, rules)
	return numbers, annotate(err, "number rules")
}

// numberLocked is NumberRules. It restores what Redis may have lost.
func (s *sources) numberLocked(ctx context.Context, rules []string) ([]int, error) {
	args := []any{int(s.claimed.epoch), len(s.numbers)}
	for rule, n := range s.numbers {
		args = append(args, rule, n)
	}
	for _, rule := range rules {
		args = append(args, rule)
	}
	reply, err := numberRulesScript.Run(ctx, s.client, []string{s.key}, args...).Int64Slice()
	switch {
	case err != nil:
		return nil, err
	case reply[0] < 0:
		return nil, &LostError{"the record of the source"}
	case reply[0] == 0:
		return nil, errClaimLost
	}
	numbers := make([]int, len(rules))
	for i, n := range reply[1:] {
		if n >= 1<<nBits {
			return nil, fmt.Errorf("all %d numbers that fit in a webhook-id are taken, and a rule that is gone keeps its own; "+
				"go back to tables and events that rules had before, or start with an empty Redis once everything is delivered", 1<<nBits)
		}
		numbers[i] = int(n)
	}
	for i, rule := range rules {
		s.numbers[rule] = numbers[i]
	}
	return numbers, nil
}
