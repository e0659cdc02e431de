package dispatch

import (
	"testing"
	"time"
)

func TestNoticeQueue(t *testing.T) {
	t.Parallel()
	q := newNoticeQueue(true)
	q.add(Notice{Kind: NoticeRecovered})
	q.add(Notice{Kind: NoticeRecovered}) // it is waiting already
	for n := range maxNotices + 5 {
		q.add(Notice{Kind: NoticeDeadLetter, Attempts: n})
	}
	q.add(Notice{Kind: NoticePaused}) // whatever waits
	if n := len(q.waiting); n != maxNotices+1 || q.waiting[n-1].Kind != NoticePaused {
		t.Fatalf("%d notices wait, want %d and one of a pause", n, maxNotices)
	}
	now := time.Now()
	if !q.failed(now) || q.failed(now) || q.retryAt.Before(now.Add(100*time.Millisecond)) || q.waiting[0].Kind != NoticeRecovered {
		t.Errorf("after failures: retry at %s, first %s", q.retryAt, q.waiting[0].Kind)
	}
	if dropped := q.sent(); dropped != 6 || q.waiting[0].Attempts != 0 || q.failures != 0 {
		t.Errorf("%d dead letters dropped, want 6", dropped)
	}
	if q.sent() != 0 {
		t.Error("dropped dead letters are counted twice")
	}
}

func TestNoticesOfDeadLettersWaitForRedis(t *testing.T) {
	t.Parallel()
	q := newNoticeQueue(true)
	q.expectDead(at(t, 1), Notice{WebhookID: "1"})
	if _, ok := q.confirmDead(at(t, 2)); ok {
		t.Error("a notice of another event")
	}
	if n, ok := q.confirmDead(at(t, 1)); !ok || n.WebhookID != "1" || len(q.waiting)+len(q.unwritten) != 0 {
		t.Errorf("got %+v, %t", n, ok)
	}
	off := newNoticeQueue(false)
	off.expectDead(at(t, 1), Notice{})
	if off.add(Notice{Kind: NoticePaused}); len(off.waiting)+len(off.unwritten) != 0 {
		t.Error("notices are kept without a Notify")
	}
}
