package dispatch

import (
	"context"
	"slices"
	"time"

	"gancho/delivery/queue"
)

// NoticeKind says what has happened to an endpoint.
type NoticeKind string

// The kinds of notices.
const (
	// NoticePaused: the endpoint was suspended; its events are kept.
	NoticePaused NoticeKind = "paused"
	// NoticeFailing: every attempt has failed for a while.
	NoticeFailing NoticeKind = "failing"
	// NoticeRecovered: the first success after the endpoint was suspended, after a warning
	// that it fails, or after the breaker had been open for a minute or more.
	NoticeRecovered NoticeKind = "recovered"
	// NoticeDeadLetter: an event became a dead letter.
	NoticeDeadLetter NoticeKind = "dead_letter"
)

// Notice is something that somebody should know of an endpoint.
//
// Paused, failing and recovered are sent at least once: what Redis keeps of the endpoint
// says whether they have been, and otherwise its next owner sends them. Dead
// letters are announced when Redis has them, and not again if the process ends
// before; of a flood, not all are (the dead letters themselves are all kept).
type Notice struct {
	Kind     NoticeKind
	Endpoint string
	// Reason says why the endpoint is suspended, why the event is a dead letter, or how the
	// last attempt has failed.
	Reason string
	// Since is when the endpoint was suspended, or since when it had not answered.
	// Of a dead letter: when the event became one.
	Since time.Time
	// Event, WebhookID and Tenant are the dead letter's, and Attempts how often
	// it was sent. Its body is not kept for the notice. Of an endpoint that fails they are the
	// last attempt's, and Attempts all of a row, as far as this owner has seen them.
	Event, WebhookID, Tenant string
	Attempts                 int
	// Stage is which warnings that the endpoint fails this is, Pauses when it will be suspended
	// (zero: never), and the rest what the last attempt was answered; Answer is the start of that.
	Stage         int64
	Pauses        time.Time
	Status        int
	Class, Answer string
}

// maxNotices bounds the notices of one endpoint that wait.
const maxNotices = 256

// noticeQueue is the notices of one courier that were not sent, the oldest first.
// At most one goroutine sends them; until it succeeds, the first one stays.
type noticeQueue struct {
	wanted    bool
	waiting   []Notice
	unwritten map[queue.ID]Notice // of dead letters, until Redis has them
	active    bool                // a goroutine sends
	retries
	dropped int // dead letters, since a notice was sent last
}

func newNoticeQueue(wanted bool) noticeQueue {
	return noticeQueue{wanted: wanted}
}

// add queues a notice, unless it is one too many.
func (q *noticeQueue) add(n Notice) {
	switch {
	case !q.wanted:
	case n.Kind == NoticeDeadLetter && len(q.waiting) >= maxNotices:
		q.dropped++
	case n.Kind == NoticeRecovered && slices.ContainsFunc(q.waiting, func(w Notice) bool { return w.Kind == NoticeRecovered }):
	default:
		q.waiting = append(q.waiting, n)
	}
}

func (q *noticeQueue) expectDead(id queue.ID, n Notice) {
	if !q.wanted {
		return
	}
	if q.unwritten == nil {
		q.unwritten = map[queue.ID]Notice{}
	}
	q.unwritten[id] = n
}

func (q *noticeQueue) confirmDead(id queue.ID) (n Notice, ok bool) {
	n, ok = q.unwritten[id]
	delete(q.unwritten, id)
	return n, ok
}

// sent removes the first notice, and returns how many dead letters were dropped.
func (q *noticeQueue) sent() (dropped int) {
	q.waiting = q.waiting[1:]
	dropped, q.failures, q.dropped = q.dropped, 0, 0
	return dropped
}

func (c *courier) notifyLocked(n Notice) {
	c.notices.add(n)
	c.startNotifyingLocked(time.Now())
}

func (c *courier) startNotifyingLocked(now time.Time) {
	if c.notices.active || c.lease.lost || len(c.notices.waiting) == 0 {
		return
	}
	if now.Before(c.notices.retryAt) {
		c.alarm.set(c.notices.retryAt)
		return
	}
	c.notices.active = true
	c.spawn(c.sendNotices)
}

func (c *courier) sendNotices(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.lease.lost && len(c.notices.waiting) > 0 {
		n := c.notices.waiting[0]
		c.mu.Unlock()
		err := c.o.Notify(ctx, n)
		c.mu.Lock()
		if err != nil {
			c.noticeFailedLocked(err)
			return
		}
		c.noticeSentLocked(n)
	}
	c.notices.active = false
}

// noticeFailedLocked tries again later. An owner that is closing leaves the rest
// to the next one, which finds in Redis what was not sent.
func (c *courier) noticeFailedLocked(err error) {
	c.notices.active = false
	first := c.notices.failed(time.Now())
	if c.lease.closing {
		c.notices.waiting = nil
		return
	}
	if first {
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg("notice about the endpoint not sent: trying again")
	}
	c.alarm.set(c.notices.retryAt)
}

func (c *courier) noticeSentLocked(n Notice) {
	switch n.Kind {
	case NoticePaused:
		c.health.Noticed = n.Since.UnixMilli()
	case NoticeFailing:
		if c.health.Failing == n.Since.UnixMilli() {
			c.health.Warned |= n.Stage
		}
	case NoticeRecovered:
		if c.health.Trouble = 0; c.suspension.reason != "" { // since
			c.health.Trouble = c.suspension.since.UnixMilli()
		}
	}
	if dropped := c.notices.sent(); dropped > 0 {
		c.log.Warn().Str("endpoint", c.name).Int("dead_letters", dropped).Msg("too many dead letters at a time: not all were announced")
	}
	c.startWritingLocked()
}
