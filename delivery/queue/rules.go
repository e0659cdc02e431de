package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// numberRulesScript writes the numbers that this process knows, should Redis have lost
// them, unless it has given them to others since; gives the rules that have none the next
// ones; and returns 1 and all rules with their numbers. It refuses an epoch that is no
// longer the queue's with 0, and with -1 when there is none. What it writes first, a full
// Redis allows, for the reason that ackScript gives.
var numberRulesScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return {-1} end
if epoch ~= ARGV[1] then return {0} end
local prefix, asked = 'rule:' .. epoch .. ':', 3 + 2 * tonumber(ARGV[2])
local numbers, taken, free = {}, {}, 0
local function add(rule, n)
  numbers[rule], taken[n], free = n, true, math.max(free, n + 1)
end
local function write(rule, n)
  redis.call('HSET', KEYS[1], prefix .. rule, n)
  add(rule, n)
end
local record = redis.call('HGETALL', KEYS[1])
for i = 1, #record, 2 do
  if record[i]:sub(1, #prefix) == prefix then add(record[i]:sub(#prefix + 1), tonumber(record[i + 1])) end
end
for i = 3, asked - 1, 2 do
  local n = tonumber(ARGV[i + 1])
  if not numbers[ARGV[i]] and not taken[n] then write(ARGV[i], n) end
end
for i = asked, #ARGV do
  if not numbers[ARGV[i]] then write(ARGV[i], free) end
end
local reply = {1}
for rule, n in pairs(numbers) do
  reply[#reply + 1], reply[#reply + 2] = rule, n
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
		return nil, ErrNotClaimed
	}
	numbers, err := q.sources.numberLocked(ctx, rules)
	return numbers, annotate(err, "number rules")
}

// recordVersionsScript writes the versions of rules, unless the epoch is no longer the
// queue's. What it writes first, a full Redis allows, for the reason that ackScript gives.
var recordVersionsScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], 'version:' .. ARGV[1] .. ':' .. ARGV[i], ARGV[i + 1]) end
return 1`)

// RecordVersions remembers in which version the rules run, in the order of the rules. Call it
// after NumberRules.
func (q *Queue) RecordVersions(ctx context.Context, rules, versions []string) error {
	q.sources.mu.Lock()
	defer q.sources.mu.Unlock()
	if q.sources.claimed == nil {
		return ErrNotClaimed
	}
	args := []any{int(q.sources.claimed.epoch)}
	for i, rule := range rules {
		args = append(args, rule, versions[i])
	}
	recorded, err := recordVersionsScript.Run(ctx, q.sources.client, []string{q.sources.key}, args...).Int()
	if err == nil && recorded == 0 {
		err = ErrClaimLost
	}
	return annotate(err, "record the versions of the rules")
}

// NumberedRules returns the rules that have numbers in the newest epoch, those that a
// bridge has run with, and the versions that RecordVersions had last; "" where none is known:
// Redis has lost it, or a Gancho that did not record them has run the rule. It needs no Claim.
func (q *Queue) NumberedRules(ctx context.Context) (map[string]string, error) {
	record, err := q.sources.client.HGetAll(ctx, q.sources.key).Result()
	if err != nil {
		return nil, annotate(err, "read the rules' numbers")
	}
	rules, epoch := map[string]string{}, record["epoch"]
	for field := range record {
		if rule, numbered := strings.CutPrefix(field, "rule:"+epoch+":"); numbered {
			rules[rule] = record["version:"+epoch+":"+rule]
		}
	}
	return rules, nil
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
	reply, err := numberRulesScript.Run(ctx, s.client, []string{s.key}, args...).Slice()
	if err != nil {
		return nil, err
	}
	switch reply[0] {
	case int64(-1):
		return nil, &LostError{"the record of the source"}
	case int64(0):
		return nil, ErrClaimLost
	}
	all := make(map[string]int, len(reply)/2)
	for pair := range slices.Chunk(reply[1:], 2) {
		rule, _ := pair[0].(string)
		n, _ := pair[1].(int64)
		all[rule] = int(n)
	}
	numbers := make([]int, len(rules))
	for i, rule := range rules {
		if numbers[i] = all[rule]; numbers[i] >= 1<<nBits {
			return nil, fmt.Errorf("all %d numbers that fit in a webhook-id are taken, and a rule that is gone keeps its own; "+
				"go back to tables and events that rules had before, or start with an empty Redis once everything is delivered", 1<<nBits)
		}
	}
	s.numbers = all
	return numbers, nil
}
