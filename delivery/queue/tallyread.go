package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
)

// TallySpan chooses counts by the commits' times, in whole intervals, and by their positions.
type TallySpan struct {
	From, To    time.Time // To is not among them
	First, Last cdc.LSN   // 0: whatever the position
}

// RuleKey is a rule in an interval.
type RuleKey struct {
	Interval int64 // of TallyInterval, from the Unix epoch
	Epoch    uint16
	Rule     int // Event.N
}

// RuleTally is what was counted of a rule's changes.
type RuleTally struct {
	N  [ruleCounts]int64
	To map[string]int64 // by endpoint, events that were given to it
}

// Tallies are the counts of a span.
type Tallies struct {
	// Since is when counting began; zero: nothing is counted yet. Events that were queued before are not complete.
	Since time.Time
	// Epoch and Counted are the newest transaction that is counted.
	Epoch   uint16
	Counted cdc.LSN
	Rules   map[RuleKey]*RuleTally
	Names   map[RuleKey]string // of the rules, without an interval: <table> <number> <event>
}

// EventKey is where an endpoint's event counts, and how.
type EventKey struct {
	RuleKey
	Fate Fate
}

// intervalsAtOnce bounds what one round trip asks for.
const intervalsAtOnce = 256

// Tallies returns what was counted at the capture. A span by positions has each interval that has some of them.
func (q *Queue) Tallies(ctx context.Context, s TallySpan) (*Tallies, error) {
	out := &Tallies{Rules: map[RuleKey]*RuleTally{}}
	record, err := q.client.HGetAll(ctx, q.keys.tallyRecord()).Result()
	if err == nil && record["since"] != "" {
		out.Since, err = parseMicros(record["since"])
	}
	if err != nil {
		return nil, annotate(err, "read what was counted")
	}
	if counted, err := parseCounted(record["counted"]); err == nil {
		out.Epoch, out.Counted = counted.Epoch(), counted.Position().Commit
	}
	to := intervalOf(s.To.Add(TallyInterval - 1))
	from := max(intervalOf(s.From), to-int64(TallyAge/TallyInterval)) // older ones are not kept
	for ; from < to; from += intervalsAtOnce {
		end := min(from+intervalsAtOnce, to)
		replies := make([]*redis.MapStringStringCmd, 0, end-from)
		_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for n := from; n < end; n++ {
				replies = append(replies, p.HGetAll(ctx, q.keys.tallyInterval(n)))
			}
			return nil
		})
		if err != nil {
			return nil, annotate(err, "read what was counted")
		}
		for i, reply := range replies {
			if err := out.add(from+int64(i), reply.Val(), &s); err != nil {
				return nil, err
			}
		}
	}
	out.Names, err = q.ruleNames(ctx)
	return out, err
}

// parseCounted reads <epoch>:<LSN>.
func parseCounted(text string) (ID, error) {
	var epoch uint16
	var lsn uint64
	if _, err := fmt.Sscanf(text, "%d:%d", &epoch, &lsn); err != nil {
		return ID{}, errors.New("read how far was counted: it is not what Gancho has written there")
	}
	return NewID(epoch, cdc.Position{Commit: cdc.LSN(lsn)}, 0)
}

// add adds an interval's fields, if the span has any of its positions.
func (t *Tallies) add(interval int64, fields map[string]string, s *TallySpan) error {
	for field, text := range fields {
		n, err := strconv.ParseInt(text, 10, 64)
		parts := strings.SplitN(field, ":", 4)
		if err != nil || len(parts) < 2 {
			return fmt.Errorf("read what was counted: field %q is not what Gancho has written there", field)
		}
		if len(parts) == 2 { // first and last
			continue
		}
		key, err := ruleKeyOf(interval, parts)
		if err != nil {
			return err
		}
		if first, last := bounds(fields, parts[0]); s.First != 0 && last < s.First || s.Last != 0 && first > s.Last {
			continue
		}
		r := t.Rules[key]
		if r == nil {
			r = &RuleTally{To: map[string]int64{}}
			t.Rules[key] = r
		}
		if parts[2] == "to" && len(parts) == 4 {
			r.To[parts[3]] += n
			continue
		}
		for i, name := range countNames {
			if name == parts[2] {
				r.N[i] += n
			}
		}
	}
	return nil
}

// bounds are the positions of an epoch's commits in an interval.
func bounds(fields map[string]string, epoch string) (first, last cdc.LSN) {
	a, _ := strconv.ParseUint(fields["first:"+epoch], 10, 64) // 0: whatever the position
	b, _ := strconv.ParseUint(fields["last:"+epoch], 10, 64)
	return cdc.LSN(a), cdc.LSN(b)
}

func ruleKeyOf(interval int64, parts []string) (RuleKey, error) {
	epoch, err1 := strconv.ParseUint(parts[0], 10, 16)
	rule, err2 := strconv.Atoi(parts[1])
	if err := errors.Join(err1, err2); err != nil {
		return RuleKey{}, fmt.Errorf("read what was counted: %w", err)
	}
	return RuleKey{interval, uint16(epoch), rule}, nil
}

// ruleNames are the rules' names by their numbers, as far as Redis has them.
func (q *Queue) ruleNames(ctx context.Context) (map[RuleKey]string, error) {
	record, err := q.client.HGetAll(ctx, q.keys.source()).Result()
	if err != nil {
		return nil, annotate(err, "read the rules' numbers")
	}
	names := map[RuleKey]string{}
	for field, text := range record {
		rest, ok := strings.CutPrefix(field, "rule:")
		epoch, name, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			continue
		}
		key, err := ruleKeyOf(0, []string{epoch, text})
		if err != nil {
			return nil, err
		}
		names[key] = name
	}
	return names, nil
}

// Fates returns what became of the events that an endpoint was given in intervals, as far as they
// were in Redis when it was decided.
func (q *Queue) Fates(ctx context.Context, endpoint string, intervals []int64) (map[EventKey]int64, error) {
	out := map[EventKey]int64{}
	asked := map[int64]bool{}
	var days []int64 // the first interval of each
	for _, n := range intervals {
		asked[n] = true
		days = append(days, n-n%intervalsPerDay)
	}
	slices.Sort(days)
	days = slices.Compact(days)
	for at := 0; at < len(days); at += intervalsAtOnce {
		some := days[at:min(at+intervalsAtOnce, len(days))]
		replies := make([]*redis.MapStringStringCmd, 0, len(some))
		_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, n := range some {
				replies = append(replies, p.HGetAll(ctx, q.keys.endpointTally(endpoint, n)))
			}
			return nil
		})
		if err != nil {
			return nil, annotate(err, "read what was counted of endpoint %q", endpoint)
		}
		for i, reply := range replies {
			for field, text := range reply.Val() {
				n, err := strconv.ParseInt(text, 10, 64)
				of, parts := int64(0), strings.Split(field, ":")
				if err == nil && len(parts) == 4 {
					of, err = strconv.ParseInt(parts[0], 10, 64)
				}
				if err != nil || len(parts) != 4 {
					return nil, fmt.Errorf("read what was counted of endpoint %q: field %q is not what Gancho has written there", endpoint, field)
				}
				key, err := ruleKeyOf(some[i]+of, parts[1:])
				if err != nil {
					return nil, err
				}
				if asked[key.Interval] {
					out[EventKey{key, Fate(parts[3])}] += n
				}
			}
		}
	}
	return out, nil
}

// waitingScript returns where to read on ("": there is no more), and the ids and commit times of some
// entries. KEYS: a stream. ARGV: from where.
var waitingScript = redis.NewScript(luaNaming + `
local page, out = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 200), {''}
for i = 1, #page do
  out[#out + 1] = page[i][1]
  out[#out + 1] = (naming(page[i][2]))
end
if #page == 200 then out[1] = '(' .. page[200][1] end
return out`)

// WaitingByRule counts the events that wait in the endpoint's stream in Redis after an id, the end of
// what is in the Overflow. Those of transactions that were not counted when t was read are uncounted.
func (q *Queue) WaitingByRule(ctx context.Context, endpoint string, after ID, t *Tallies) (waiting map[RuleKey]int64, uncounted int64, err error) {
	var counted ID
	if t.Counted != 0 {
		if counted, err = NewID(t.Epoch, cdc.Position{Commit: t.Counted}, 0); err != nil {
			return nil, 0, err
		}
	}
	waiting = map[RuleKey]int64{}
	err = q.eachWaiting(ctx, endpoint, after, func(id ID, committed time.Time) bool {
		if id.hi > counted.hi {
			uncounted++
		} else {
			waiting[RuleKey{intervalOf(committed), id.Epoch(), id.N()}]++
		}
		return true
	})
	return waiting, uncounted, err
}

// eachWaiting calls yield with the events in the endpoint's stream after an id, until that returns false.
func (q *Queue) eachWaiting(ctx context.Context, endpoint string, after ID, yield func(ID, time.Time) bool) error {
	for at := "(" + after.String(); at != ""; {
		page, err := waitingScript.Run(ctx, q.client, []string{q.keys.events(endpoint)}, at).StringSlice()
		if err != nil {
			return annotate(err, "count what waits for endpoint %q", endpoint)
		}
		for i := 1; i+1 < len(page); i += 2 {
			id, err := ParseID(page[i])
			if err != nil {
				return err
			}
			committed, err := parseMicros(page[i+1])
			if err != nil {
				return err
			}
			if !yield(id, committed) {
				return nil
			}
		}
		at = page[0]
	}
	return nil
}
