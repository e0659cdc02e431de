package queue

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/endpoint"
)

// Subject is whose events are to be erased: those of one ordering key of one tenant.
type Subject struct {
	Tenant string // "": of events without one
	Key    string
	// Events are patterns with *; none: all. Keys of different tables may be the same.
	Events []string
	// Elsewhere are endpoints that get none of the tenant's events. Their queues are not read.
	Elsewhere []string
}

// Is reports whether an event is the subject's.
func (s *Subject) Is(tenant, key, event string) bool {
	return tenant == s.Tenant && key == s.Key && s.names(event)
}

func (s *Subject) names(event string) bool {
	return len(s.Events) == 0 || endpoint.CoveredBy(s.Events, event)
}

// Forgotten is how much of a subject the queue has held.
type Forgotten struct {
	Queued      int64 `json:"queued"`       // events that waited, for a retry too
	Resends     int64 `json:"resends"`      // events that waited to be sent again
	DeadLetters int64 `json:"dead_letters"` // not yet in the state database, as are the attempts
	Attempts    int64 `json:"attempts"`
	// Unreadable are entries of the log of attempts that are not what a dispatcher has written: they stay, and may have some of the subject.
	Unreadable int64 `json:"-"`
}

// Add adds what another call has found.
func (f *Forgotten) Add(o Forgotten) {
	f.Queued += o.Queued
	f.Resends += o.Resends
	f.DeadLetters += o.DeadLetters
	f.Attempts += o.Attempts
	f.Unreadable += o.Unreadable
}

// CountSubject returns how much of the subject there is. It reads all that is queued for
// the endpoints that may have some.
func (q *Queue) CountSubject(ctx context.Context, s Subject) (Forgotten, error) {
	return q.eachOfSubject(ctx, s, false)
}

// Forget removes the subject's events from the queues of the endpoints, their attempts,
// and their dead letters. Owners drop what they have in memory and read again, so that
// the other events keep their order; a request in flight is not taken back. With an error it
// returns what it has removed, of which the owners know; calling it again finishes the rest.
func (q *Queue) Forget(ctx context.Context, s Subject) (Forgotten, error) {
	found, err := q.eachOfSubject(ctx, s, true)
	if woken := q.wakeForgotten(context.WithoutCancel(ctx)); err == nil {
		err = woken
	}
	return found, err
}

// SubjectReceivers returns the endpoints, in order, that were sent something of the subject,
// as far as the log in Redis says.
func (q *Queue) SubjectReceivers(ctx context.Context, s Subject) ([]string, error) {
	names, err := q.endpointsOfSubject(ctx, &s)
	receivers := []string{}
	for _, name := range names {
		n, _, err := q.forgetAttempts(ctx, name, &s, false)
		if err != nil {
			return nil, annotate(err, "look for a key's attempts of endpoint %q", name)
		}
		if n > 0 {
			receivers = append(receivers, name)
		}
	}
	return receivers, err
}

func (q *Queue) endpointsOfSubject(ctx context.Context, s *Subject) ([]string, error) {
	names, err := q.EndpointNames(ctx)
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(s.Elsewhere, name) }), err
}

func (q *Queue) eachOfSubject(ctx context.Context, s Subject, remove bool) (all Forgotten, err error) {
	names, err := q.endpointsOfSubject(ctx, &s)
	if err != nil {
		return all, err
	}
	// After the streams, from which events move there.
	defer func() {
		if err == nil {
			var n int64
			n, err = q.forgetOverflowed(ctx, &s, remove)
			all.Queued += n
		}
	}()
	for _, name := range names {
		for _, part := range []struct {
			stream string
			count  *int64
		}{{q.keys.events(name), &all.Queued}, {q.keys.side(name), &all.Resends}, {q.keys.dead(name), &all.DeadLetters}} {
			n, err := q.forgetIn(ctx, name, part.stream, &s, remove)
			*part.count += n
			if err != nil {
				return all, annotate(err, "look for a key's events of endpoint %q", name)
			}
		}
		n, unreadable, err := q.forgetAttempts(ctx, name, &s, remove)
		all.Attempts, all.Unreadable = all.Attempts+n, all.Unreadable+unreadable
		if err != nil {
			return all, annotate(err, "look for a key's attempts of endpoint %q", name)
		}
	}
	return all, nil
}

// subjectScript returns where to read on ("": there is no more), and the ids, types and commit times of the
// entries of a tenant and a key, after a place. It reads little at a time, to hold
// Redis up for no longer.
var subjectScript = redis.NewScript(luaNaming + `
local out, from, n, bytes, step = {''}, ARGV[1], 0, 0, 16
while n < 2000 and bytes < 2097152 do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', step)
  for i = 1, #page do
    local f = page[i][2]
    local committed, name, tenant, key = naming(f)
    for j = 2, #f, 2 do bytes = bytes + #f[j] end
    if key == ARGV[2] and tenant == ARGV[3] then
      out[#out + 1] = page[i][1]
      out[#out + 1] = name
      out[#out + 1] = committed
    end
  end
  n = n + #page
  if #page < step then return out end
  from = '(' .. page[#page][1]
end
out[1] = from
return out`)

// forgetScript removes entries, with what is kept of their attempts, and has the owner read
// again. Its first write is one that a full Redis allows: see ackScript. KEYS: a
// stream, the state, and unless it is that of dead letters, whose ids are their own: the
// retries, their attempts; and of first deliveries the counts of an interval. ARGV: the age of these in ms, the
// field that counts the entries, the ids.
var forgetScript = redis.NewScript(`
local n = redis.call('XDEL', KEYS[1], unpack(ARGV, 3))
if #KEYS > 2 then
  redis.call('ZREM', KEYS[3], unpack(ARGV, 3))
  redis.call('HDEL', KEYS[4], unpack(ARGV, 3))
end
if n > 0 then
  redis.call('HINCRBY', KEYS[2], 'forgotten', 1)
  if #KEYS > 4 then
    redis.call('HINCRBY', KEYS[5], ARGV[2], n)
    if redis.call('PTTL', KEYS[5]) < 0 then redis.call('PEXPIRE', KEYS[5], ARGV[1]) end
  end
end
return n`)

// forgetIn returns how many entries of one of the endpoint's streams are the subject's, or
// how many were removed.
func (q *Queue) forgetIn(ctx context.Context, endpoint, stream string, s *Subject, remove bool) (total int64, err error) {
	keys := []string{stream, q.keys.state(endpoint)}
	if stream != q.keys.dead(endpoint) {
		keys = append(keys, q.keys.due(endpoint), q.keys.attempts(endpoint))
	}
	for at := "-"; at != ""; {
		found, err := subjectScript.Run(ctx, q.client, keys[:1], at, s.Key, s.Tenant).StringSlice()
		if err != nil {
			return total, err
		}
		ids := map[tallied][]any{}
		for i := 1; i+2 < len(found); i += 3 {
			if s.names(found[i+1]) {
				group := tallied{}
				if stream == q.keys.events(endpoint) {
					group = tallyOfEntry(found[i], found[i+2], FateDropped)
				}
				ids[group] = append(ids[group], found[i])
			}
		}
		for group, ids := range ids {
			n := int64(len(ids))
			if remove {
				keys := keys
				if group != (tallied{}) {
					keys = append(slices.Clone(keys), q.keys.endpointTally(endpoint, group.interval))
				}
				if n, err = forgetScript.Run(ctx, q.client, keys, append([]any{TallyAge.Milliseconds(), group.field()}, ids...)...).Int64(); err != nil {
					return total, err
				}
			}
			total += n
		}
		at = found[0]
	}
	return total, nil
}

// cutLogScript replaces an entry of the log by one with fewer attempts, or none.
var cutLogScript = redis.NewScript(`
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '0' then redis.call('XADD', KEYS[1], '*', 'n', ARGV[2], 'b', ARGV[3]) end
redis.call('HINCRBY', KEYS[2], 'log_records', tonumber(ARGV[2]) - tonumber(found[1][2][2]))
redis.call('HINCRBY', KEYS[2], 'log_bytes', #ARGV[3] - #found[1][2][4])
return 1`)

// forgetAttempts is forgetIn for the log of attempts, whose entries have many. One that cannot be read is left as it is, and counted.
func (q *Queue) forgetAttempts(ctx context.Context, endpoint string, s *Subject, remove bool) (total, unreadable int64, err error) {
	const page = 64
	for at := "-"; ; {
		entries, err := q.page(ctx, q.keys.log(endpoint), at, page)
		if err != nil {
			return total, unreadable, err
		}
		for _, e := range entries {
			at = "(" + e.ID
			text, _ := e.Values["b"].(string)
			kept, left, cut, err := s.cutOut(text)
			if err != nil {
				unreadable++
				continue
			}
			if remove && cut > 0 {
				keys := []string{q.keys.log(endpoint), q.keys.state(endpoint)}
				done, err := cutLogScript.Run(ctx, q.client, keys, e.ID, strconv.FormatInt(left, 10), kept).Int64()
				if err != nil {
					return total, unreadable, err
				}
				cut *= done // 0: it has been stored meanwhile
			}
			total += cut
		}
		if len(entries) < page {
			return total, unreadable, nil
		}
	}
}

// cutOut returns the records of an entry of the log that are not the subject's, how many these are, and how many the others.
func (s *Subject) cutOut(text string) (kept string, left, cut int64, err error) {
	var others strings.Builder
	for text != "" {
		l, rest, err := nextAttempt(text)
		if err != nil {
			return "", 0, 0, err
		}
		if s.Is(l.message.Tenant, l.message.Key, l.message.Type) {
			cut++
		} else {
			left++
			others.WriteString(text[:len(text)-len(rest)])
		}
		text = rest
	}
	return others.String(), left, cut, nil
}

// ForgetParked counts, or removes, the parked changes of the subject. of says of what
// stands for a parked change's tenant and key whether they are the subject's, and whether
// that is known; unknown is how many there are of which it is not.
func (q *Queue) ForgetParked(ctx context.Context, s Subject, of func(subject string) (is, known bool), remove bool) (n, unknown int64, err error) {
	var ids []ID
	err = q.eachParked(ctx, ParkedFilter{}, ID{}, false, func(p *ParkedChange) bool {
		is, known := of(p.Subject)
		switch {
		case !s.names(p.Type) || p.identity != "": // timers are counted by CountKeyTimers

		case is:
			ids = append(ids, p.ID)
		case !known:
			unknown++
		}
		return true
	})
	if err != nil || !remove {
		return int64(len(ids)), unknown, err
	}
	n, err = q.DropParked(ctx, ids)
	return n, unknown, err
}
