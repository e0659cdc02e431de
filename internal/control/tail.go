package control

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/state"
)

// The pace of tails.
const (
	// MaxTailLines is how many attempts a second a tail shows; the rest is counted.
	MaxTailLines = 20
	// tailTick is how often the log is read, for all tails together.
	tailTick = time.Second
	// tailKept is how many of the last readings are kept: a tail that needs longer for one misses the others.
	tailKept = 5
	// tailIdle is after how long without a tail the log is followed from now on again, not from there.
	tailIdle = 10 * time.Second
	// tailQuiet is the longest that Next waits.
	tailQuiet = 5 * time.Second
	// tailPatience is how long one reading may take.
	tailPatience = 10 * time.Second
)

// tails reads the log once for all tails. It has no goroutine: of the tails that wait for the next reading, the first one does it.
type tails struct {
	mu       sync.Mutex // held while the log is read: the others wait for the same
	log      *state.Tail
	read     time.Time // when the newest reading ended
	number   int64     // of it, from 1 on
	readings [][]state.Attempt
}

// after returns the readings that came after the one with this number, the oldest first, and the newest one's number. missed: there were more,
// which are not kept any more.
func (t *tails) after(ctx context.Context, store *state.Store, number int64) (found [][]state.Attempt, newest int64, missed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.log == nil || now.Sub(t.read) > tailIdle {
		t.log = store.Tail()
	}
	if now.Sub(t.read) >= tailTick {
		// It is for others, too, and does not end with the one who has begun it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tailPatience)
		defer cancel()
		rows, err := t.log.Next(ctx)
		t.read = time.Now()
		if err != nil {
			return nil, number, false, err
		}
		t.number++
		t.readings = append(t.readings, rows)
		if len(t.readings) > tailKept {
			t.readings = slices.Delete(t.readings, 0, 1)
		}
	}
	behind := t.number - number
	if number == 0 { // it begins
		return nil, t.number, false, nil
	}
	kept := int64(len(t.readings))
	return slices.Clone(t.readings[kept-min(kept, behind):]), t.number, behind > kept, nil
}

// TailLines is what was attempted in about a second, as far as a tail's filter chooses it.
type TailLines struct {
	// Items are the newest ones, the newest first: at most MaxTailLines.
	Items []state.Attempt `json:"items"`
	// More is how many there were beside them.
	More int `json:"more"`
	// Missed: the client was too slow, and there may be more that nobody has counted.
	Missed bool `json:"missed,omitempty"`
}

// Tail follows what is attempted. It is for one goroutine, and needs no end.
type Tail struct {
	service *Service
	filter  state.Filter
	events  *queue.Router // nil: all
	shown   func(endpoint, class string, text, answer *string)
	number  int64
}

// Tail returns one of the attempts that the filter's endpoint, tenant, events and outcome choose; nothing else may be in the filter. It begins
// now. A tenant sees of endpoints that are not its own only how its events ended. Needs Viewer.
func (s *Service) Tail(ctx context.Context, a Actor, f state.Filter) (*Tail, error) {
	if _, err := s.stored(a, state.Viewer); err != nil {
		return nil, err
	}
	if err := checkEvents(f.Events); err != nil {
		return nil, err
	}
	if f.Outcome != "" && !slices.Contains(Outcomes(), f.Outcome) {
		return nil, invalid("/outcome", "write one of "+strings.Join(Outcomes(), ", "), "the outcome %q does not exist", f.Outcome)
	}
	f, err := a.scope(f)
	if err != nil {
		return nil, err
	}
	t := &Tail{service: s, filter: f}
	if len(f.Events) > 0 {
		t.events = queue.NewRouter([]*endpoint.Endpoint{{Events: f.Events, State: endpoint.Active}})
	}
	if t.shown, err = s.shown(ctx, a); err != nil {
		return nil, err
	}
	_, t.number, _, err = s.tails.after(ctx, s.Store, 0)
	return t, err
}

// Next waits about a second for what was attempted, and if that is nothing up to five: then it returns none. What was attempted while nobody
// called it is missed, not kept.
func (t *Tail) Next(ctx context.Context) (TailLines, error) {
	timer := time.NewTimer(tailTick)
	defer timer.Stop()
	for waited := time.Duration(0); ; waited += tailTick {
		timer.Reset(tailTick)
		select {
		case <-ctx.Done():
			return TailLines{}, ctx.Err()
		case <-timer.C:
		}
		readings, newest, missed, err := t.service.tails.after(ctx, t.service.Store, t.number)
		if err != nil {
			return TailLines{}, err
		}
		t.number = newest
		if lines := t.choose(readings); len(lines.Items) > 0 || missed || waited >= tailQuiet {
			lines.Missed = missed
			return lines, nil
		}
	}
}

// choose returns of the readings what the filter chooses.
func (t *Tail) choose(readings [][]state.Attempt) TailLines {
	lines := TailLines{Items: []state.Attempt{}}
	for _, rows := range slices.Backward(readings) {
		for i := range rows {
			switch {
			case !t.matches(&rows[i]):
			case len(lines.Items) == MaxTailLines:
				lines.More++
			default:
				a := rows[i]
				t.shown(a.Endpoint, a.Class, &a.Error, new(string))
				lines.Items = append(lines.Items, a)
			}
		}
	}
	return lines
}

func (t *Tail) matches(a *state.Attempt) bool {
	f := &t.filter
	return (f.Endpoint == "" || a.Endpoint == f.Endpoint) && (f.Tenant == nil || a.Tenant == *f.Tenant) && (f.Outcome == "" || a.Outcome == f.Outcome) &&
		(t.events == nil || len(t.events.Match(a.Event, nil)) > 0)
}
