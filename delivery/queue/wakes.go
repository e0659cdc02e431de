package queue

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"gancho/internal/retry"
)

// Wake is why a queue is to be looked at. The zero value: leases or states may have changed, or a notification was missed.
type Wake struct {
	Events   bool // something was appended to an endpoint's streams
	Overflow bool // the oldest events of endpoints are to move: AskOverflow was called, and is called again until they have
}

// wakeOf reads what was published.
func wakeOf(payload string) (w Wake) {
	for name := range strings.SplitSeq(payload, "\n") {
		switch {
		case strings.Contains(name, overflowMark):
			w.Overflow = true
		case name != WakeAll:
			w.Events = true
		}
	}
	return w
}

// ListenTo calls woken with the prefix of each of several queues in this one's Redis for which a process has appended something, or
// asks that it be looked at, until the context ends; and with all when a notification may have been missed. What this process publishes is heard,
// too. The queues need not be open. They are asked for again whenever changed is signalled.
func (q *Queue) ListenTo(ctx context.Context, prefixes func() []string, changed <-chan struct{}, woken func(prefix string, why Wake)) {
	for failures := 1; ctx.Err() == nil; failures++ {
		if q.listenToOnce(ctx, prefixes, changed, woken) {
			failures = 1
		}
		_ = retry.Wait(ctx, Backoff(failures)) // the loop sees the context's end
	}
}

func (q *Queue) listenToOnce(ctx context.Context, prefixes func() []string, changed <-chan struct{}, woken func(prefix string, why Wake)) (connected bool) {
	sub, err := q.subscribe(ctx) // to its own, so that there is always one
	if err != nil {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	defer func() { _ = sub.Close() }() // the second time it says that it was closed
	if _, err := sub.Receive(ctx); err != nil {
		return false
	}
	following := make(chan struct{})
	go func() {
		defer close(following)
		followChannels(ctx, sub, prefixes, changed)
	}()
	defer func() { <-following }()
	defer cancel()
	own := q.keys.wake()
	for {
		m, err := sub.Receive(ctx)
		if err != nil {
			return true
		}
		var channel string
		var why Wake
		switch m := m.(type) {
		case *redis.Subscription: // what was published before it was missed
			if m.Kind == "subscribe" {
				channel = m.Channel
			}
		case *redis.Message:
			channel, why = m.Channel, wakeOf(m.Payload)
		}
		if prefix, ok := strings.CutSuffix(channel, wakeSuffix); ok && channel != own {
			woken(prefix, why)
		}
	}
}

// followChannels subscribes to the queues that there are until the context ends.
func followChannels(ctx context.Context, sub *redis.PubSub, prefixes func() []string, changed <-chan struct{}) {
	has := map[string]bool{}
	for {
		now := map[string]bool{}
		var added, left []string
		for _, prefix := range prefixes() {
			channel := prefix + wakeSuffix
			if now[channel] = true; !has[channel] {
				added = append(added, channel)
			}
		}
		for channel := range has {
			if !now[channel] {
				left = append(left, channel)
			}
		}
		has = now
		// An error is the connection's, which its reader sees.
		for part := range slices.Chunk(added, channelsAtOnce) {
			_ = sub.Subscribe(ctx, part...)
		}
		if len(left) > 0 {
			_ = sub.Unsubscribe(ctx, left...)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// channelsAtOnce is how many channels are subscribed to in one command.
const channelsAtOnce = 500
